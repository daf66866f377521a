"""The bearer credential of an attempt that is made over HTTP."""

from __future__ import annotations

import time
from typing import Annotated

from pydantic import Field

from headway.contract.store import Claim
from service.api.auth.authentication import grant
from service.api.auth.caller import Caller
from service.api.context import Context

TOKEN_S = 30 * 86_400.0
"""It is good for this long at most; the lease ends it sooner."""

LeaseS = Annotated[float, Field(ge=1, le=3600, allow_inf_nan=False)]


def attempt_token(here: Context, who: Caller, claim: Claim, lease_s: float, worker: str) -> str:
    """Return the bearer credential of the attempt that the caller has claimed."""
    payload = grant(who, [], time.time() + TOKEN_S)
    payload["held"] = {
        "job": claim.ref.id,
        "fence": claim.fence,
        "attempt": claim.job.attempt,
        "attempts_left": claim.attempts_left,
        "lease_s": lease_s,
        "worker": worker,
        "began_ms": round(time.time() * 1000),
        "resumed": bool(claim.checkpoint),
    }
    return here.authentication.signer.sign("a", payload)
