"""Lets schemathesis call event streams, which do not end: it gets what comes first, and hangs up.

Request lines stay below the server's limit, which no operation documents.
"""

from __future__ import annotations

import ast
import threading
from typing import Any
from urllib.parse import urlencode

import requests
import schemathesis

MAX_QUERY = 30_000

_send = requests.Session.send
_parse = ast.parse
_parsing = threading.Lock()


def _parse_alone(*args: Any, **kwargs: Any) -> Any:
    # In Python 3.11 two threads that parse at once spoil each other's count of the depth (gh-106905), and
    # Hypothesis parses the source of each lambda.
    with _parsing:
        return _parse(*args, **kwargs)


ast.parse = _parse_alone


def _send_and_read_a_little(self: Any, request: Any, **kwargs: Any) -> Any:
    response = _send(self, request, **{**kwargs, "stream": True})
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        response._content = response.raw.read1()
        response.close()
    return response


requests.Session.send = _send_and_read_a_little  # type: ignore[method-assign]


@schemathesis.hook
def filter_query(_: Any, query: Any) -> bool:
    return len(urlencode(query or {}, doseq=True)) < MAX_QUERY
