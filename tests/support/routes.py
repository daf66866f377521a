"""Every operation of the API, and what a credential gets of it."""

from __future__ import annotations

import json
from typing import Any

from service.api.auth.roles import PUBLIC, ROUTES
from tests.support.sse import Reader
from tests.support.stack import Stack


def requests(job_id: str, upload_id: str = "x" * 22) -> list[tuple[str, str, Any]]:
    """Every operation that is not public: its route, a path, and a body that would do."""
    bodies = {
        "POST /jobs": {"type": "t"},
        "POST /jobs/<job_id>/messages": {"name": "n"},
        "POST /uploads": b"x",
        "PUT /uploads/<filename:name>": b"x",
        "PUT /types/<type_name>": {},
        "POST /claims": {"types": ["x"], "worker": "w"},
        "PUT /webhooks/<webhook_name>": {"url": "https://hooks.example/"},
        "POST /webhooks/<webhook_name>/redeliver": {"id": "x"},
    }
    return [
        (
            route,
            route.partition(" ")[2]
            .replace("<job_id>", job_id)
            .replace("<upload_id>", upload_id)
            .replace("<path:group>", "g")
            .replace("<group:group>", "g")
            .replace("<path:name>", "video.mp4")
            .replace("<filename:name>", "x")
            .replace("<type_name>", "x")
            .replace("<webhook_name>", "x"),
            bodies.get(route),
        )
        for route, role in ROUTES.items()
        if role != PUBLIC
    ]


def refusal(web: Stack, method: str, path: str, body: Any, headers: dict[str, str]) -> int:
    """The status, or 0 for a stream that opens."""
    with_body = json.dumps(body).encode() if isinstance(body, dict) else body or b""
    more = {"Content-Type": "application/json", "Content-Length": str(len(with_body))}
    if method == "GET":
        with Reader(web.url, path, timeout=10, **{"Authorization": "", **headers}) as reader:
            return reader.status
    return web.call(method, path, with_body, {**more, **headers})[0]
