"""Lets schemathesis call event streams, which do not end: it gets what comes first, and hangs up."""

from __future__ import annotations

from typing import Any

import requests

_send = requests.Session.send


def _send_and_read_a_little(self: Any, request: Any, **kwargs: Any) -> Any:
    response = _send(self, request, **{**kwargs, "stream": True})
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        response._content = response.raw.read1()
        response.close()
    return response


requests.Session.send = _send_and_read_a_little  # type: ignore[method-assign]
