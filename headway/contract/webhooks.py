"""Webhooks: what an owner wants to be told over HTTP, and what is owed to each receiver.

The script that writes an event also owes it to the job's webhooks (lua/prelude.lua), so none is lost in
between. What is owed lies in lanes, one for each job and webhook, and only the first of a lane is sent: the
events of a job arrive in their order, and a job that a receiver does not take holds up no other.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from headway.contract.database import Database
from headway.contract.encoding import clip, dumps, rfc3339
from headway.contract.events import EventType
from headway.contract.keys import JobRef, owner_and_name, webhook_member

EVENTS = (EventType.STATE, EventType.ARTIFACT, EventType.END)
"""What a webhook can be told. Never progress or logs: there may be hundreds a second."""
MAX_WEBHOOKS = 50
"""Of one owner, with the hosts that its submissions name."""
KEPT_DELIVERIES = 100
"""Of each webhook, in the log."""
OLD_SECRET_S = 86_400.0
"""How long a secret that was rotated still signs beside the new one."""
MAX_SECRETS = 3
FAILING = 5
"""Failures in a row from which a webhook is tried with one delivery at a time, more and more rarely."""
DISABLE_AFTER_S = 3 * 86_400.0
"""A webhook that has done nothing but fail for so long is disabled."""

Outcome = Literal["delivered", "failed", "given_up", "gone"]
"""`failed`: it is tried again; `given_up`: it is not; `gone`: and the receiver said 410."""


class TooManyWebhooks(Exception):
    """The owner has MAX_WEBHOOKS."""


@dataclass(frozen=True, slots=True)
class Webhook:
    name: str
    url: str | None
    """None for that of a host: its submissions say where they are sent."""
    events: list[str] | None
    created_at: str
    pending: int
    """Jobs of which something is owed."""
    missed: int
    """Events that were not even queued, because too much was owed."""
    failing_since: str | None
    disabled: str | None
    """`failing` or `gone`."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a submission wants its job's events sent."""

    host: str
    """Names the webhook: `host:port`."""
    url: str
    events: Sequence[str]

    def fields(self, owner: str) -> dict[str, str]:
        """What the job's hash holds of it (lua/prelude.lua)."""
        return {
            "_hooks": webhook_member(owner, self.host),
            "_hook_url": self.url,
            "_hook_events": " ".join(self.events),
        }


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event that is owed."""

    job: str
    tries: int
    """How often it was tried in vain."""
    mark: str
    """The beginning of its entry, which no other entry of its lane has."""
    event_id: str
    event: str
    url: str
    data: bytes

    @property
    def at(self) -> str:
        """The event's time."""
        return rfc3339(int(self.event_id.partition("-")[0]))


@dataclass(frozen=True, slots=True)
class Taken:
    """What is due to one webhook; for the lease, nobody else sends to it."""

    owner: str
    name: str
    token: str
    failing: bool
    secrets: list[bytes]
    deliveries: list[Delivery]

    def message_id(self, delivery: Delivery) -> str:
        """The `webhook-id`: the same however often an event is sent to this webhook."""
        whose = hashlib.sha256(webhook_member(self.owner, self.name).encode()).hexdigest()[:12]
        return f"evt_{delivery.event_id}_{whose}"


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a delivery. `record` is what the log keeps of it."""

    delivery: Delivery
    outcome: Outcome
    delay_s: float
    record: dict[str, Any]


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the `webhook-signature` of Standard Webhooks 1.0: one signature for each secret."""
    text = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return " ".join("v1," + b64encode(hmac.digest(key, text, "sha256")).decode() for key in keys)


