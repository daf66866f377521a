"""Attempt: a job that this program does, and reports on over HTTP."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

from headway.client.blocking import BlockingTransport
from headway.client.driving import run
from headway.client.job import Artifact, Job
from headway.client.transport import CHUNK, path


class Attempt:
    """The right to do a job until its lease runs out, which each report renews. `Client.begin` and
    `Client.claim` return one.

    Every call may raise Conflict: the lease ran out, another attempt runs, or the job has ended; then stop.
    Threads may share an attempt.
    """

    def __init__(self, url: str, job: Job, token: str, lease_s: float, checkpoint: Any = None) -> None:
        self.job = job
        """As it was when the attempt began."""
        self.lease_s = lease_s
        """The next report is due within so many seconds."""
        self.checkpoint = checkpoint
        """What an earlier attempt left, or None."""
        self.cancel_requested = False
        """Whether the last answer said that the job is to stop."""
        self.messages: list[dict[str, Any]] = []
        """What was sent to the job and is not read yet, as of the last answer: `{id, at, name, data}`."""
        self._transport = BlockingTransport(url, token)
        self._sending = threading.Lock()
        self._batch = 0
        self._unsent: list[dict[str, Any]] = []

    def report(self, *events: Mapping[str, Any]) -> bool:
        """Send events, in order: `{"type": "progress", "current": 3, "total": 10}`, `{"type": "log",
        "message": "…"}`, `{"type": "checkpoint", "value": …}`; without any only renew the lease. Then
        `messages` are those sent to it, until `{"type": "read", "id": …}` says that they are done with.

        Returns whether the job is to stop. What could not be sent goes before the events of the next call.
        """
        # In one order, from one place: a batch that comes after a later one would count as sent before.
        with self._sending:
            if events:
                self._batch += 1
                self._unsent.append({"batch": self._batch, "events": list(events)})
            for body in self._unsent[:] or [{"batch": max(1, self._batch)}]:
                answer = run(self._transport.json("POST", path("jobs", self.job["id"], "reports"), body))
                self.cancel_requested = bool(answer["cancel_requested"])
                self.messages = answer["messages"]
                if self._unsent:
                    del self._unsent[0]
        return self.cancel_requested

    def artifact(self, file: Path | str, name: str | None = None) -> Artifact:
        """Publish a file, under its own name by default. Raises OSError."""
        file = Path(file)
        size = file.stat().st_size

        async def body() -> AsyncGenerator[bytes, None]:
            with file.open("rb") as source:
                while chunk := source.read(CHUNK):
                    yield chunk

        where = path("jobs", self.job["id"], "artifacts", name or file.name)
        headers = {"Content-Length": str(size)}
        made: Artifact = run(self._transport.json("PUT", where, body=body, headers=headers))
        return made

    def succeed(self, result: Any = None) -> Job:
        """End the job as succeeded. Returns it."""
        return self._end({"state": "succeeded", "result": result})

    def fail(self, message: str, *, code: str = "error") -> Job:
        """End the job as failed; as canceled, if its cancellation was requested. Returns it."""
        return self._end({"state": "failed", "error": {"code": code, "message": message}})

    def retry(self, message: str, *, delay_s: float | None = None) -> Job:
        """Give this attempt up. Another follows after the delay, if there is one left. Returns the job."""
        body: dict[str, Any] = {"state": "retry", "error": {"message": message}}
        return self._end(body if delay_s is None else {**body, "delay_s": delay_s})

    def _end(self, body: Mapping[str, Any]) -> Job:
        ended: Job = run(self._transport.json("POST", path("jobs", self.job["id"], "end"), body))
        return ended
