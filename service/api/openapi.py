"""The OpenAPI document: what APIFlask derives from the views, and what it leaves out or gets wrong."""

from __future__ import annotations

from typing import Any

from apiflask import APIFlask

from service.api.problems import MEDIA_TYPE
from service.streaming.sse import CONTENT_TYPE

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
_REF = {"schema": {"$ref": "#/components/schemas/Problem"}}


def describe(app: APIFlask) -> None:
    """Configure the document at /openapi.json and the page at /docs, which fetches only from here."""
    app.config.update(
        OPENAPI_VERSION="3.1.0",
        DESCRIPTION="Shows people, truthfully and at once, how far their long-running jobs are.",
        VALIDATION_ERROR_STATUS_CODE=422,
        AUTO_404_RESPONSE=True,
        SWAGGER_UI_CSS="/docs/swagger-ui.css",
        SWAGGER_UI_BUNDLE_JS="/docs/swagger-ui-bundle.js",
        SWAGGER_UI_STANDALONE_PRESET_JS="/docs/swagger-ui-standalone-preset.js",
        DOCS_FAVICON="/docs/favicon-32x32.png",
    )

    @app.spec_processor
    def _complete(spec: Any) -> Any:
        spec["openapi"] = "3.1.0"
        schemas = spec.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = _PROBLEM
        for path in spec["paths"].values():
            for operation in path.values():
                if not isinstance(operation, dict):
                    continue
                if "requestBody" in operation:
                    operation["requestBody"]["required"] = True
                for status, response in operation.get("responses", {}).items():
                    if status.startswith(("4", "5")):
                        response["content"] = {MEDIA_TYPE: _REF}
        binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        for path_name in ("/uploads", "/uploads/{name}"):
            for operation in spec["paths"][path_name].values():
                if isinstance(operation, dict):
                    operation["requestBody"] = {"required": True, "content": binary}
        for path_name in ("/jobs/{job_id}/events", "/events"):
            response = spec["paths"][path_name]["get"]["responses"]["200"]
            response["content"] = {CONTENT_TYPE: {"schema": {"type": "string"}}}
        _add_parameters(spec)
        return spec


def _add_parameters(spec: dict[str, Any]) -> None:
    cursor = [
        _parameter("Last-Event-ID", "header", "the last id seen: go on behind it; `0`: all that is kept"),
        _parameter("last_event_id", "query", "the same for those who cannot send the header"),
        _parameter("heartbeat", "query", "`comment` (default), or `event`: one that scripts can see"),
    ]
    extra = {
        ("/jobs/{job_id}/events", "get"): [
            *cursor,
            _parameter("after", "query", "JSON only: the cursor"),
            _parameter("limit", "query", "JSON only: events at most (100)"),
            _parameter("wait", "query", "JSON only: seconds to wait for an event (0)"),
        ],
        ("/events", "get"): [
            *cursor,
            _parameter("job", "query", "a job; may be given many times", many=True),
            _parameter("group", "query", "all jobs of a group"),
        ],
        ("/jobs", "post"): [
            _parameter("Idempotency-Key", "header", "the same key and body give the same job"),
        ],
        ("/jobs/{job_id}/retry", "post"): [
            _parameter("Idempotency-Key", "header", "the same key for the same job gives the same new job"),
        ],
        ("/uploads", "post"): [_parameter("name", "query", "the file's name")],
        ("/jobs/{job_id}/artifacts/{name}", "get"): [
            _parameter("play", "query", "show it in place, not as an attachment"),
        ],
    }
    for (path, method), parameters in extra.items():
        spec["paths"][path][method].setdefault("parameters", []).extend(parameters)


def _parameter(name: str, where: str, description: str, *, many: bool = False) -> dict[str, Any]:
    text = {"type": "string"}
    schema = {"type": "array", "items": text} if many else text
    return {"name": name, "in": where, "required": False, "description": description, "schema": schema}
