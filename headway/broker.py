"""The broker of Celery's messages as web and workers ask it, whichever kombu transport it is."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from kombu.connection import Connection
from kombu.exceptions import BatchPublishError, OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

from headway.contract.settings import Settings

_KIND = {"x-queue-type": "quorum"}
QUEUE_TYPE = {"task_default_queue_type": "quorum", "task_create_missing_queue_type": "quorum"}
"""Settings of Celery for those who declare queues: all must say the same. Quorum queues are RabbitMQ's that
survive the loss of a node; the other brokers have one kind of queue."""


def address(settings: Settings) -> dict[str, Any]:
    """Return Celery's settings of where the broker is. Its `broker_url` would give way to the environment's
    CELERY_BROKER_URL, which is spelled as Headway takes it."""
    url = settings.kombu_url
    return {"broker_read_url": url, "broker_write_url": url, "broker_use_ssl": settings.kombu_tls}


def options(settings: Settings, *, timeout_s: float) -> dict[str, Any]:
    """Return the transport's options, for those who send messages and those who take them: both must agree
    on the prefix. `timeout_s` bounds one call to Redis."""
    server = settings.broker
    if server is None:
        # Without, a message can be lost on a connection whose end is not known yet.
        return {"confirm_publish": True}
    limits = {"socket_timeout": timeout_s, "socket_connect_timeout": min(5.0, timeout_s)}
    of_sentinels: dict[str, Any] = {}
    if server.kind == "sentinel":
        # There are others to ask; redis-py would ask one that is away for half a minute.
        tls = {**settings.tls, "ssl": True} if server.tls else {}
        asked = {**dict.fromkeys(limits, min(2.0, timeout_s)), "retry": Retry(NoBackoff(), 0), **tls}
        of_sentinels = {"master_name": server.service, "sentinel_kwargs": asked}
    return {
        **limits,
        **of_sentinels,
        "global_keyprefix": settings.key_prefix,
        "socket_keepalive": True,
        "health_check_interval": 5,
    }


def connect(settings: Settings, *, timeout_s: float) -> Connection:
    """Return a connection that is made when it is first used, and again after an error."""
    return Connection(
        settings.kombu_url,
        ssl=settings.kombu_tls,
        connect_timeout=timeout_s,
        transport_options=options(settings, timeout_s=timeout_s),
    )


def keep_clients(channel: Any) -> None:
    """Have a channel of Redis make one client for each of its two pools. kombu makes one each time, which
    takes longer than to send a message. Does nothing the second time, and for other brokers."""
    made = getattr(channel, "Client", None)
    if made is not None and not hasattr(made, "cache_info"):
        channel.Client = lru_cache(2)(made)


def errors_of(connection: Connection) -> tuple[type[BaseException], ...]:
    """Return what the broker's transport raises when the broker cannot be used."""
    # Not KeyError, which is among those of Redis and would hide our own.
    named = (*connection.connection_errors, *connection.channel_errors)
    own = (OperationalError, BatchPublishError, OSError)
    return (*own, *(kind for kind in named if not issubclass(kind, LookupError)))


def waiting(connection: Connection, queue: str) -> int:
    """Return how many messages of a queue no worker has taken yet. Makes the queue if there is none.

    Raises what `errors_of` names.
    """
    # Not passively: of a Redis queue, kombu 5.7 looks for the key without its prefix then.
    with connection.channel() as channel:
        return int(
            channel.queue_declare(queue, durable=True, auto_delete=False, arguments=_KIND).message_count
        )
