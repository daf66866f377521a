"""A request as bytes, for what no HTTP client would send."""

from __future__ import annotations

import contextlib
import socket

from tests.support.stack import Stack


def exchange(web: Stack, request: bytes, timeout: float = 60) -> tuple[int, dict[str, str], bytes]:
    """Status, headers with lower-case names, and body of the first answer to these bytes; of an answer
    without a length, the body is what came with its head."""
    with socket.create_connection(("127.0.0.1", web.port), timeout=timeout) as sock:
        with contextlib.suppress(ConnectionError):  # it may hang up in the middle
            sock.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer and (piece := sock.recv(65536)):
            answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        while len(body) < int(headers.get("content-length", 0)) and (piece := sock.recv(65536)):
            body += piece
    return int(status.split()[1]), headers, body
