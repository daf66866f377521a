"""Telling the workers that a job waits: a Celery message with the job's id, sent by name.

The message is only a hint. If it is lost, the job's alarm sends another; if it comes twice, the second
claim is refused. So nobody waits for the broker: messages are handed to a sender in the background, which
keeps them while the broker is away.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Sequence
from itertools import islice
from typing import Any

from celery import Celery

from headway import broker
from headway.contract.alarms import Due
from headway.contract.keys import is_own_queue
from headway.contract.settings import Settings
from headway.loops import forever
from service import metrics

log = logging.getLogger(__name__)

BROKER_TIMEOUT_S = 2.0
PAUSE_S = 1.0
"""Seconds before the next try after a message could not be sent."""
MAX_PENDING = 10_000
"""Messages kept while the broker is away; more are left to the alarms of their jobs."""
AT_ONCE = 200
"""Messages sent in one round trip."""
CROWDED = 100
"""Queue length from which re-sends are skipped: a duplicate would not be picked up sooner."""
RARELY = 16
"""Every RARELY-th re-send goes out anyway, in case the first was lost."""
_SAID = {
    "retry_due": "its next attempt is due, sending its message",
    "run_at": "its time has come, sending its message",
    "worker_lost": "its worker was lost, sending its message for another attempt",
    "woken": "what it has waited for is there, sending its message",
    "unclaimed": "no worker has taken it yet, sending its message again",
}


class Dispatch:
    """Sends messages to the queues of the workers, one after the other, from a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._app = Celery("headway", set_as_current=False)
        self._app.conf.update(
            **broker.QUEUE_TYPE,
            **broker.address(settings),
            task_ignore_result=True,
            task_serializer="json",
            accept_content=["json"],
            broker_connection_timeout=BROKER_TIMEOUT_S,
            broker_transport_options={
                **broker.options(settings, timeout_s=BROKER_TIMEOUT_S),
                # kombu would try again for as long as the connection's time limit.
                "max_retries": 0,
            },
        )
        self._errors = broker.errors_of(self._app.connection_for_write())
        self._lock = threading.Lock()
        self._pending: dict[str, Due] = {}
        """By job, the longest waiting first."""
        self._there_are_some = threading.Event()
        self._backlogs: dict[str, int] = {}
        self._bodies: dict[str, Any] = {}
        """By type, what Celery makes of a message to its task."""
        self._reachable = True

    def start(self) -> None:
        """Begin to send, until the process ends."""
        forever("dispatch", self._step, pause_s=0)

    def send(self, job_id: str, type: str, queue: str) -> None:
        """Have the first message of a new job sent. Returns at once."""
        self.send_again(Due(job_id, type, queue, 0, ""))

    def send_again(self, due: Due) -> None:
        """Have a message sent that the job's alarm asked for. Returns at once.

        Does nothing for a queue whose jobs are claimed over HTTP: claims look at the store."""
        if is_own_queue(due.queue):
            return
        with self._lock:
            if len(self._pending) >= MAX_PENDING and due.id not in self._pending:
                return
            self._pending[due.id] = due
        self._there_are_some.set()

    def flush(self) -> bool:
        """Send what is pending, up to the first that cannot be sent. Returns whether all was sent."""
        self._backlogs.clear()
        while True:
            with self._lock:
                dues = list(islice(self._pending.values(), AT_ONCE))
                if not dues:
                    self._there_are_some.clear()
                    return True
            try:
                self._send([due for due in dues if self._is_wanted(due)])
            except self._errors as error:
                if self._reachable:
                    log.warning("the broker cannot be reached, messages wait for it: %s", error)
                self._reachable = False
                self._connect_anew()
                return False
            if not self._reachable:
                log.info("the broker is reachable again")
            self._reachable = True
            with self._lock:
                for due in dues:
                    if self._pending.get(due.id) is due:
                        del self._pending[due.id]

    def _step(self) -> float | None:
        self._there_are_some.wait()
        return None if self.flush() else PAUSE_S

    def _is_wanted(self, due: Due) -> bool:
        return due.sends <= 1 or due.sends % RARELY == 0 or self._backlog(due.queue) < CROWDED

    def _send(self, dues: Sequence[Due]) -> None:
        queues = {due.queue: self._app.amqp.queues[due.queue] for due in dues}
        with self._app.producer_or_acquire() as producer, producer.batch():
            broker.keep_clients(producer.channel)
            for queue in queues.values():
                producer.maybe_declare(queue)
            for due in dues:
                self._app.amqp.send_task_message(
                    producer,
                    due.type,
                    self._message(due),
                    queue=queues[due.queue],
                    # It would copy the queue for each message, to see that it is declared.
                    declare=(),
                    retry=False,
                    confirm_timeout=BROKER_TIMEOUT_S,
                )
        for due in dues:
            if due.why:
                about = {"job": due.id, "attempt": due.attempt or None, "owner": due.owner or None}
                log.info("job %s: %s", due.id, _SAID[due.why], extra=about)
                metrics.ALARMS_ANSWERED.inc()

    def _message(self, due: Due) -> Any:
        """What Celery sends for such a task, which but for the ids is always the same."""
        made = self._bodies.get(due.type)
        if made is None:
            if len(self._bodies) >= MAX_PENDING:
                self._bodies.clear()
            made = self._bodies[due.type] = self._app.amqp.as_task_v2("", due.type, ignore_result=True)
        task_id = str(uuid.uuid4())
        return made._replace(
            headers={**made.headers, "id": task_id, "root_id": task_id, "argsrepr": f"['{due.id}']"},
            properties={**made.properties, "correlation_id": task_id},
            body=([due.id], *made.body[1:]),
        )

    def _connect_anew(self) -> None:
        """Drop the present connections: one that answers READONLY works, but ends at the wrong server."""
        self._app.pool.force_close_all(close_pool=False)
        # It is empty now, and who takes from it would wait for ever.
        self._app.pool.setup()

    def _backlog(self, queue: str) -> int:
        """How many messages of a queue no worker has taken yet, as of the beginning of this flush."""
        if queue not in self._backlogs:
            with self._app.pool.acquire(block=True) as connection:
                self._backlogs[queue] = broker.waiting(connection, queue)
        return self._backlogs[queue]
