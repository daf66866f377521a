"""Telling the workers that a job waits: a Celery message with the job's id, sent by name.

The message is only a hint. If it is lost or cannot be sent, the job's alarm sends another; if it
comes twice, the second claim is refused.
"""

from __future__ import annotations

import logging

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from headway.contract.settings import Settings

log = logging.getLogger(__name__)

SOCKET_TIMEOUT_S = 5


class Dispatch:
    """Sends messages to the queues of the workers."""

    def __init__(self, settings: Settings) -> None:
        self._app = Celery("headway", broker=settings.kombu_url, set_as_current=False)
        self._app.conf.update(
            broker_use_ssl=settings.kombu_tls,
            task_ignore_result=True,
            task_serializer="json",
            accept_content=["json"],
            broker_connection_timeout=SOCKET_TIMEOUT_S,
            broker_transport_options={
                "global_keyprefix": settings.key_prefix,
                "socket_timeout": SOCKET_TIMEOUT_S,
                "socket_connect_timeout": SOCKET_TIMEOUT_S,
                "socket_keepalive": True,
                "health_check_interval": 30,
            },
        )

    def send(self, job_id: str, type: str, queue: str) -> bool:
        """Send one message; False if the broker cannot be reached, which is no error (see above)."""
        try:
            self._app.send_task(type, args=[job_id], queue=queue, retry=False)
        except (OperationalError, OSError) as error:
            log.warning("job %s: the message could not be sent, its alarm will: %s", job_id, error)
            return False
        return True

    def backlog(self, queue: str) -> int:
        """How many messages nobody has taken yet; 0 if the broker cannot be reached."""
        try:
            with self._app.pool.acquire(block=True) as connection:
                return int(connection.default_channel._size(queue))
        except (OperationalError, OSError, redis.RedisError) as error:
            log.warning("the backlog of queue %s is not known: %s", queue, error)
            return 0
