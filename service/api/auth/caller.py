"""Caller: whoever sends a request, and what that credential may see."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from headway.contract.access import LOCAL, ROLES
from headway.contract.pages import JobPage
from service.api.problems import Problem


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Held:
    """The attempt that a worker holds over HTTP: what its token says."""

    job: str
    fence: str
    attempt: int
    attempts_left: int
    lease_s: float
    worker: str
    began_ms: float
    resumed: bool
    """Whether it goes on from a checkpoint."""


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """Requests with the same credential share one. A restricted caller sees only the named jobs and groups
    of its owner; None means no restriction."""

    owner: str
    roles: frozenset[str]
    kind: str
    """The credential: `none`, `key`, `jwt`, `session`, `ticket` or `attempt`."""
    name: str
    """Whose it is, for the audit log: a key's id or a token's subject, never a secret."""
    jobs: frozenset[str] | None = None
    groups: frozenset[str] | None = None
    expires_at: float = math.inf
    """Seconds since 1970."""
    key_id: str = ""
    """The API key that it comes from, directly or by a session or ticket."""
    session_id: str = ""
    revoked: Callable[[], bool] = _never
    held: Held | None = None
    """Of an `attempt`."""

    @property
    def restricted(self) -> bool:
        return self.jobs is not None or self.groups is not None

    @property
    def sees_only(self) -> str | None:
        """The one owner whose things are visible, which keeps owners apart; None: those of all are."""
        return None if "ops:all" in self.roles else self.owner

    def owns(self, owner: str) -> bool:
        """Whether what belongs to `owner` is visible."""
        return self.sees_only in (None, owner)

    def check_owner(self, owner: str | None) -> str:
        """Return the owner whose jobs are asked for, by default the caller's own. Raises Problem for
        another's that are not visible."""
        if owner is not None and not self.owns(owner):
            raise Problem(403, "the jobs of other owners need the role 'ops:all'")
        return owner or self.owner

    def sees(self, page: JobPage) -> bool:
        if not self.owns(page.owner):
            return False
        return not self.restricted or page.id in (self.jobs or ()) or page.group in (self.groups or ())

    @property
    def scope(self) -> tuple[str, ...] | None:
        """The groups that what this caller uploads belongs to; None, if it is not restricted: all of the
        owner's."""
        return tuple(sorted(self.groups or ())) if self.restricted else None

    def opens(self, scope: tuple[str, ...] | None) -> bool:
        """Whether an upload of this scope, and of an owner whose things are visible, is so, too."""
        return not self.restricted or (bool(scope) and set(scope or ()) <= (self.groups or set()))

    def valid(self) -> bool:
        return time.time() < self.expires_at and not self.revoked()

    def check_group(self, group: str | None) -> None:
        """Check that a caller who is restricted to some groups may list, watch or submit in this one.
        Raises Problem."""
        if self.restricted and group not in (self.groups or ()):
            raise Problem(403, "this credential is restricted to certain jobs or groups; name one of them")


LOCAL_CALLER = Caller(LOCAL, frozenset(ROLES), "none", LOCAL)
"""Every caller, with AUTH=none."""