class Webhooks:
    """Every method raises redis.RedisError when the store cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # -- what an owner has -------------------------------------------------------------------------

    def put(self, owner: str, name: str, url: str, events: Sequence[str]) -> str | None:
        """Make or change a webhook that is told of all the owner's jobs submitted from now on; one that was
        disabled begins anew. Returns the secret of a new one. Raises TooManyWebhooks."""
        secret = self._make(owner, name, "1")
        key = self._db.keys.webhook(owner, name)
        with self._db.at(key).pipeline() as pipe:
            pipe.hset(key, mapping={"url": url, "events": " ".join(events)})
            pipe.hdel(key, "disabled", "fails", "failing_since", "hold")
            pipe.execute()
        return secret

    def ensure_host(self, owner: str, host: str) -> None:
        """Make the webhook of a host that a submission names, if it is new. Raises TooManyWebhooks."""
        self._make(owner, host, "0")

    def _make(self, owner: str, name: str, of_all_jobs: str) -> str | None:
        keys = self._db.keys
        key, index = keys.webhook(owner, name), keys.webhooks(owner)
        client = self._db.at(key)
        member = webhook_member("", name)[1:]
        with client.pipeline() as pipe:
            pipe.hexists(index, member)
            pipe.hlen(index)
            exists, count = pipe.execute()
        if exists:
            return None
        if count >= MAX_WEBHOOKS:
            raise TooManyWebhooks
        secret = _new_secret()
        with client.pipeline() as pipe:
            # Of two who make it at once, one has made it.
            pipe.hsetnx(key, "secrets", dumps([[secret, None]]))
            pipe.hsetnx(key, "created_at", rfc3339(self._db.now_ms(key)))
            pipe.hsetnx(key, "url", "")
            pipe.hsetnx(key, "events", "")
            pipe.hset(index, member, of_all_jobs)
            made, *_ = pipe.execute()
        return secret if made else None

    def rotate(self, owner: str, name: str) -> tuple[str, str | None] | None:
        """Make a new secret; the one before signs too, for OLD_SECRET_S.

        Returns the secret and until when the old one signs; None if there is no such webhook.
        """
        key = self._db.keys.webhook(owner, name)
        now = time.time()
        secret = _new_secret()
        while True:
            text = self._db.at(key).hget(key, "secrets")
            if text is None:
                return None
            known = [
                [s, until or now + OLD_SECRET_S] for s, until in json.loads(text) if _valid(until, now)
            ]
            new = dumps([[secret, None], *known[: MAX_SECRETS - 1]])
            if self._db.run("webhook_rotate", [key], [text, new])[0] == b"changed":
                return secret, rfc3339(known[0][1] * 1000) if known else None

    def get(self, owner: str, name: str) -> Webhook | None:
        """Return a webhook, or None if the owner has none of that name."""
        keys = self._db.keys
        key = keys.webhook(owner, name)
        with self._db.at(key).pipeline() as pipe:
            pipe.hgetall(key)
            pipe.zcard(keys.webhook_lanes(owner, name))
            fields, pending = pipe.execute()
        if b"secrets" not in fields:
            return None
        events = fields[b"events"].decode().split()
        since = fields.get(b"failing_since")
        return Webhook(
            name,
            fields[b"url"].decode() or None,
            events or None,
            fields[b"created_at"].decode(),
            pending,
            int(fields.get(b"missed", 0)),
            rfc3339(int(since)) if since else None,
            fields.get(b"disabled", b"").decode() or None,
        )

    def all(self, owner: str) -> list[Webhook]:
        """Return the owner's webhooks, by name."""
        index = self._db.keys.webhooks(owner)
        members = cast(list[bytes], self._db.at(index).hkeys(index))
        names = sorted(owner_and_name(f":{member.decode()}")[1] for member in members)
        return [found for name in names if (found := self.get(owner, name)) is not None]

    def remove(self, owner: str, name: str) -> bool:
        """Remove a webhook; what is owed to it is dropped. Returns False if there is none of that name."""
        keys = self._db.keys
        key = keys.webhook(owner, name)
        with self._db.at(key).pipeline() as pipe:
            pipe.delete(key)
            pipe.delete(keys.webhook_sent(owner, name))
            pipe.hdel(keys.webhooks(owner), webhook_member("", name)[1:])
            # Whoever takes it next clears its lanes.
            pipe.zadd(keys.webhooks_due(keys.partition(owner)), {webhook_member(owner, name): 0})
            removed, *_ = pipe.execute()
        return bool(removed)

    def log(self, owner: str, name: str) -> list[dict[str, Any]]:
        """Return the last deliveries to a webhook, newest first."""
        key = self._db.keys.webhook_sent(owner, name)
        records = self._db.at(key).lrange(key, 0, -1)
        found = []
        for record in map(json.loads, records):
            record["next_at"] = record["next_at"] and rfc3339(record["next_at"])
            found.append(record)
        return found

    def redeliver(self, ref: JobRef, name: str, event_id: str) -> str:
        """Owe an event of a job to a webhook once more.

        Returns `owed`; `refused` if the webhook is disabled or owed too much, `gone` if the event is not
        kept any more.
        """
        reply = self._db.change("redeliver", ref, webhook_member(ref.owner, name), event_id)
        return bytes(reply[0]).decode()

    # -- what is owed ------------------------------------------------------------------------------

    def due(self, partitions: Sequence[int]) -> list[int]:
        """Return those of the partitions in which something is due."""
        keys = [self._db.keys.webhooks_due(partition) for partition in partitions]
        if not keys:
            return []
        now = self._db.now_ms(keys[0])
        counts = self._db.each([(key, ("ZCOUNT", key, "-inf", now)) for key in keys], tolerant=True)
        return [partition for partition, count in zip(partitions, counts, strict=True) if count]

    def take(self, partition: int, *, lease_s: float, limit: int, pass_failing: bool) -> Taken | None:
        """Take a webhook to which something is due, with the first delivery of up to `limit` jobs.

        Until `settle`, or for the lease, nobody else is given it. Returns None if nothing is due.
        """
        reply = self._db.run(
            "webhook_take",
            [self._db.keys.webhooks_due(partition)],
            [round(lease_s * 1000), limit, "1" if pass_failing else "", FAILING],
        )
        if not reply:
            return None
        member, token, failing, url, known, *rest = reply
        owner, name = owner_and_name(member.decode())
        now = time.time()
        keys = [_key(secret) for secret, until in json.loads(known) if _valid(until, now)]
        due = [_delivery(*rest[i : i + 3], url=url.decode()) for i in range(0, len(rest), 3)]
        return Taken(owner, name, token.decode(), failing == b"1", keys, due)

    def settle(self, taken: Taken, results: Sequence[Settled], *, quiet_s: float) -> str:
        """Note what came of deliveries, and let go of the webhook; for `quiet_s` it is not taken again.

        Returns why the webhook was disabled, if it was just now.
        """
        reply = self._db.run(
            "webhook_settle",
            [self._db.keys.webhooks_due(self._db.keys.partition(taken.owner))],
            [
                webhook_member(taken.owner, taken.name),
                taken.token,
                round(quiet_s * 1000),
                FAILING,
                round(DISABLE_AFTER_S * 1000),
                KEPT_DELIVERIES,
                *(
                    part
                    for one in results
                    for part in (
                        one.delivery.job,
                        one.delivery.mark,
                        one.outcome,
                        round(one.delay_s * 1000),
                        dumps(one.record),
                    )
                ),
            ],
        )
        return bytes(reply[0]).decode()


def _delivery(job: bytes, tries: bytes, entry: bytes, *, url: str) -> Delivery:
    mark, _, data = entry.partition(b"\n")
    event_id, event, _, own_url = mark.decode().split(" ")
    return Delivery(job.decode(), int(tries), mark.decode(), event_id, event, own_url or url, data)


def _new_secret() -> str:
    return "whsec_" + b64encode(secrets.token_bytes(32)).decode()


def _key(secret: str) -> bytes:
    return b64decode(secret.removeprefix("whsec_"))


def _valid(until: float | None, now: float) -> bool:
    return until is None or now < until


def clipped(text: str, limit: int) -> str:
    """A receiver's words as the log keeps them: on one line, clipped."""
    return clip("".join(c if c.isprintable() else " " for c in text), limit)
