"""The loop that tells webhooks what is owed to them. Every web process runs it, for its share of the
partitions.

The store leases a webhook to one process at a time. It sends the next event of up to BATCH jobs, side by
side, and notes what came of them; if the process dies before that, another sends the same again when the
lease is over. So each event arrives at least once, and the events of a job in their order.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Collection

import redis

from headway.contract.encoding import rfc3339
from headway.contract.settings import Network
from headway.contract.store import JobStore
from headway.contract.webhooks import Delivery, Outcome, Settled, Taken, clipped, sign
from headway.loops import forever
from headway.version import __version__
from service import metrics
from service.scheduling.keeper import Keeper
from service.scheduling.webhook_post import LIMIT_S, Answer, Poster

log = logging.getLogger(__name__)

PERIOD_S = 0.5
"""Between two looks, unless something was just sent."""
LEASE_S = 30.0
BATCH = 4
"""Jobs of which something is sent to one webhook at once."""
SLOTS = 64
"""Most webhooks that this process sends to at once."""
FAILING_SLOTS = 32
"""Most of these that may be failing ones, which tend to take the whole time limit."""
DELAYS_S = (5, 30, 120, 600, 3_600, 10_800, 21_600, 43_200)
"""Seconds before each further try to deliver an event: a day in all."""
JITTER = 0.1
MAX_RECORDED_CHARS = 512
"""Most characters of an answer in the log of deliveries."""


class WebhookLoop:
    """Delivers to the webhooks of the partitions that it keeps, until the process ends."""

    def __init__(
        self,
        store: JobStore,
        keeper: Keeper,
        allowed: Collection[Network] = (),
        poster: Poster | None = None,
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._poster = poster or Poster(allowed)
        self._lock = threading.Lock()
        self._busy = 0
        self._failing = 0
        self._finished = threading.Event()

    def start(self) -> None:
        forever("webhooks", self._step, pause_s=0)

    def _step(self) -> None:
        self._finished.clear()
        self.look()
        self._finished.wait(PERIOD_S * random.uniform(0.8, 1.2))  # noqa: S311

    def look(self) -> list[threading.Thread]:
        """Begin to send what is due now, as long as there are slots. Returns the threads that do."""
        begun = []
        for partition in self._store.webhooks.due(self._keeper.share):
            while self._busy < SLOTS:
                taken = self._store.webhooks.take(
                    partition,
                    lease_s=LEASE_S,
                    limit=BATCH,
                    pass_failing=self._failing >= FAILING_SLOTS,
                )
                if taken is None:
                    break
                self._count(taken, 1)
                thread = threading.Thread(
                    target=self._deliver, args=(taken, time.monotonic()), name="webhook", daemon=True
                )
                thread.start()
                begun.append(thread)
        return begun

    def _count(self, taken: Taken, n: int) -> None:
        with self._lock:
            self._busy += n
            self._failing += n if taken.failing else 0

    def _deliver(self, taken: Taken, since: float) -> None:
        results: list[Settled] = []
        quiet: list[float] = [0.0]

        def send(delivery: Delivery) -> None:
            # This process stood still, and another may have the webhook by now.
            if time.monotonic() - since > LEASE_S - 2 * LIMIT_S:
                return
            settled, retry_after_s = self._send(taken, delivery)
            results.append(settled)
            quiet.append(retry_after_s)

        try:
            threads = [
                threading.Thread(target=send, args=(one,), name="webhook", daemon=True)
                for one in taken.deliveries[1:]
            ]
            for thread in threads:
                thread.start()
            send(taken.deliveries[0])
            for thread in threads:
                thread.join()
            why = self._store.webhooks.settle(taken, results, quiet_s=max(quiet))
            for result in results:
                metrics.WEBHOOK_DELIVERIES.labels(result.outcome).inc()
            if why:
                metrics.WEBHOOKS_DISABLED.inc()
                log.error("webhook %s of %s is disabled: %s", taken.name, taken.owner, _SAID[why])
        except redis.RedisError as error:
            # It is sent again when the lease is over.
            log.warning(
                "webhook %s of %s: what was sent could not be noted: %s", taken.name, taken.owner, error
            )
        finally:
            self._count(taken, -1)
            self._finished.set()

    def _send(self, taken: Taken, delivery: Delivery) -> tuple[Settled, float]:
        now, begun = time.time(), time.monotonic()
        message_id = taken.message_id(delivery)
        body = b'{"type":"job.%s","timestamp":"%s","data":%s}' % (
            delivery.event.encode(),
            delivery.at.encode(),
            delivery.data,
        )
        answer = self._poster.post(
            delivery.url,
            body,
            {
                "Content-Type": "application/json",
                "User-Agent": f"Headway/{__version__}",
                "webhook-id": message_id,
                "webhook-timestamp": str(int(now)),
                "webhook-signature": sign(taken.secrets, message_id, int(now), body),
            },
        )
        outcome, delay_s = judge(answer, delivery.tries)
        record = {
            "id": message_id,
            "job": delivery.job,
            "event_id": delivery.event_id,
            "event": delivery.event,
            "at": rfc3339(now * 1000),
            "attempt": delivery.tries + 1,
            "status": answer.status,
            "error": clipped(answer.error, MAX_RECORDED_CHARS) or None,
            "answer": clipped(answer.text, MAX_RECORDED_CHARS) or None,
            "duration_ms": round((time.monotonic() - begun) * 1000),
        }
        return Settled(delivery, outcome, delay_s, record), answer.retry_after_s


_SAID = {
    "failing": "nothing could be delivered for days; its owner must make it anew or change it",
    "gone": "its receiver said so (410 Gone)",
}


def judge(answer: Answer, tries: int) -> tuple[Outcome, float]:
    """Return what comes of a delivery that was tried in vain `tries` times before, and the seconds until
    the next try."""
    if answer.accepted:
        return "delivered", 0
    if answer.status == 410:
        return "gone", 0
    if tries >= len(DELAYS_S):
        return "given_up", 0
    delay_s = DELAYS_S[tries] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
    return "failed", max(delay_s, answer.retry_after_s)
