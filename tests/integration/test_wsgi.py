"""`service.process.wsgi:app` under a WSGI server that knows nothing of streams."""

from __future__ import annotations

from pathlib import Path

from headway.contract.states import State
from tests.support.fake_worker import claim, create, log, stored
from tests.support.sse import Reader, seen
from tests.support.stack import Stack
from tests.support.wait import until

SERVE = """
import socketserver, wsgiref.simple_server
from service.process.wsgi import app

class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True

started = "headway.started" in app.extensions
print("started by its import" if started else "nothing started yet", flush=True)
wsgiref.simple_server.make_server("127.0.0.1", {port}, app, Server).serve_forever()
"""


def test_a_plain_wsgi_server_serves_streams_and_its_first_request_starts_the_engine(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        stack.start("plain", "-c", SERVE.format(port=stack.port))
        until(lambda: "yet" in stack.log("plain"))
        job_id = create(stack.store)
        held = claim(stack.store, job_id)

        def answered() -> Reader | None:
            try:
                return Reader(stack.url, f"/jobs/{job_id}/events", "0")
            except ConnectionError:
                return None  # it does not listen yet

        reader = until(answered)
        with reader:
            assert reader.headers["content-type"] == "text/event-stream"
            got = reader.take(2)
            # Only what the first request starts counts open streams.
            until(lambda: stack.metric("headway_streams_open") == 1, 30)
            stack.store.append(held, 1, [log(1)])
            got += reader.take(1)
            stack.store.end(held, State.SUCCEEDED)
            got += reader.until_end()
        assert seen(got) == stored(stack.store, job_id)
        assert "started by" not in stack.log("plain")
