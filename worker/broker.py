"""The worker's end of the broker: which messages are jobs, and what does not end the worker.

Anybody who can write to the broker can put anything on a queue, and kombu and Celery were made for programs
that trust each other: a message they do not expect ends the worker, and is delivered again to the next. So
each message is checked before either sees it, and dropped if it is not exactly one job's id. One that
is, is made anew of that id and its type.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import mmap
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from celery.worker import state
from celery.worker.consumer import Consumer
from kombu.transport import TRANSPORT_ALIASES, pyamqp, virtual
from kombu.transport import redis as kombu_redis

from headway.broker import keep_clients
from headway.contract.keys import JOB_ID

PAUSE_S = 1.0
"""Seconds before the worker connects anew after the broker refused a command."""
LOOK_S = 0.2
"""Seconds between two looks whether a process has ended, and whether to take RabbitMQ's messages."""
SAY_AGAIN_S = 60.0
"""Dropped messages are logged at most once in this time for each reason."""
MAX_BODY_CHARS = 4096
"""A job's id and what Celery puts around it are about 150."""
MAX_HEADERS_CHARS = 8192
"""Those of a job's message are about 600."""
MAX_STALE = 20
"""Most messages of Redis that are looked at together when one of them meant nothing any more."""
MAX_PASSED_ON = 100
"""Most messages that wait in the queue of one type, in Redis."""
PASSED_ON_MS = 60_000
"""How long a message waits in the queue of one type, in RabbitMQ. Its job's alarm sends another."""
_NEVER_SET = ("eta", "expires", "retries", "group", "chord", "stamped_headers", "replaced_task_nesting")

Sent = tuple[str, str]
"""What a message names: a job, and its type."""

logger = logging.getLogger(__name__)


def fault_of(message: Any, types: Collection[str]) -> str | None:
    """Return why a decoded message is not the id of a job of one of these types, or None if it is."""
    if not isinstance(message, dict):
        return "not a message of Celery"
    headers, properties, body = (message.get(name) for name in ("headers", "properties", "body"))
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        return "not a message of Celery"
    delivery = properties.get("delivery_info")
    if not isinstance(delivery, dict) or not all(
        isinstance(part, str)
        for part in (properties.get("delivery_tag"), delivery.get("exchange"), delivery.get("routing_key"))
    ):
        return "without a delivery tag and an address"
    task = headers.get("task")
    if not isinstance(task, str) or task not in types:
        return "not for a job type that this worker serves"
    if message.get("content-type") != "application/json" or headers.get("compression") is not None:
        return "compressed, or not JSON"
    limits = headers.get("timelimit") or ()
    if any(headers.get(name) for name in _NEVER_SET) or not isinstance(limits, list | tuple) or any(limits):
        return "with options that no job's message has"
    if not isinstance(headers.get("id"), str) or not isinstance(body, str):
        return "without an id or a body"
    if len(body) > MAX_BODY_CHARS or len(str(headers)) > MAX_HEADERS_CHARS:
        return "larger than a job's id"
    return _body_fault(body, properties.get("body_encoding"))


def _body_fault(body: str, encoding: object) -> str | None:
    try:
        decoded = json.loads(base64.b64decode(body, validate=True) if encoding == "base64" else body)
        (job_id,), options, following = decoded
        if options or any(following.values()):
            return "with options that no job's message has"
    except (binascii.Error, ValueError, TypeError, AttributeError, RecursionError):
        return "without the arguments of a job"
    if not isinstance(job_id, str) or JOB_ID.fullmatch(job_id) is None:
        return "without the id of one job"
    return None


class Drops:
    """Counts the messages that were dropped, and logs them now and then."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._said_at: dict[str, float] = {}

    def drop(self, queue: str, why: str) -> None:
        """Note that a message of this queue was dropped."""
        self.counts[why] += 1
        now = time.monotonic()
        if now - self._said_at.get(why, float("-inf")) >= SAY_AGAIN_S:
            self._said_at[why] = now
            logger.error(
                "a message on queue %s was dropped: it is %s (%d such so far)", queue, why, self.counts[why]
            )


drops = Drops()


class Served:
    """What this worker takes of what is on its queues."""

    def __init__(self) -> None:
        self.types: frozenset[str] = frozenset()
        self.left_to_others: frozenset[str] = frozenset()
        """Types whose messages are passed on to other workers."""
        self.waiting: Callable[[Sequence[Sent]], Collection[str]] = lambda jobs: [job for job, _ in jobs]
        """Those of these jobs whose message means something still (worker/hints.py)."""


served = Served()


class Intake:
    """Whether this worker takes jobs. What stands in its queues is left to others while it does not. The
    pool's processes see it too."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)
        self.open = True
        self.dropped_at = float("-inf")
        """When a message was received that meant nothing any more."""

    @property
    def open(self) -> bool:
        return self._shared[0] == 1

    @open.setter
    def open(self, is_open: bool) -> None:
        self._shared[0] = is_open


