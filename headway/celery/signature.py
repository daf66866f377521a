"""TaskSignature: a task's arguments by name, as a job's parameters, and back."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from inspect import Parameter
from typing import Any

from pydantic import TypeAdapter


class TaskSignature:
    """How a task is called. A function whose signature cannot be read takes `args` and `kwargs`."""

    def __init__(self, run: Any) -> None:
        try:
            self._signature: inspect.Signature | None = _signature_of(run)
        except (TypeError, ValueError):
            self._signature = None

    def to_params(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments by their names; as `args` and `kwargs`, if they do not fit."""
        if self._signature is None:
            return _unnamed(args, kwargs)
        try:
            bound = self._signature.bind(*args, **kwargs).arguments
        except TypeError:
            return _unnamed(args, kwargs)
        known = self._signature.parameters
        for name, parameter in known.items():
            if parameter.kind is Parameter.VAR_KEYWORD and name in bound:
                more = bound.pop(name)
                if not known.keys().isdisjoint(more):
                    return _unnamed(args, kwargs)
                bound.update(more)
        return _unnamed(args, kwargs) if self._is_unnamed(bound) else dict(bound)

    def to_call(self, params: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and the keyword arguments that `to_params` made these of."""
        if self._is_unnamed(params):
            return list(params["args"]), dict(params["kwargs"])
        known = {} if self._signature is None else self._signature.parameters
        kwargs = dict(params)
        args: list[Any] = []
        spread = any(
            parameter.kind is Parameter.VAR_POSITIONAL and kwargs.get(name)
            for name, parameter in known.items()
        )
        for name, parameter in known.items():
            if name not in kwargs:
                continue
            if parameter.kind is Parameter.VAR_POSITIONAL:
                args += kwargs.pop(name)
            elif parameter.kind is Parameter.POSITIONAL_ONLY or (
                spread and parameter.kind is Parameter.POSITIONAL_OR_KEYWORD
            ):
                args.append(kwargs.pop(name))
        return args, kwargs

    def _is_unnamed(self, params: Mapping[str, Any]) -> bool:
        """Whether parameters are `args` and `kwargs`, and not those of a function that calls two so."""
        if params.keys() != {"args", "kwargs"}:
            return False
        known = {} if self._signature is None else self._signature.parameters
        return (
            isinstance(params["args"], list | tuple)
            and isinstance(params["kwargs"], Mapping)
            and not all(
                name in known and known[name].kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
                for name in params
            )
        )

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the parameters."""
        if self._signature is None:
            return {
                "type": "object",
                "properties": {"args": {"type": "array"}, "kwargs": {"type": "object"}},
                "required": ["args", "kwargs"],
                "additionalProperties": False,
            }
        properties: dict[str, Any] = {}
        required = []
        definitions: dict[str, Any] = {}
        open_ended = False
        for name, parameter in self._signature.parameters.items():
            if parameter.kind is Parameter.VAR_KEYWORD:
                open_ended = True
                continue
            schema = _schema_of(parameter.annotation, definitions)
            if parameter.kind is Parameter.VAR_POSITIONAL:
                schema = {"type": "array", "items": schema}
            elif parameter.default is Parameter.empty:
                required.append(name)
            elif parameter.default is None or isinstance(parameter.default, bool | int | float | str):
                if parameter.default is None and schema:
                    schema = {"anyOf": [schema, {"type": "null"}]}
                schema = {**schema, "default": parameter.default}
            properties[name] = {"title": name.replace("_", " ").strip().capitalize(), **schema}
        found = {"type": "object", "properties": properties, "additionalProperties": open_ended}
        if required:
            found["required"] = required
        if definitions:
            found["$defs"] = definitions
        return found


def _signature_of(run: Any) -> inspect.Signature:
    try:
        return inspect.signature(run, eval_str=True)
    except NameError:  # an annotation that is imported for type checkers only
        return inspect.signature(run)


def _schema_of(annotation: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if annotation is Parameter.empty or isinstance(annotation, str):
        return {}
    try:
        schema = TypeAdapter(annotation).json_schema(ref_template="#/$defs/{model}")
    except Exception:  # noqa: BLE001 - any class may stand there, and pydantic may know nothing of it
        return {}
    definitions.update(schema.pop("$defs", {}))
    return schema


def _unnamed(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {"args": list(args), "kwargs": dict(kwargs)}
