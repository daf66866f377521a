"""Calls: what a client asks of the service, written once for Client and AsyncClient."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import stat
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal
from urllib.parse import urlencode

from headway.client.attempt import AsyncAttempt
from headway.client.download import Progress, download, safe_join
from headway.client.errors import ClientError
from headway.client.job import (
    Delivery,
    Event,
    Group,
    Job,
    JobType,
    Ticket,
    Upload,
    Webhook,
    WebhookSecret,
    is_event_id,
)
from headway.client.listing import find, newest
from headway.client.playlist import playlist_uris
from headway.client.trace_context import trace_context
from headway.client.transport import ANSWER_S, Token, Transport, path
from headway.client.upload import upload
from headway.client.watch import AsyncWatch

DEFAULT_URL = "http://127.0.0.1:8000"
BATCH = 1000
"""Jobs per request."""
BATCH_BYTES = 2_000_000
"""Most bytes of them: the service takes 2 MiB in all."""
EVENTS_PAGE = 1000
"""Events per request."""
_OF_ATTEMPT = ("token", "lease_s", "traceparent")
"""What the answer to `begin` has beside the job."""


def _nobody(_: int, __: int) -> None:
    """A progress callback that does nothing."""


class Calls:
    """Every call may raise a ClientError: Unreachable, Problem (NotFound, Invalid, Conflict, Unavailable)
    or BadAnswer. A request whose answer is lost is repeated for up to 20 s, if it is idempotent."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.url = transport.url

    async def submit(
        self,
        type: str,
        params: Mapping[str, Any] | None = None,
        *,
        group: str | None = None,
        labels: Mapping[str, str] | None = None,
        max_attempts: int | None = None,
        timeout_s: float | None = None,
        webhook: Mapping[str, Any] | None = None,
        size: float | None = None,
        priority: int | None = None,
        run_at: datetime | str | None = None,
        expires_s: float | None = None,
        unique: str | Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> Job:
        """Submit a job. Returns its document.

        `size` is how large it is beside the other jobs of its group; 1 by default.
        `priority` is 0 to 9: which of your jobs is next, 9 before 0; 4 by default.
        `run_at` is when it may begin at the earliest: an aware datetime, or RFC 3339. After `expires_s`
        seconds in the queue it fails instead.
        `unique` is a key that one live job has (or `{"key": …, "while": "queued"}`): a job that has it
        already is returned instead.
        `webhook` is `{"url": …, "events": […]}`: where the service sends the job's end, or those events.

        `key` is the Idempotency-Key, random by default: pass the same key again, even from another process,
        to get the same job.
        """
        more = {
            **{"group": group, "labels": labels, "max_attempts": max_attempts},
            **{"timeout_s": timeout_s, "size": size, "webhook": webhook, "priority": priority},
            **{"run_at": moment(run_at), "expires_s": expires_s},
            "unique": {"key": unique} if isinstance(unique, str) else unique,
        }
        body: dict[str, Any] = {"type": type, "params": dict(params or {})}
        body |= {name: value for name, value in more.items() if value is not None}
        job: Job = await self._transport.json("POST", "/jobs", body, headers=submitting(key))
        return job

    async def submit_many(
        self, jobs: Iterable[Mapping[str, Any]], *, key: str | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Submit many jobs, up to 1,000 and 2 MB per request. Yields `{"id": …, "created": …, "links": …}`
        for each, in their order; `created` is false for one whose unique key another job has.

        Each is what `submit` sends: `{"type": …, "params": …, "group": …}` and so on. The jobs of one
        request are all made, or, if Invalid or another error is raised, none of them; those of the requests
        before it are. With the same `key` nothing is made twice.
        """
        key = key or secrets.token_hex(16)
        for number, batch in enumerate(_batches(jobs)):
            headers = submitting(f"{key}.{number}")
            made = await self._transport.json("POST", "/jobs:batch", {"jobs": batch}, headers=headers)
            for item in made["items"]:
                yield item

    async def upload(
        self, file: Path | str, *, name: str | None = None, progress: Progress = _nobody
    ) -> Upload:
        """Upload a file, under its own name by default. The input of a job is then `upload:<id>`.

        What breaks off goes on where it was, also at another web process of the service.

        Raises Invalid (413) early if the file is too large, OSError if it cannot be read, ClientError if it
        is a directory or a pipe, or becomes shorter meanwhile.
        """
        file = Path(file)
        off_loop = self._transport.off_loop
        source, total = await off_loop(lambda: _opened(file))
        with source:
            sent: Upload = await upload(self._transport, source, total, name or file.name, progress)
            return sent

    async def job(self, job_id: str) -> Job:
        """Return the document of a job, as it is now."""
        found: Job = await self._transport.json("GET", path("jobs", job_id))
        return found

    async def list(
        self,
        *,
        state: str | None = None,
        type: str | None = None,
        group: str | None = None,
        labels: Mapping[str, str] | None = None,
        older_s: float | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[Job, None]:
        """Yield jobs, newest first, up to `limit`; all there are without one. With `older_s` only those
        that were made at least so many seconds ago."""
        said = (labels or {}).items()
        wanted = [re.sub(r"[\\:]", r"\\\g<0>", name) + f":{value}" for name, value in said]
        filters = {"state": state, "type": type, "group": group, "label": wanted, "older_s": older_s}
        async for job in newest(self._transport, limit=limit, **filters):
            yield job

    async def counts(self) -> dict[str, Any]:
        """Return how many jobs are in which state: `{"states": {…}, "types": {type: {…}}}`."""
        found: dict[str, Any] = await self._transport.json("GET", "/jobs:counts")
        return found

    async def find(self, jobs: Iterable[str]) -> AsyncGenerator[Job, None]:
        """Yield the documents of several jobs, in any order and in few requests. Raises NotFound if one is
        unknown."""
        async for job in find(self._transport, jobs):
            yield job

    async def declare(
        self,
        type: str,
        *,
        title: str | None = None,
        params: Mapping[str, Any] | None = None,
        lease_s: float | None = None,
        max_attempts: int | None = None,
    ) -> JobType:
        """Declare a job type that this owner's programs claim. `params` is the JSON Schema of its
        parameters. It is forgotten a day after it was last declared or claimed."""
        more = {"title": title, "params": params, "lease_s": lease_s, "max_attempts": max_attempts}
        body = {name: value for name, value in more.items() if value is not None}
        declared: JobType = await self._transport.json("PUT", path("types", type), body)
        return declared

    async def begin(
        self,
        type: str,
        params: Mapping[str, Any] | None = None,
        *,
        lease_s: float = 60,
        group: str | None = None,
        labels: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> AsyncAttempt:
        """Begin a job that this program does itself. Its type need not be known.

        The job fails as lost when nothing is reported for `lease_s` seconds, or this program is killed.
        """
        more = {"lease_s": lease_s, "group": group, "labels": labels, "timeout_s": timeout_s}
        body: dict[str, Any] = {"type": type, "params": dict(params or {}), "run": "here"}
        body |= {name: value for name, value in more.items() if value is not None}
        job = await self._transport.json("POST", "/jobs", body, headers=submitting(None))
        return self._attempt({"job": job, **{name: job.pop(name, None) for name in _OF_ATTEMPT}})

    async def claim(
        self, types: Iterable[str], *, worker: str | None = None, wait_s: float = 20
    ) -> AsyncAttempt | None:
        """Take the next job of one of these types, waiting up to `wait_s` seconds (60 at most) for one.

        `worker` is the name of this program, by default the host's and its pid. Returns None if none came.
        """
        body = {"types": as_list(types), "worker": worker or _own_name(), "wait": wait_s}
        claimed = await self._transport.json("POST", "/claims", body, timeout_s=wait_s + ANSWER_S)
        return None if claimed is None else self._attempt(claimed)

    def _attempt(self, begun: Mapping[str, Any]) -> AsyncAttempt:
        transport = type(self._transport)(self.url, begun["token"])
        trace = begun.get("traceparent") or ""
        return AsyncAttempt(transport, begun["job"], begun["lease_s"], begun.get("checkpoint"), trace)

    async def workers(self) -> dict[str, Any]:
        """Return `{"items": the living workers, "queues": …, "paused": …}`. Requires the role `ops`."""
        found: dict[str, Any] = await self._transport.json("GET", "/workers")
        return found

    async def drain(self, worker: str) -> Iterable[dict[str, str]]:
        """Let a worker, as `workers` names it, take no more jobs; what it is doing goes on. Returns all
        that is paused now. Requires the role `ops`."""
        return await self._pause("workers", worker, "drain")

    async def pause(self, *, queue: str | None = None, type: str | None = None) -> Iterable[dict[str, str]]:
        """Let no job of a queue, or of a type, be taken until it is resumed. Returns all that is paused
        now. Requires the role `ops`."""
        return await self._pause(*_one_of(queue, type), "pause")

    async def resume(
        self, *, queue: str | None = None, type: str | None = None, worker: str | None = None
    ) -> Iterable[dict[str, str]]:
        """Let jobs of a queue or a type be taken again, or by a worker. Returns what is paused still.
        Requires the role `ops`. Raises NotFound if it was not paused."""
        return await self._pause(*_one_of(queue, type, worker), "resume")

    async def _pause(self, kind: str, name: str, verb: str) -> Iterable[dict[str, str]]:
        answer = await self._transport.json("POST", path(kind, name, verb))
        found: Iterable[dict[str, str]] = answer["paused"]
        return found

    async def types(self) -> Iterable[JobType]:
        """Return the job types that workers have registered."""
        found: Iterable[JobType] = (await self._transport.json("GET", "/types"))["items"]
        return found

    async def ticket(
        self,
        jobs: Iterable[str] = (),
        *,
        group: str | None = None,
        artifacts: bool = False,
        ttl_s: int = 900,
    ) -> Ticket:
        """Make a ticket for reading these jobs, a group, or (the default) all jobs: what a browser's
        EventSource, a <video> or a link can carry. With `artifacts` it opens their files too."""
        body: dict[str, Any] = {"artifacts": artifacts, "ttl_s": ttl_s}
        ids = as_list(jobs)
        body |= {"jobs": ids} if ids else {"feed": True} if group is None else {"group": group}
        made: Ticket = await self._transport.json("POST", "/tickets", body)
        return made

    async def cancel(self, job_id: str) -> Job:
        """Request cancellation. Returns the job, which may still end otherwise, or has ended already."""
        job: Job = await self._transport.json("POST", path("jobs", job_id, "cancel"))
        return job

    async def retry(self, job_id: str, *, key: str | None = None) -> Job:
        """Submit an ended job again and return the new one. Raises Conflict for a live job."""
        job: Job = await self._transport.json(
            "POST", path("jobs", job_id, "retry"), headers=submitting(key)
        )
        return job

    async def many(
        self,
        action: Literal["cancel", "retry", "delete"],
        *,
        state: str | None = None,
        type: str | None = None,
        group: str | None = None,
        labels: Mapping[str, str] | None = None,
        older_s: float | None = None,
        dry_run: bool = False,
        key: str | None = None,
    ) -> Job:
        """Cancel, retry or delete all jobs that match. Returns the job that does it; its result says how
        many there were. With `dry_run` they are only counted."""
        given = {"state": state, "type": type, "group": group, "labels": labels or None, "older_s": older_s}
        body: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        body |= {"dry_run": True} if dry_run else {}
        job: Job = await self._transport.json("POST", f"/jobs:{action}", body, headers=idempotency(key))
        return job

    async def send(self, job_id: str, name: str, data: Any = None, *, key: str | None = None) -> Event:
        """Send a message to a job: any JSON up to 64 KiB. Returns the event that it became.

        The same `key` (Idempotency-Key) sends it once. Raises Conflict if the job has ended.
        """
        body = {"name": name, "data": data}
        where = path("jobs", job_id, "messages")
        sent = await self._transport.json("POST", where, body, headers=idempotency(key))
        return Event(sent["id"], sent["event"], sent["data"])

    async def group(self, name: str) -> Group:
        """Return the document of a group, as it is now."""
        found: Group = await self._transport.json("GET", path("groups", name))
        return found

    async def put_group(self, name: str, *, expected: int | None = None, title: str | None = None) -> Group:
        """Say how many jobs a group will have (it ends when so many have ended), and what it is called."""
        made: Group = await self._transport.json(
            "PUT", path("groups", name), {"expected": expected, "title": title}
        )
        return made

    async def cancel_group(self, name: str) -> Group:
        """Request cancellation of all live jobs of a group."""
        found: Group = await self._transport.json("POST", path("groups", name, "cancel"))
        return found

    async def retry_group(self, name: str) -> Group:
        """Submit all failed and canceled jobs of a group again; each new job takes the old one's place."""
        found: Group = await self._transport.json("POST", path("groups", name, "retry"))
        return found

    async def webhooks(self) -> Sequence[Webhook]:
        """Return the owner's webhooks, by name."""
        found: Sequence[Webhook] = (await self._transport.json("GET", "/webhooks"))["items"]
        return found

    async def webhook(self, name: str) -> Webhook:
        """Return one webhook, without its secret."""
        found: Webhook = await self._transport.json("GET", path("webhooks", name))
        return found

    async def put_webhook(self, name: str, url: str, events: Iterable[str] | None = None) -> Webhook:
        """Make or change a webhook: it is told of these events (by default `end`) of all the owner's jobs
        submitted from now on. Only a new one has its `secret`, which is not shown again."""
        body: dict[str, Any] = {"url": url}
        body |= {} if events is None else {"events": as_list(events)}
        made: Webhook = await self._transport.json("PUT", path("webhooks", name), body)
        return made

    async def delete_webhook(self, name: str) -> None:
        """Remove a webhook; what waits to be delivered to it is dropped."""
        await self._transport.json("DELETE", path("webhooks", name))

    async def rotate_webhook(self, name: str) -> WebhookSecret:
        """Make a new secret; the one before signs beside it for a day. For the `host:port` of a
        submission's webhook, this may come before the submission. Not repeated if its answer is lost: a
        second one would end the secret that receivers still have."""
        where = path("webhooks", name, "secret")
        made: WebhookSecret = await self._transport.json("POST", where, repeat=False)
        return made

    async def deliveries(self, name: str) -> Sequence[Delivery]:
        """Return the last 100 tries to deliver to a webhook, newest first."""
        found = await self._transport.json("GET", path("webhooks", name, "deliveries"))
        tries: Sequence[Delivery] = found["items"]
        return tries

    async def redeliver(self, name: str, delivery_id: str) -> None:
        """Deliver an event of the log once more. Raises NotFound if its job is not kept any more, Conflict
        if the webhook is disabled."""
        await self._transport.json("POST", path("webhooks", name, "redeliver"), {"id": delivery_id})

    async def events(self, job_id: str, *, cursor: str = "0") -> AsyncGenerator[Event, None]:
        """Yield the stored events of a job after `cursor`, without waiting for more. A `reset` says that
        the stream cannot be resumed from the cursor."""
        if cursor != "0" and not is_event_id(cursor):
            raise ClientError(f"{cursor!r} is not a cursor: use an event id, or 0")
        headers = {"Accept": "application/json"}
        while True:
            query = urlencode({"after": cursor, "limit": EVENTS_PAGE})
            where = f"{path('jobs', job_id, 'events')}?{query}"
            page = await self._transport.json("GET", where, headers=headers)
            if page["reset"]:
                yield Event(page["cursor"], "reset", page["reset"])
            for event in page["events"]:
                yield Event(event["id"], event["event"], event["data"])
            if len(page["events"]) < EVENTS_PAGE:
                return
            cursor = page["cursor"]

    async def wait(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """Return the job once it has ended, with whatever outcome. Raises WaitTimeout."""
        async with AsyncWatch(self._transport, [job_id], timeout_s=timeout_s) as watch:
            async for event in watch:
                if event.event == "end":
                    ended: Job = event.data
                    return ended
        return await self.job(job_id)

    async def logs(
        self, job_id: str, *, follow: bool = False, cursor: str = "0"
    ) -> AsyncGenerator[Event, None]:
        """Yield the stored log lines after `cursor`; with `follow` also later ones, until the job ends."""
        if not follow:
            async for event in self.events(job_id, cursor=cursor):
                if event.event == "log":
                    yield event
            return
        async with AsyncWatch(self._transport, [job_id], cursor=cursor) as watch:
            async for event in watch:
                if event.event == "log":
                    yield event

    async def download(
        self, job: str | Job, name: str, to: Path | str = ".", *, progress: Progress = _nobody
    ) -> Path:
        """Download an artifact, or a file beside one, into the directory `to`. Returns its path there.

        A playlist brings the files that it names, so that it can be played. An interrupted download is
        continued. Raises DownloadFailed, OSError.
        """
        job = await self.job(job) if isinstance(job, str) else job
        sizes = {artifact["name"]: artifact["size"] for artifact in job["artifacts"]}
        todo, fetched = [name], set[str]()
        while todo:
            one = todo.pop(0)
            if one in fetched:
                continue
            target = safe_join(Path(to), one)
            where = path("jobs", job["id"], "artifacts", *one.split("/"))
            await download(self._transport, where, target, sizes.get(one), progress)
            fetched.add(one)
            if one.endswith(".m3u8"):
                beside = PurePosixPath(one).parent
                todo += [str(beside / uri) for uri in playlist_uris(target.read_text("utf-8", "replace"))]
        return safe_join(Path(to), name)


def address(url: str | None) -> str:
    """Return where the service is: `url`, else HEADWAY_URL, else the default."""
    return url or os.environ.get("HEADWAY_URL", "").strip() or DEFAULT_URL


def credential(token: Token | None) -> Token:
    """Return `token`, else HEADWAY_TOKEN, else nothing."""
    return token or os.environ.get("HEADWAY_TOKEN", "").strip()


def moment(at: datetime | str | None) -> str | None:
    """Return a time as the service takes it. Raises ClientError for a datetime without a time zone."""
    if not isinstance(at, datetime):
        return at
    if at.tzinfo is None:
        raise ClientError(f"{at} has no time zone: use datetime.now(UTC), for one")
    return at.isoformat()


def _one_of(queue: str | None, type: str | None, worker: str | None = None) -> tuple[str, str]:
    given = [("queues", queue), ("types", type), ("workers", worker)]
    found = [(kind, name) for kind, name in given if name]
    if len(found) != 1:
        raise ClientError("name one queue, type or worker")
    return found[0]


def as_list(jobs: Iterable[str]) -> list[str]:
    """Return a list of the jobs. In the class `list` is a method."""
    return list(jobs)


def idempotency(key: str | None) -> dict[str, str]:
    """Return the header that makes a repeated request create one job. Raises ClientError for a bad key."""
    if key is not None and not (key.isascii() and key.isprintable() and 1 <= len(key) <= 255):
        raise ClientError(f"{key!r} is not an Idempotency-Key: use 1 to 255 printable ASCII characters")
    return {"Idempotency-Key": key or secrets.token_hex(16)}


def submitting(key: str | None) -> dict[str, str]:
    """Return the headers of a request that makes jobs: they are in the trace of the current span."""
    return {**idempotency(key), **trace_context()}


def _batches(jobs: Iterable[Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the jobs in portions that one request may have."""
    batch: list[dict[str, Any]] = []
    size = 0
    for job in map(dict, jobs):
        length = len(json.dumps(job)) + len(", ")
        if batch and (len(batch) == BATCH or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(job)
        size += length
    if batch:
        yield batch


def _own_name() -> str:
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()).lstrip(".-") or "host"
    return f"{host[:100]}:{os.getpid()}"


def _opened(file: Path) -> tuple[BinaryIO, int]:
    """Return the open file and its size. Raises ClientError for what is no regular file, OSError."""
    # Before it is opened: to open a pipe would wait for its other end.
    if not stat.S_ISREG(file.stat().st_mode):
        kind = "a directory" if file.is_dir() else "not a regular file"
        raise ClientError(f"cannot upload {file}: it is {kind}")
    source = file.open("rb")
    return source, os.fstat(source.fileno()).st_size
