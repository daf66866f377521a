"""What a script does with a Headway."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlencode

from headway.client.download import Progress, below, download
from headway.client.errors import ClientError
from headway.client.job import Event, Job, JobType, Upload, is_event_id
from headway.client.playlist import named
from headway.client.transport import CHUNK, Server, path
from headway.client.watch import Watch

DEFAULT_URL = "http://127.0.0.1:8000"
PAGE = 100
"""Jobs asked for at once."""
EVENTS_PAGE = 1000


def _nobody(_: int, __: int) -> None:
    """Where nobody wants to know how far it is."""


class Client:
    """A Headway at a URL: the one given, else HEADWAY_URL, else that of `make run`.

    Every call raises a ClientError: Unreachable, Problem (NotFound, Invalid, Conflict, Unavailable) or
    BadAnswer. What is harmless to repeat is, for some seconds, when an answer was lost. It may be used by
    several threads.
    """

    def __init__(self, url: str | None = None) -> None:
        self._server = Server(url or os.environ.get("HEADWAY_URL", "").strip() or DEFAULT_URL)
        self.url = self._server.url

    def submit(
        self,
        type: str,
        params: Mapping[str, Any] | None = None,
        *,
        group: str | None = None,
        labels: Mapping[str, str] | None = None,
        max_attempts: int | None = None,
        timeout_s: float | None = None,
        key: str | None = None,
    ) -> Job:
        """A new job. `key`: the Idempotency-Key, one of its own by default; who wants to repeat a
        submission over the end of the process gives the same one again, and gets the same job."""
        more = {"group": group, "labels": labels, "max_attempts": max_attempts, "timeout_s": timeout_s}
        body: dict[str, Any] = {"type": type, "params": dict(params or {})}
        body |= {name: value for name, value in more.items() if value is not None}
        job: Job = self._server.json("POST", "/jobs", body, headers=_once(key))
        return job

    def upload(self, file: Path | str, *, name: str | None = None, progress: Progress = _nobody) -> Upload:
        """Send a file, under its own name by default: `upload:<id>` is then the input of a job. Where it
        is too large that is found out at once, and Invalid is raised (413).

        Raises OSError if the file cannot be opened; ClientError if it is none (a pipe, a directory) or
        becomes shorter meanwhile.
        """
        file = Path(file)
        with file.open("rb") as source:
            found = os.fstat(source.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ClientError(f"{file} is no regular file: its size is not known")
            total = found.st_size

            def body() -> Iterator[bytes]:
                source.seek(0)
                done = 0
                # No more than was promised, should it grow meanwhile.
                while done < total:
                    chunk = _read(source, min(CHUNK, total - done))
                    if not chunk:
                        raise ClientError(f"{file} became shorter while it was sent")
                    yield chunk
                    done += len(chunk)
                    progress(done, total)

            headers = {"Content-Length": str(total), "Content-Type": "application/octet-stream"}
            where = f"/uploads?{urlencode({'name': name or file.name}, errors='replace')}"
            sent: Upload = self._server.json("POST", where, body=body, headers=headers)
            return sent

    def job(self, job_id: str) -> Job:
        """The document of a job, as it is now."""
        found: Job = self._server.json("GET", path("jobs", job_id))
        return found

    def list(
        self,
        *,
        state: str | None = None,
        type: str | None = None,
        group: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Jobs, newest first; all there are, page by page, without a `limit`."""
        query = {"state": state, "type": type, "group": group}
        asked = {name: value for name, value in query.items() if value is not None}
        left = limit
        cursor: str | None = None
        while left is None or left > 0:
            size = {"limit": str(PAGE if left is None else min(left, PAGE))}
            more = {"cursor": cursor} if cursor else {}
            query_text = urlencode(asked | size | more, errors="replace")
            page = self._server.json("GET", f"/jobs?{query_text}")
            yield from page["items"]
            left = None if left is None else left - len(page["items"])
            cursor = page["next"]
            if cursor is None:
                return

    def types(self) -> Iterable[JobType]:
        """The job types that workers have registered."""
        found: Iterable[JobType] = self._server.json("GET", "/types")["items"]
        return found

    def cancel(self, job_id: str) -> Job:
        """Ask for its end; it may still end otherwise. A job that has ended stays as it is."""
        job: Job = self._server.json("POST", path("jobs", job_id, "cancel"))
        return job

    def retry(self, job_id: str, *, key: str | None = None) -> Job:
        """A new job like one that has ended. Raises Conflict while that is live. `key` as for `submit`."""
        job: Job = self._server.json("POST", path("jobs", job_id, "retry"), headers=_once(key))
        return job

    def events(self, job_id: str, *, cursor: str = "0") -> Iterator[Event]:
        """Those events of a job that are kept, after the cursor; it does not wait for more. A `reset` says
        that the cursor cannot be continued from."""
        if cursor != "0" and not is_event_id(cursor):
            raise ClientError(f"{cursor!r} is no cursor: give the id of an event, or 0")
        headers = {"Accept": "application/json"}
        while True:
            query = urlencode({"after": cursor, "limit": EVENTS_PAGE})
            where = f"{path('jobs', job_id, 'events')}?{query}"
            page = self._server.json("GET", where, headers=headers)
            if page["reset"]:
                yield Event(page["cursor"], "reset", page["reset"])
            for event in page["events"]:
                yield Event(event["id"], event["event"], event["data"])
            if len(page["events"]) < EVENTS_PAGE:
                return
            cursor = page["cursor"]

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
        """The events of a job, of several, of a group, or (the default) of all; see Watch."""
        ids = [jobs] if isinstance(jobs, str) else _list(jobs)
        return Watch(
            self._server,
            ids,
            group=group,
            cursor=cursor,
            timeout_s=timeout_s,
            give_up_s=give_up_s,
            lost=lost,
        )

    def wait(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """The job when it has ended, however that was. Raises WaitTimeout."""
        with self.watch(job_id, timeout_s=timeout_s) as watch:
            for event in watch:
                if event.event == "end":
                    ended: Job = event.data
                    return ended
        return self.job(job_id)

    def logs(self, job_id: str, *, follow: bool = False, cursor: str = "0") -> Generator[Event, None, None]:
        """Its log lines: those that are kept, after the cursor; with `follow` also those to come."""
        if not follow:
            yield from (event for event in self.events(job_id, cursor=cursor) if event.event == "log")
            return
        with self.watch(job_id, cursor=cursor) as watch:
            yield from (event for event in watch if event.event == "log")

    def download(
        self, job: str | Job, name: str, to: Path | str = ".", *, progress: Progress = _nobody
    ) -> Path:
        """Fetch an artifact, or a file beside one, below the directory `to`; where it is then. With a
        playlist comes what it names, so that it can be played.

        An earlier download that broke off is continued. Raises DownloadFailed, OSError.
        """
        job = self.job(job) if isinstance(job, str) else job
        sizes = {artifact["name"]: artifact["size"] for artifact in job["artifacts"]}
        todo, fetched = [name], set[str]()
        while todo:
            one = todo.pop(0)
            if one in fetched:
                continue
            target = below(Path(to), one)
            where = path("jobs", job["id"], "artifacts", *one.split("/"))
            download(self._server, where, target, sizes.get(one), progress)
            fetched.add(one)
            if one.endswith(".m3u8"):
                beside = PurePosixPath(one).parent
                todo += [str(beside / uri) for uri in named(target.read_text("utf-8", "replace"))]
        return below(Path(to), name)


def _list(jobs: Iterable[str]) -> list[str]:
    """Outside of the class, where `list` is the type."""
    return list(jobs)


def _once(key: str | None) -> dict[str, str]:
    """The header by which a request that is repeated makes one job."""
    if key is not None and not (key.isascii() and key.isprintable() and 1 <= len(key) <= 255):
        raise ClientError(f"{key!r} is no Idempotency-Key: those are 1 to 255 printable ASCII characters")
    return {"Idempotency-Key": key or secrets.token_hex(16)}


def _read(source: BinaryIO, size: int) -> bytes:
    """In the middle of a request an OSError would be taken for the connection's."""
    try:
        return source.read(size)
    except OSError as error:
        raise ClientError(f"{source.name}: {error.strerror or error}") from None
