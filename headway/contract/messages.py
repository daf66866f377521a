"""Messages: what people and programs send to a running job, and what its task sends to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from headway.contract.database import Database
from headway.contract.encoding import RecordError, dumps
from headway.contract.records import MAX_LABEL_CHARS, MAX_MESSAGE_BYTES, is_name

RATE = 20.0
"""Messages per second that a job takes, in the long run."""
BURST = 100
"""The same, at once."""
MAX_UNREAD = 1_000
"""Messages that wait until the job's task has read them."""
ONCE_S = 600.0
"""How long an idempotency key of a message is remembered."""

PAGE = 100
"""Messages read at once."""

Sender = Literal["task", "client"]


class JobEnded(Exception):
    """The job has ended, so nothing reads a message any more."""


class MessageConflict(Exception):
    """The idempotency key belongs to another message."""


class TooManyMessages(Exception):
    """The job takes no more messages now; the exception's text says why.

    `retry_after_s` is when to try again.
    """

    def __init__(self, why: str, retry_after_s: float) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was sent to a job. `id` is its event's, `at` is RFC 3339 in UTC."""

    id: str
    at: str
    name: str
    data: Any


@dataclass(frozen=True, slots=True)
class Sent:
    """The event that a message became. `is_new` is false if an idempotency key had sent it before."""

    id: str
    data: Mapping[str, Any]
    is_new: bool


def message_body(sender: Sender, name: str, data: Any) -> str:
    """Return what a message's event says of its own.

    Raises RecordError for data that is not JSON or takes more than MAX_MESSAGE_BYTES, and for what is
    no name (records.is_name).
    """
    if not is_name(name):
        raise RecordError(
            f"a message's name has 1 to {MAX_LABEL_CHARS} characters and no control characters"
        )
    text = dumps(data, MAX_MESSAGE_BYTES, "the message's data")
    return f'{{"from":"{sender}","name":{dumps(name)},"data":{text}}}'


class Messages:
    """Every method raises redis.RedisError when the store cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def send(
        self, job_id: str, name: str, data: Any, *, once: tuple[str, str] | None = None
    ) -> Sent | None:
        """Send a message to a job that has not ended. Returns None if there is no such job.

        `once` is an idempotency key and a hash of the request: the same key sends nothing within ONCE_S.
        Raises JobEnded, MessageConflict, TooManyMessages, and RecordError as `message_body`.
        """
        body = message_body("client", name, data)
        ref = self._db.ref(job_id)
        if ref is None:
            return None
        key, request_hash = once or ("", "")
        outcome, *rest = self._db.change(
            "message",
            ref,
            *(request_hash, round(ONCE_S * 1000), body, RATE, BURST, MAX_UNREAD),
            keys=[self._db.keys.beside(job_id).once(ref.owner, key)] if once else [],
        )
        if outcome == b"gone":
            return None
        if outcome == b"ended":
            raise JobEnded(job_id)
        if outcome == b"conflict":
            raise MessageConflict(key)
        if outcome == b"too_fast":
            raise TooManyMessages(f"the job takes {RATE:g} messages per second", rest[0] / 1000)
        if outcome == b"full":
            raise TooManyMessages(f"the job has not read the last {MAX_UNREAD} messages", 1.0)
        return Sent(rest[0].decode(), json.loads(rest[1]), outcome == b"sent")

    def unread(self, job_id: str, after: str = "0") -> list[Message]:
        """Return the first PAGE messages to a job after this event id that its task has not read."""
        entries = cast(
            list[tuple[bytes, dict[bytes, bytes]]],
            self._db.at(key := self._db.keys.unread(job_id)).xrange(key, f"({after}", "+", count=PAGE),
        )
        found = []
        for event_id, fields in entries:
            data = json.loads(fields[b"d"])
            found.append(Message(event_id.decode(), data["at"], data["name"], data["data"]))
        return found
