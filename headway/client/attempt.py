"""Attempts: jobs that this program does, and reports on over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

from headway.client.driving import run
from headway.client.errors import Invalid
from headway.client.job import Artifact, Job
from headway.client.transport import CHUNK, Transport, path


class AsyncAttempt:
    """The right to do a job until its lease runs out, which each report renews. `AsyncClient.begin` and
    `AsyncClient.claim` return one.

    Every call may raise Conflict: the lease ran out, another attempt runs, or the job has ended; then stop.
    Tasks may share an attempt.
    """

    def __init__(self, transport: Transport, job: Job, lease_s: float, checkpoint: Any, trace: str) -> None:
        """`transport` is one with the attempt's token."""
        self.job = job
        """As it was when the attempt began."""
        self.lease_s = lease_s
        """The next report is due within so many seconds."""
        self.checkpoint = checkpoint
        """What an earlier attempt left, or None."""
        self.traceparent = trace
        """The span that this attempt's are children of (W3C Trace Context); empty if there is none."""
        self.cancel_requested = False
        """Whether the last answer said that the job is to stop."""
        self.messages: list[dict[str, Any]] = []
        """What was sent to the job and is not read yet, as of the last answer: `{id, at, name, data}`."""
        self._transport = transport
        self._sending = transport.lock()
        self._batch = 0
        self._unsent: list[dict[str, Any]] = []

    async def report(self, *events: Mapping[str, Any]) -> bool:
        """Send events, in order: `{"type": "progress", "current": 3, "total": 10}`, `{"type": "log",
        "message": "…"}`, `{"type": "checkpoint", "value": …}`; without any only renew the lease. Then
        `messages` are those sent to it, until `{"type": "read", "id": …}` says that they are done with.

        Returns whether the job is to stop. What could not be sent goes before the events of the next call;
        what the service refuses (Invalid) or is no JSON (TypeError, ValueError) does not.
        """
        # In one order, from one place: a batch that comes after a later one would count as sent before.
        async with self._sending:
            if events:
                self._batch += 1
                self._unsent.append({"batch": self._batch, "events": list(events)})
            for body in self._unsent[:] or [{"batch": max(1, self._batch)}]:
                try:
                    answer = await self._transport.json("POST", self._path("reports"), body)
                except (Invalid, TypeError, ValueError):
                    # Nor will it be taken the next time, and nothing after it would be.
                    del self._unsent[0]
                    raise
                self.cancel_requested = bool(answer["cancel_requested"])
                self.messages = answer["messages"]
                if self._unsent:
                    del self._unsent[0]
        return self.cancel_requested

    async def artifact(self, file: Path | str, name: str | None = None) -> Artifact:
        """Publish a file, under its own name by default. Raises OSError."""
        file = Path(file)
        off_loop = self._transport.off_loop
        size = (await off_loop(file.stat)).st_size

        async def body() -> AsyncGenerator[bytes, None]:
            with await off_loop(lambda: file.open("rb")) as source:
                while chunk := await off_loop(lambda: source.read(CHUNK)):
                    yield chunk

        where = self._path("artifacts", name or file.name)
        headers = {"Content-Length": str(size)}
        made: Artifact = await self._transport.json("PUT", where, body=body, headers=headers)
        return made

    async def succeed(self, result: Any = None) -> Job:
        """End the job as succeeded. Returns it."""
        return await self._end({"state": "succeeded", "result": result})

    async def fail(self, message: str, *, code: str = "error") -> Job:
        """End the job as failed; as canceled, if its cancellation was requested. Returns it."""
        return await self._end({"state": "failed", "error": {"code": code, "message": message}})

    async def retry(self, message: str, *, delay_s: float | None = None) -> Job:
        """Give this attempt up. Another follows after the delay, if there is one left. Returns the job."""
        body: dict[str, Any] = {"state": "retry", "error": {"message": message}}
        return await self._end(body if delay_s is None else {**body, "delay_s": delay_s})

    async def _end(self, body: Mapping[str, Any]) -> Job:
        ended: Job = await self._transport.json("POST", self._path("end"), body)
        return ended

    def _path(self, *parts: str) -> str:
        return path("jobs", self.job["id"], *parts)


class Attempt:
    """An AsyncAttempt whose calls wait for their end. `Client.begin` and `Client.claim` return one.

    Every call may raise Conflict: the lease ran out, another attempt runs, or the job has ended; then stop.
    Threads may share an attempt.
    """

    def __init__(self, attempt: AsyncAttempt) -> None:
        self._attempt = attempt
        self.job = attempt.job
        """As it was when the attempt began."""
        self.lease_s = attempt.lease_s
        """The next report is due within so many seconds."""
        self.checkpoint = attempt.checkpoint
        """What an earlier attempt left, or None."""
        self.traceparent = attempt.traceparent
        """The span that this attempt's are children of (W3C Trace Context); empty if there is none."""

    @property
    def cancel_requested(self) -> bool:
        """Whether the last answer said that the job is to stop."""
        return self._attempt.cancel_requested

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was sent to the job and is not read yet, as of the last answer: `{id, at, name, data}`."""
        return self._attempt.messages

    def report(self, *events: Mapping[str, Any]) -> bool:
        """As AsyncAttempt.report."""
        return run(self._attempt.report(*events))

    def artifact(self, file: Path | str, name: str | None = None) -> Artifact:
        """Publish a file, under its own name by default. Raises OSError."""
        return run(self._attempt.artifact(file, name))

    def succeed(self, result: Any = None) -> Job:
        """End the job as succeeded. Returns it."""
        return run(self._attempt.succeed(result))

    def fail(self, message: str, *, code: str = "error") -> Job:
        """End the job as failed; as canceled, if its cancellation was requested. Returns it."""
        return run(self._attempt.fail(message, code=code))

    def retry(self, message: str, *, delay_s: float | None = None) -> Job:
        """Give this attempt up. Another follows after the delay, if there is one left. Returns the job."""
        return run(self._attempt.retry(message, delay_s=delay_s))
