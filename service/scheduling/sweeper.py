"""The loops that make room: ended jobs go when their retention is over, uploads when nobody uses them."""

from __future__ import annotations

import logging
import re
import time

from headway.contract.data_dir import ARTIFACTS, UPLOADS
from headway.contract.files import Files, upload_key
from headway.contract.store import JobStore
from headway.contract.uploads import META
from headway.loops import forever
from service.scheduling.keeper import Keeper

log = logging.getLogger(__name__)

PERIOD_S = 1.0
UPLOADS_PERIOD_S = 60.0
_UPLOAD = re.compile(rb"upload:([A-Za-z0-9_-]+)")


class Sweeper:
    """Every web process runs one, for its share of the partitions; the store says which of them removes a
    job."""

    def __init__(self, store: JobStore, keeper: Keeper, files: Files, *, upload_ttl_s: float) -> None:
        self._store = store
        self._keeper = keeper
        self._files = files
        self._upload_ttl_s = upload_ttl_s

    def start(self) -> None:
        """Sweep until the process ends."""
        forever("sweeper", self.sweep_jobs, pause_s=PERIOD_S)
        pause_s = min(UPLOADS_PERIOD_S, self._upload_ttl_s / 2)
        forever("sweeper of uploads", self.sweep_uploads, pause_s=pause_s)

    def sweep_jobs(self) -> None:
        """Remove the jobs whose retention is over, with their files."""
        while expired := self._store.alarms.expired(self._keeper.share):
            for job_id in expired:
                self._files.remove(f"{ARTIFACTS}/{job_id}")
                self._store.alarms.sweep(job_id)

    def sweep_uploads(self) -> None:
        """Remove the uploads that no job has used for `upload_ttl_s`, and what broken uploads left.

        A live job that names an upload uses it; so does a worker that opens it.
        """
        before = time.time() - self._upload_ttl_s
        old = [name for name, used in self._files.trees(UPLOADS) if used < before]
        if not old:
            return
        named = {
            upload.decode()
            for params in self._store.listings.live_params()
            for upload in _UPLOAD.findall(params)
        }
        for name in old:
            if name in named:
                self._files.touch(upload_key(name, META))
            else:
                log.info("upload %s is removed: no job has used it for a while", name)
                self._files.remove(upload_key(name))
