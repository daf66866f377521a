"""GET /openapi.json and /docs: the document is built from the declarations beside the views."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, current_app, send_from_directory
from flask_swagger_ui import __file__ as swagger_ui
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from headway.contract.encoding import dumps
from headway.version import __version__
from service.api.auth.roles import ANY, ATTEMPT, PUBLIC, READ_OR_WORK, ROUTES, TICKET_ROUTES
from service.api.names import Name
from service.api.operation import JSON, Answer, Operation
from service.api.problems import MEDIA_TYPE, ProblemDocument
from service.streaming.sse import CONTENT_TYPE as EVENT_STREAM

bp = Blueprint("openapi", __name__)

_PAGE = Path(__file__).parent / "docs"
_SWAGGER_UI = Path(swagger_ui).parent / "dist"
_REF = "#/components/schemas/{model}"
_PATH_PARAMETERS = {
    "job_id": "the job's `id`",
    "upload_id": "the upload's `id`",
    "webhook_name": "the webhook's name: up to 64 letters, digits, `-` and `_`; of a host's `host:port`",
    "type_name": "the type's name: letters, digits, `.`, `_` and `-`",
    "worker": "the worker's `name` in GET /workers; over HTTP, the one that it claims with",
    "queue": "the queue's name",
    "name": "the file's name; it may contain slashes",
    "group": "the group's name; it may contain slashes",
}
_PATH_SCHEMAS = {"group": TypeAdapter(Name).json_schema()}
_GATE = {
    403: "the request comes from a web page of another origin",
    421: "the Host is no name of this service",
}
_NOT_PUBLIC = {
    401: "the credential is missing, unknown, expired or revoked",
    403: "the credential does not have the role, or the request comes from a web page of another origin",
}
_SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "an API key, a JWT, a ticket, or the token of an attempt",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-headway",
        "description": "set by POST /session",
    },
    "ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "made by POST /tickets"},
}
_OTHER_NEEDS = {
    ATTEMPT: "the token of the job's running attempt, also with AUTH=none.",
    READ_OR_WORK: "the role `read` or `work`.",
}
_BINARY = {"type": "string", "format": "binary"}

Schema = dict[str, Any]


class _Schemas(GenerateJsonSchema):
    """Schemas without what misleads code generators: a title for each field, which would name a type
    after it, and defaults of null, which would make the field required in TypeScript."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False

    def default_schema(self, schema: Any) -> Any:
        found = super().default_schema(schema)
        if found.get("default", "") is None:
            del found["default"]
        return found


@bp.get("/openapi.json")
def openapi_json() -> Response:
    extensions = current_app.extensions
    if "openapi" not in extensions:
        extensions["openapi"] = dumps(document(current_app))
    return Response(extensions["openapi"], mimetype=JSON)


@bp.get("/docs")
def docs() -> Response:
    response = send_from_directory(_PAGE, "index.html")
    # Swagger UI writes styles and HTML of its own making.
    response.headers["Content-Security-Policy"] = (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    return response


@bp.get("/docs/<path:name>")
def docs_file(name: str) -> Response:
    return send_from_directory(_PAGE if name == "start.js" else _SWAGGER_UI, name)


def document(app: Flask) -> Schema:
    """The OpenAPI 3.1 document of everything in the app's URL map that is an Operation."""
    routes = [
        (
            re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule),
            operation,
            f"{operation.method} {rule.rule}",
        )
        for rule in app.url_map.iter_rules()
        if isinstance(operation := app.view_functions[rule.endpoint], Operation)
    ]
    models = {model for _, operation, _ in routes for model in _models(operation)}
    _, definitions = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template=_REF,
        schema_generator=_Schemas,
    )
    schemas: dict[str, Schema] = definitions["$defs"]
    paths: dict[str, Schema] = {}
    # Paths that differ only in the name of a parameter are one [OpenAPI 3.1, "Path Templating Matching"].
    templates: dict[str, str] = {}
    for rule, operation, route in routes:
        path = templates.setdefault(re.sub(r"{\w+}", "{}", rule), rule)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(path, operation, schemas, route)
    for _, operation, _ in routes:  # their fields are parameters now
        for taken in (operation.query, operation.headers):
            if taken is not None:
                schemas.pop(taken.__name__, None)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headway",
            "version": __version__,
            "description": "Shows people, truthfully and at once, how far their long-running jobs are.",
        },
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _SECURITY_SCHEMES},
    }