intake = Intake()


def job_of(message: dict[str, Any]) -> Sent:
    """Return the job that a message, one without a fault, is of, and its type."""
    body = message["body"]
    is_base64 = message["properties"].get("body_encoding") == "base64"
    job_id: str = json.loads(base64.b64decode(body) if is_base64 else body)[0][0]
    return job_id, message["headers"]["task"]


def remade(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message, one without a fault, with nothing in it but what Celery needs for the job. An
    option that Celery cannot read costs the worker one of its places, until it takes no more messages."""
    job_id, task = job_of(message)
    delivery = message["properties"]["delivery_info"]
    return {
        "body": json.dumps([[job_id], {}, {}]),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": task, "id": message["headers"]["id"]},
        "properties": {
            "delivery_tag": message["properties"]["delivery_tag"],
            "delivery_info": {name: delivery[name] for name in ("exchange", "routing_key")},
        },
    }


def is_stale(message: dict[str, Any]) -> bool:
    """Return whether a message, one without a fault, is good for nothing: its job does not wait any more,
    and no other is left in the line. One may be there whose message its job was taken for."""
    if served.waiting([job_of(message)]):
        return False
    intake.dropped_at = time.monotonic()
    return True


def queue_of(queue: str, type: str) -> str:
    """Return the queue where workers that serve only some types of a queue leave the messages of the
    others."""
    return f"{queue}/{type}"


def destination(message: dict[str, Any], queue: str) -> str | None:
    """Return where a message of a queue, as Redis has it, is to go: to this queue's consumer, unless it is
    stale; to another queue; or, as it has a fault and is counted, nowhere."""
    fault = fault_of(message, served.types)
    if fault is None:
        return queue
    if fault_of(message, served.left_to_others) is None:
        return queue_of(queue, message["headers"]["task"])
    drops.drop(queue, fault)
    return None


class QoS(virtual.QoS):
    def can_consume(self) -> bool:
        return intake.open and super().can_consume()  # type: ignore[no-untyped-call]

    def restore_unacked(self) -> list[Any]:
        # What cannot be put back now is sent again by the alarms, and is not to be written to a file.
        super().restore_unacked()  # type: ignore[no-untyped-call]
        return []


class _RedisChannel:
    """A channel of Redis that drops messages which cannot even be decoded.

    What is not acknowledged is kept in this process alone. kombu would keep it in Redis too, which takes
    two round trips, to deliver it again after an hour: the alarms of the jobs have long sent others by
    then."""

    ack_emulation = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # It has chosen kombu's own.
        self.QoS: Any = QoS
        keep_clients(self)

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        # KeyError is among kombu's connection errors, and json.loads raises none.
        except (ValueError, TypeError, AttributeError, RecursionError, MemoryError):
            # It was taken from the list and is not among the unacknowledged: nobody gets it again.
            drops.drop("?", "not JSON")
            return True


class _RedisTransport:
    """A transport of Redis that delivers only ids of jobs. One whose type this worker is to leave to
    others is passed on to them."""

    channels: list[Any]

    def _deliver(self, message: Any, queue: str) -> None:
        to = destination(message, queue)
        if to == queue and is_stale(message):
            self._drop_stale(queue)
        elif to == queue:
            super()._deliver(remade(message), queue)  # type: ignore[misc]
        elif to is not None:
            self._pass_on(message, to)

    def _drop_stale(self, queue: str) -> None:
        """Drop those of the next messages that are stale as well: of a backlog that was worked off most
        are, and one by one they cost more than the jobs did."""
        with self.channels[0].conn_or_acquire() as client:
            taken = client.rpop(queue, MAX_STALE) or []
            jobs = [_job_in(message) for message in taken]
            waiting = served.waiting([job for job in jobs if job is not None])
            kept = [m for m, job in zip(taken, jobs, strict=True) if job is None or job[0] in waiting]
            if kept:
                # To where they were: the first that was taken is the next to be taken again. If that
                # fails, the alarms of their jobs send others.
                client.rpush(queue, *reversed(kept))

    def _pass_on(self, message: Any, queue: str) -> None:
        channel = self.channels[0]
        # More would not be picked up sooner; their jobs' alarms send them again.
        if channel._size(queue) < MAX_PASSED_ON:
            channel._put(queue, message)


class Channel(_RedisChannel, kombu_redis.Channel):
    pass


class Transport(_RedisTransport, kombu_redis.Transport):
    Channel = Channel


class SentinelChannel(_RedisChannel, kombu_redis.SentinelChannel):
    pass


class SentinelTransport(_RedisTransport, kombu_redis.SentinelTransport):
    Channel = SentinelChannel


class AmqpChannel(pyamqp.Channel):
    """A channel of RabbitMQ that delivers only ids of jobs, like _RedisTransport, and rejects the
    rest."""

    def basic_consume(self, queue: str = "", *args: Any, callback: Any = None, **options: Any) -> Any:
        def checked(message: Any) -> None:
            as_in_redis = _as_in_redis(message)
            to = destination(as_in_redis, queue)
            if to == queue and not is_stale(as_in_redis):
                plain = remade(as_in_redis)
                message.body = plain["body"]
                message.properties = {
                    "content_type": plain["content-type"],
                    "content_encoding": plain["content-encoding"],
                    "application_headers": plain["headers"],
                }
                callback(message)
                return
            if to not in (queue, None):
                self._pass_on(message, to)
            self.basic_reject(message.delivery_tag, requeue=False)

        return super().basic_consume(queue, *args, callback=checked, **options)

    def _pass_on(self, message: Any, queue: str) -> None:
        # As MAX_PASSED_ON: nobody may be there to take it.
        message.properties["expiration"] = str(PASSED_ON_MS)
        self.basic_publish(message, exchange="", routing_key=queue)


class AmqpConnection(pyamqp.Connection):
    Channel = AmqpChannel


class AmqpTransport(pyamqp.Transport):
    Connection = AmqpConnection


class AmqpTlsTransport(pyamqp.SSLTransport):
    Connection = AmqpConnection


def _job_in(text: bytes) -> Sent | None:
    """Return the job that a message in Redis is of; None if it has a fault, or its type is not served."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return None if fault_of(message, served.types) else job_of(message)


def _as_in_redis(message: Any) -> dict[str, Any]:
    """Return a message of RabbitMQ in the form that kombu gives those in Redis."""
    properties = message.properties
    body = message.body
    # Celery declares its bodies as UTF-8, so that py-amqp decodes them; other bytes are no job.
    return {
        "body": body if isinstance(body, str) else None,
        "content-type": properties.get("content_type"),
        "headers": properties.get("application_headers"),
        "properties": {
            "delivery_tag": str(message.delivery_tag),
            "delivery_info": message.delivery_info,
        },
    }


class PatientConsumer(Consumer):  # type: ignore[misc]
    """Celery's consumer; one that waits a moment before it connects anew, whatever went wrong."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        # It declares 28 exchanges and queues for delays, which no job's message has.
        default_steps = tuple(
            step for step in Consumer.Blueprint.default_steps if not step.endswith(":DelayedDelivery")
        )

    _looking: Any = None

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        logger.warning("the broker cannot be used, trying again: %s", exc or type(exc).__name__)
        super().on_connection_error_after_connected(exc)
        self._pause()

    def on_ready(self) -> None:
        """Called whenever it has connected and begins to take messages."""
        super().on_ready()
        # kombu asks QoS before each message of Redis.
        follows = self.connection.transport.driver_type.startswith("amqp")
        taking = True

        def look() -> None:
            nonlocal taking
            # Celery looks when a process closes its files, when it cannot be reaped yet, and 5 s later.
            self.pool.maintain_pool()
            if follows and taking != intake.open and self.task_consumer is not None:
                taking = intake.open
                (self.task_consumer.consume if taking else self.task_consumer.cancel)()

        if self._looking is not None:
            self._looking.cancel()
        self._looking = self.hub.call_repeatedly(LOOK_S, look)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        super().on_connection_error_before_connected(exc)
        self._pause()

    @staticmethod
    def _pause() -> None:
        until = time.monotonic() + PAUSE_S * random.uniform(0.5, 1.5)  # noqa: S311
        while time.monotonic() < until and state.should_stop is None:
            time.sleep(0.05)


# When this is imported: kombu keeps the first transport that it has found for a scheme.
TRANSPORT_ALIASES.update(
    {
        "redis": f"{__name__}:Transport",
        "rediss": f"{__name__}:Transport",
        "sentinel": f"{__name__}:SentinelTransport",
        "amqp": f"{__name__}:AmqpTransport",
        "amqps": f"{__name__}:AmqpTlsTransport",
    }
)


def options(types: Collection[str], left_to_others: Collection[str] = ()) -> dict[str, Any]:
    """Return the settings that have Celery use all this, for a worker that serves these types, and leaves
    others of its queues to other workers."""
    served.types, served.left_to_others = frozenset(types), frozenset(left_to_others)
    return {
        "worker_consumer": f"{__name__}:PatientConsumer",
        # A server that answers READONLY, LOADING or MISCONF is away, as one that does not answer.
        "broker_channel_error_retry": True,
    }
