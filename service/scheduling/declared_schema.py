"""Which JSON Schemas a type that was declared over HTTP may have.

Anybody with the role `work` may declare one, and this process validates parameters against it, so its
keywords are those whose cost grows with the product of the two sizes. Left out are regular expressions,
references (which multiply, or call themselves) and `uniqueItems`.
"""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from headway.contract.encoding import pointer

MAX_SCHEMA_BYTES = 16_384
MAX_DEPTH = 64

_PLAIN = {
    "$schema", "$comment", "type", "title", "description", "default", "examples", "deprecated", "readOnly",
    "writeOnly", "enum", "const", "format", "required", "multipleOf", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems",
    "minProperties", "maxProperties",
}  # fmt: skip
_OF_A_SCHEMA = {"items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else"}
_OF_SCHEMAS = {"allOf", "anyOf", "oneOf", "prefixItems"}
KEYWORDS = _PLAIN | _OF_A_SCHEMA | _OF_SCHEMAS | {"properties"}


def faults(schema: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is wrong with a schema, each with a pointer into the body `{"params": schema}`."""
    found = _unknown(schema, ["params"])
    if found:
        return found
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return [(pointer("params", *error.absolute_path), error.message)]
    kind = schema.get("type", "object")
    if "object" not in ([kind] if isinstance(kind, str) else kind):
        return [("/params/type", "no job could be submitted: parameters are an object")]
    return []


def _unknown(schema: Any, path: list[str | int]) -> list[tuple[str, str]]:
    if len(path) > MAX_DEPTH:
        return [(pointer(*path), "the schema is nested too deeply")]
    if not isinstance(schema, dict):
        return []
    found: list[tuple[str, str]] = []
    for keyword, value in schema.items():
        here = [*path, keyword]
        if keyword in _OF_A_SCHEMA:
            found += _unknown(value, here)
        elif keyword in _OF_SCHEMAS and isinstance(value, list):
            for place, part in enumerate(value):
                found += _unknown(part, [*here, place])
        elif keyword == "properties" and isinstance(value, dict):
            for name, part in value.items():
                found += _unknown(part, [*here, name])
        elif keyword not in KEYWORDS and not keyword.startswith("x-"):
            found.append((pointer(*here), "this keyword is not taken here; the worker can check it"))
    return found
