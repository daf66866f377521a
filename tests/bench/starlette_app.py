"""The peer sse-starlette: one queue per reader, as its documentation has it. Run by uvicorn, not by us."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

readers: defaultdict[str, set[asyncio.Queue[ServerSentEvent]]] = defaultdict(set)
counter = 0


async def publish(request: Request) -> Response:
    global counter
    counter += 1
    data = (await request.body()).decode()
    event = ServerSentEvent(data, event=request.headers["X-EventSource-Event"], id=f"{counter}-0", sep="\n")
    for queue in readers[request.path_params["job"]]:
        queue.put_nowait(event)
    return Response(status_code=202)


async def events(request: Request) -> Response:
    job = request.path_params["job"]

    async def read() -> AsyncIterator[ServerSentEvent]:
        queue: asyncio.Queue[ServerSentEvent] = asyncio.Queue()
        readers[job].add(queue)
        try:
            yield ServerSentEvent(comment="ok", sep="\n")
            while True:
                yield await queue.get()
        finally:
            readers[job].discard(queue)

    response: Response = EventSourceResponse(read(), ping=15)
    return response


app = Starlette(
    routes=[Route("/publish/{job}", publish, methods=["POST"]), Route("/events/{job}", events)],
)
