"""FilesCheck: whether this process sees the same files as the other hosts."""

from __future__ import annotations

import logging
import time

import redis

from headway.contract.files import Files, FilesUnavailable
from headway.contract.files_identity import identity_problem
from headway.contract.store import JobStore

log = logging.getLogger(__name__)

PERIOD_S = 10.0


class FilesCheck:
    """Looks when it is asked, and remembers the answer for PERIOD_S."""

    def __init__(self, files: Files, store: JobStore) -> None:
        self._files = files
        self._store = store
        self._known: str | None = None
        self._until = 0.0

    def problem(self) -> str:
        """Return what is wrong, in words for everybody, or "". Once the files were seen, it is no fault if
        the object storage or a server of the store is away: what does not need it goes on. Until then,
        raises redis.RedisError."""
        if self._known is None or time.monotonic() > self._until:
            # Before it is asked, so that others do not wait for a silent server too.
            self._until = time.monotonic() + PERIOD_S
            try:
                self._known = identity_problem(self._files, self._store)
            except FilesUnavailable as error:
                if self._known is None:
                    log.warning("the object storage of FILES_URL was not reached yet: %s", error)
                    return "the object storage of FILES_URL was not reached yet; the log has the reason"
            except redis.RedisError:
                if self._known is None:
                    raise
            except OSError as error:
                self._until = 0.0
                return f"the files cannot be read or written: {error.strerror or error}"
        return self._known or ""