def _models(operation: Operation) -> Iterator[type[BaseModel]]:
    yield ProblemDocument
    yield from (model for model in (operation.query, operation.headers, operation.body) if model)
    for answer in operation.answers.values():
        yield from (s for s in answer.content.values() if isinstance(s, type))


def _operation(path: str, operation: Operation, schemas: Mapping[str, Schema], route: str) -> Schema:
    summary, _, description = (operation.view.__doc__ or "").partition("\n")
    found: Schema = {
        "operationId": operation.view.__name__,
        "tags": [operation.tag],
        "summary": summary.rstrip("."),
    }
    if description.strip():
        found["description"] = " ".join(description.split())
    role = ROUTES[route]
    is_public = role == PUBLIC
    if not is_public:
        needs = f"Requires {_OTHER_NEEDS.get(role, f'the role `{role}`.')}" if role != ANY else ""
        found["description"] = " ".join([*found.get("description", "").split(), needs]).strip()
        tickets: list[Schema] = [{"ticket": []}] if route in TICKET_ROUTES else []
        anybody: list[Schema] = [] if role == ATTEMPT else [{"session": []}, *tickets, {}]
        found["security"] = [{"bearer": []}, *anybody]
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name],
            "schema": _PATH_SCHEMAS.get(name, {"type": "string"}),
        }
        for name in re.findall(r"{(\w+)}", path)
    ]
    for model, place in ((operation.query, "query"), (operation.headers, "header")):
        if model is not None:
            parameters += _parameters(schemas[model.__name__], place)
    if parameters:
        found["parameters"] = parameters
    if operation.body is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": _reference(operation.body)}}}
    elif operation.upload:
        found["requestBody"] = {
            "required": True,
            "content": {"application/octet-stream": {"schema": _BINARY}},
        }
    found["responses"] = {
        **{str(status): _answer(answer) for status, answer in operation.answers.items()},
        **{
            str(status): {
                "description": why,
                "content": {MEDIA_TYPE: {"schema": _reference(ProblemDocument)}},
            }
            for status, why in sorted(
                {**_GATE, **({} if is_public else _NOT_PUBLIC), **operation.all_problems}.items()
            )
        },
    }
    return found


def _parameters(schema: Schema, place: str) -> Iterator[Schema]:
    """The fields of a model as parameters. One that is not given is absent, never null."""
    for name, of in schema["properties"].items():
        of = {key: value for key, value in of.items() if (key, value) != ("default", "")}
        description = of.pop("description", "")
        branches = [branch for branch in of.pop("anyOf", []) if branch != {"type": "null"}]
        if len(branches) == 1:
            of.update(branches[0])
        elif branches:
            of["anyOf"] = branches
        yield {
            "name": name,
            "in": place,
            "required": name in schema.get("required", ()),
            **({"description": description} if description else {}),
            "schema": of,
        }


def _answer(answer: Answer) -> Schema:
    found: Schema = {"description": answer.description}
    if answer.headers:
        found["headers"] = {
            name: {"description": what, "schema": {"type": "string"}}
            for name, what in answer.headers.items()
        }
    if answer.content:
        found["content"] = {
            media_type: _content(media_type, schema) for media_type, schema in answer.content.items()
        }
    return found


def _content(media_type: str, of: type[BaseModel] | Mapping[str, Any]) -> Schema:
    schema = _reference(of) if isinstance(of, type) else dict(of)
    if media_type == EVENT_STREAM:
        # OpenAPI 3.2 has `itemSchema` for this.
        return {"schema": {"type": "string"}, "x-itemSchema": schema}
    return {"schema": schema}


def _reference(model: type[BaseModel]) -> Schema:
    return {"$ref": _REF.format(model=model.__name__)}
