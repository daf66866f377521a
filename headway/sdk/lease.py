"""LeaseKeeper: renews the lease of one attempt, and learns with it whether the attempt must end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import redis

from headway.contract.store import Hold, JobStore, StaleFence
from headway.sdk.stopping import JobCanceled, LeaseLost, Stop

CANCEL_POLL_S = 1.0
"""Longest time in which a request to cancel goes unnoticed, unless the lease is shorter than four of it."""

logger = logging.getLogger(__name__)


class LeaseKeeper:
    """Renews a claim's lease four times per lease, or sooner to learn of a cancellation.

    Every answer of the store says whether cancellation was requested, so no renewal is needed for that
    while the reporter talks to the store: `answered_at` tells when that was (monotonic seconds).
    """

    def __init__(
        self,
        store: JobStore,
        claim: Hold,
        stop: Stop,
        *,
        lease_s: float,
        answered_at: Callable[[], float],
    ) -> None:
        self._store = store
        self._claim = claim
        self._stop = stop
        self._lease_s = lease_s
        self._renew_every_s = lease_s / 4
        self._poll_every_s = min(CANCEL_POLL_S, self._renew_every_s)
        self._answered_at = answered_at
        self._tried_at = time.monotonic()
        self._reachable = True

    def renew_if_due(self) -> None:
        """Renew the lease if it is time to; what the store answers goes to `stop`.

        An unreachable Redis is logged once and tried again. Raises nothing for it: if the lease runs out
        meanwhile, the next answer says so.
        """
        now = time.monotonic()
        told_at = max(self._tried_at, self._answered_at())
        if now - self._tried_at < self._renew_every_s and now - told_at < self._poll_every_s:
            return
        self._tried_at = now
        try:
            if self._store.renew(self._claim, lease_s=self._lease_s):
                self._stop.request(JobCanceled)
            self._reachable = True
        except StaleFence:
            self._stop.request(LeaseLost)
        except redis.RedisError as error:
            if self._reachable:
                logger.warning("the lease of job %s is not renewed: %s", self._claim.ref.id, error)
            self._reachable = False
