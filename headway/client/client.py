"""Client: submits, watches and fetches jobs."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from headway.client.attempt import Attempt
from headway.client.blocking import BlockingTransport
from headway.client.calls import Calls, address, as_list, credential
from headway.client.driving import each, run
from headway.client.errors import ClientError
from headway.client.watch import Watch

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    call: Callable[Concatenate[Calls, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    """Return the call as a method that waits for its end."""

    @functools.wraps(call)
    def method(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(call(client._calls, *args, **kwargs))

    return method


def _iterating(
    call: Callable[Concatenate[Calls, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Client, P], Generator[T, None, None]]:
    """Return the call as a method that returns a plain generator."""

    @functools.wraps(call)
    def method(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return each(call(client._calls, *args, **kwargs))

    return method


class Client:
    """A Headway at `url`; by default at HEADWAY_URL, else at http://127.0.0.1:8000.

    `token` is an API key or another bearer credential, or a function that returns one, which is asked again
    after a 401; by default that of HEADWAY_TOKEN, if there is one.

    Every call may raise a ClientError: Unreachable, Problem (NotFound, Invalid, Conflict, Unavailable) or
    BadAnswer. A request whose answer is lost is repeated for up to 20 s, if it is idempotent. Threads may
    share a client. `Calls` says what each call does.
    """

    def __init__(self, url: str | None = None, *, token: str | Callable[[], str] | None = None) -> None:
        self._transport = BlockingTransport(address(url), credential(token))
        self._calls = Calls(self._transport)
        self.url = self._calls.url

    submit = _blocking(Calls.submit)
    submit_many = _iterating(Calls.submit_many)
    upload = _blocking(Calls.upload)
    job = _blocking(Calls.job)
    list = _iterating(Calls.list)
    counts = _blocking(Calls.counts)
    find = _iterating(Calls.find)
    declare = _blocking(Calls.declare)
    workers = _blocking(Calls.workers)
    drain = _blocking(Calls.drain)
    pause = _blocking(Calls.pause)
    resume = _blocking(Calls.resume)
    types = _blocking(Calls.types)
    ticket = _blocking(Calls.ticket)
    cancel = _blocking(Calls.cancel)
    retry = _blocking(Calls.retry)
    many = _blocking(Calls.many)
    send = _blocking(Calls.send)
    group = _blocking(Calls.group)
    put_group = _blocking(Calls.put_group)
    cancel_group = _blocking(Calls.cancel_group)
    retry_group = _blocking(Calls.retry_group)
    webhooks = _blocking(Calls.webhooks)
    webhook = _blocking(Calls.webhook)
    put_webhook = _blocking(Calls.put_webhook)
    delete_webhook = _blocking(Calls.delete_webhook)
    rotate_webhook = _blocking(Calls.rotate_webhook)
    deliveries = _blocking(Calls.deliveries)
    redeliver = _blocking(Calls.redeliver)
    events = _iterating(Calls.events)
    wait = _blocking(Calls.wait)
    logs = _iterating(Calls.logs)
    download = _blocking(Calls.download)

    def watch(
        self,
        jobs: str | Iterable[str] = (),
        *,
        group: str | None = None,
        cursor: str | None = None,
        timeout_s: float | None = None,
        give_up_s: float | None = None,
        lost: Callable[[ClientError], object] | None = None,
    ) -> Watch:
        """Watch one job, several, a group, or (the default) all jobs; see Watch."""
        ids = [jobs] if isinstance(jobs, str) else as_list(jobs)
        return Watch(
            self._transport,
            ids,
            group=group,
            cursor=cursor,
            timeout_s=timeout_s,
            give_up_s=give_up_s,
            lost=lost,
        )

    def begin(
        self,
        type: str,
        params: Mapping[str, Any] | None = None,
        *,
        lease_s: float = 60,
        group: str | None = None,
        labels: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Attempt:
        """Begin a job that this program does itself. Its type need not be known.

        The job fails as lost when nothing is reported for `lease_s` seconds, or this program is killed.
        """
        return Attempt(
            run(
                self._calls.begin(
                    type, params, lease_s=lease_s, group=group, labels=labels, timeout_s=timeout_s
                )
            )
        )

    def claim(
        self, types: Iterable[str], *, worker: str | None = None, wait_s: float = 20
    ) -> Attempt | None:
        """Take the next job of one of these types, waiting up to `wait_s` seconds (60 at most) for one.

        `worker` is the name of this program, by default the host's and its pid. Returns None if none came.
        """
        attempt = run(self._calls.claim(types, worker=worker, wait_s=wait_s))
        return None if attempt is None else Attempt(attempt)
