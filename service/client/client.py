"""What a script does with a Headway."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from service.client.download import Progress, below, download
from service.client.job import Event, Job, JobType, Upload, is_live, order
from service.client.server import CHUNK, Server
from service.client.watch import Watch

DEFAULT_URL = "http://127.0.0.1:8000"
PAGE = 100


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
        headers = {"Idempotency-Key": key or secrets.token_hex(16)}
        job: Job = self._server.json("POST", "/jobs", body, headers=headers)
        return job

    def upload(self, path: Path | str, *, name: str | None = None, progress: Progress = _nobody) -> Upload:
        """Send a file, under its own name by default: `upload:<id>` is then the input of a job.

        Raises OSError if the file cannot be read.
        """
        path = Path(path)
        total = path.stat().st_size

        def body() -> Iterator[bytes]:
            done = 0
            with path.open("rb") as file:
                # No more than was promised, should it grow meanwhile.
                while chunk := file.read(min(CHUNK, total - done)):
                    yield chunk
                    done += len(chunk)
                    progress(done, total)

        headers = {"Content-Length": str(total), "Content-Type": "application/octet-stream"}
        where = f"/uploads?{urlencode({'name': name or path.name})}"
        sent: Upload = self._server.json("POST", where, body=body, headers=headers)
        return sent

    def job(self, job_id: str) -> Job:
        """The document of a job, as it is now."""
        found: Job = self._server.json("GET", _path(job_id))
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
            page = self._server.json("GET", f"/jobs?{urlencode(asked | size | more)}")
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
        job: Job = self._server.json("POST", _path(job_id, "cancel"))
        return job

    def retry(self, job_id: str) -> Job:
        """A new job like one that has ended. Raises Conflict while that is live. Not repeated when the
        answer is lost: there may be a new job then, or none."""
        job: Job = self._server.json("POST", _path(job_id, "retry"), repeat=False)
        return job

    def watch(
        self,
        jobs: str | Iterable[str] = (),
        *,
        group: str | None = None,
        cursor: str | None = None,
        timeout_s: float | None = None,
        give_up_s: float | None = None,
    ) -> Watch:
        """The events of a job, of several, of a group, or (the default) of all; see Watch."""
        ids = [jobs] if isinstance(jobs, str) else _list(jobs)
        return Watch(
            self._server, ids, group=group, cursor=cursor, timeout_s=timeout_s, give_up_s=give_up_s
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
        job = self.job(job_id)
        if order(cursor) >= order(job["last_event_id"]) and not (follow and is_live(job)):
            return
        with self.watch(job_id, cursor=cursor) as watch:
            for event in watch:
                if event.event == "log":
                    yield event
                if not follow and order(event.id) >= order(job["last_event_id"]):
                    return

    def download(
        self, job: str | Job, name: str, to: Path | str = ".", *, progress: Progress = _nobody
    ) -> Path:
        """Fetch an artifact, or a file beside one, below the directory `to`; where it is then.

        An earlier download that broke off is continued. Raises DownloadFailed, OSError.
        """
        job = self.job(job) if isinstance(job, str) else job
        sizes = {artifact["name"]: artifact["size"] for artifact in job["artifacts"]}
        target = below(Path(to), name)
        path = _path(job["id"], "artifacts", *name.split("/"))
        download(self._server, path, target, sizes.get(name), progress)
        return target


def _list(jobs: Iterable[str]) -> list[str]:
    """Outside of the class, where `list` is the type."""
    return list(jobs)


def _path(job_id: str, *more: str) -> str:
    return "/".join(["/jobs", *(quote(part, safe="") for part in (job_id, *more))])
