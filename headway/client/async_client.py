"""AsyncClient: the client for programs that run an event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headway.client.calls import Calls, address, as_list, credential
from headway.client.errors import ClientError
from headway.client.httpx_transport import HttpxTransport
from headway.client.transport import Token
from headway.client.watch import AsyncWatch


class AsyncClient(Calls):
    """A Headway at `url`; by default at HEADWAY_URL, else at http://127.0.0.1:8000.

    `token` is an API key or another bearer credential, or a function that returns one (also a coroutine
    function), which is asked again after a 401; by default that of HEADWAY_TOKEN, if there is one.

    Its calls are those of Client, as coroutines and asynchronous generators. Tasks may share a client. It
    holds no connection between them, so there is nothing to close.
    """

    def __init__(self, url: str | None = None, *, token: Token | None = None) -> None:
        super().__init__(HttpxTransport(address(url), credential(token)))

    def watch(
        self,
        jobs: str | Iterable[str] = (),
        *,
        group: str | None = None,
        cursor: str | None = None,
        timeout_s: float | None = None,
        give_up_s: float | None = None,
        lost: Callable[[ClientError], object] | None = None,
    ) -> AsyncWatch:
        """Watch one job, several, a group, or (the default) all jobs; see AsyncWatch."""
        return AsyncWatch(
            self._transport,
            [jobs] if isinstance(jobs, str) else as_list(jobs),
            group=group,
            cursor=cursor,
            timeout_s=timeout_s,
            give_up_s=give_up_s,
            lost=lost,
        )
