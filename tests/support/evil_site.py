"""A web server with a page that attacks a service in the same browser, under any name and by any way.

`/evil/page` attacks the service at its own address. `/evil/sandboxed` does so from a frame whose origin is
`null`. What is not below `/evil/` is passed on to the service byte by byte: so it is when a name that led
to this server leads to the service a moment later (DNS rebinding), and `/evil/rebound` makes use of that.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

ATTACKS = Path(__file__).parents[1] / "e2e" / "evil_page" / "attacks.js"
PAGE = """<!doctype html>
<meta charset="utf-8" />
<title>Nothing to see here</title>
<body><script type="module">
  import {attack} from "/evil/attacks.js";
  const found = await attack({...%s, ...(%s ? {service: location.origin, probes: []} : {})});
  (parent === window ? window : parent).postMessage({found}, "*");
</script>
<script>addEventListener("message", ({data}) => data.found && (window.found = data.found));</script>
"""
SANDBOXED = """<!doctype html>
<title>Nothing to see here</title>
<body><script>addEventListener("message", ({data}) => data.found && (window.found = data.found));</script>
<iframe
  src="/evil/page"
  sandbox="allow-scripts allow-forms allow-popups allow-popups-to-escape-sandbox"
></iframe>
"""


class EvilSite:
    """Listens on loopback until `close`. `aim` says what its pages know of the service."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._aim: dict[str, Any] = {}
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._listener.close()

    def aim(self, **known: Any) -> None:
        """`service` is the origin to attack, `job` an id that lives, `ended` one with files, `upload` a
        file's, `probes` paths besides that must tell nothing, and `patience_ms` the time that
        one attack may take."""
        self._aim = known

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock:
                sock.settimeout(60)
                head = b""
                while b"\r\n\r\n" not in head and (piece := sock.recv(65536)):
                    head += piece
                found = re.match(rb"GET /evil/(\S*) ", head)
                if found:
                    sock.sendall(self._answer(found[1].decode()))
                elif head:
                    self._splice(sock, head)
        except OSError:
            pass  # somebody has hung up

    def _answer(self, name: str) -> bytes:
        kind = "text/html"
        if name == "attacks.js":
            kind, text = "text/javascript", ATTACKS.read_text("utf-8")
        elif name == "sandboxed":
            text = SANDBOXED
        else:
            text = PAGE % (json.dumps(self._aim), json.dumps(name == "rebound"))
        body = text.encode()
        # Each picture on the page violates the policy, and the browser reports that to a path of choice.
        report = f"{self._aim['service']}/jobs/{self._aim['job']}/cancel"
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
            f"Content-Security-Policy-Report-Only: img-src 'none'; report-uri {report}\r\n"
            # A frame whose origin is null asks for the script as another origin.
            "Access-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body

    def _splice(self, client: socket.socket, begun: bytes) -> None:
        where = urlsplit(self._aim["service"])
        with socket.create_connection((where.hostname, where.port), 60) as service:
            service.sendall(begun)
            threading.Thread(target=_pump, args=(service, client), daemon=True).start()
            _pump(client, service)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while piece := source.recv(65536):
            sink.sendall(piece)
    except OSError:
        pass
    finally:
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
