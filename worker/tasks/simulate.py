"""A job that only takes time, to see what everything around it does."""

from __future__ import annotations

import time
from typing import Annotated

from pydantic import Field

from headway import Job, Params, job


class SimulateParams(Params):
    duration_s: Annotated[
        float,
        Field(ge=0, le=86_400, title="Duration", description="How long it takes, in seconds."),
    ] = 10
    rate: Annotated[
        float,
        Field(
            gt=0,
            le=10_000,
            title="Updates per second",
            description="How often the task notes its progress.",
        ),
    ] = 10
    stages: Annotated[
        int, Field(ge=1, le=100, title="Stages", description="How many stages of equal length it has.")
    ] = 1
    log_every: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            title="Log every",
            description="A log line every N updates; 0 for none.",
        ),
    ] = 0
    message_every: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            title="Message every",
            description="A message `update` every N updates; 0 for none.",
        ),
    ] = 0
    fail_at: Annotated[
        float | None,
        Field(ge=0, le=1, title="Fail at", description="The fraction at which it fails; none by default."),
    ] = None
    fail_attempts: Annotated[
        int | None,
        Field(
            ge=1, le=100, title="Failing attempts", description="How many attempts fail; all by default."
        ),
    ] = None
    ignore_cancel: Annotated[
        bool,
        Field(
            title="Ignore cancellation",
            description="Never call the SDK while it runs, so that cancellation must interrupt it.",
        ),
    ] = False


class SimulatedFailure(Exception):
    """The failure that `fail_at` asks for."""


@job("simulate", params=SimulateParams, title="Simulate a job")
def simulate(job: Job[SimulateParams]) -> dict[str, float | int]:
    params = job.params
    updates = max(params.stages, round(params.duration_s * params.rate))
    fails = params.fail_at is not None and (
        params.fail_attempts is None or job.attempt <= params.fail_attempts
    )
    fail_after = updates * (params.fail_at or 0)
    started = time.monotonic()
    names = [f"stage {n}" for n in range(1, params.stages + 1)]
    done = 0
    with job.plan(**dict.fromkeys(names, 1.0)):
        for n, name in enumerate(names, 1):
            end = updates * n // params.stages
            first = done
            with job.stage(name, total=end - first, unit="updates") as stage:
                while done < end:
                    if fails and done >= fail_after:
                        raise SimulatedFailure(f"asked to fail at {params.fail_at:g}")
                    done += 1
                    until_next = started + params.duration_s * done / updates - time.monotonic()
                    if params.ignore_cancel:
                        time.sleep(max(0.0, until_next))
                        continue
                    if until_next > 0:
                        job.sleep(until_next)
                    stage.update(done - first, f"update {done} of {updates}")
                    if params.log_every and done % params.log_every == 0:
                        job.log(f"update {done} of {updates}")
                    if params.message_every and done % params.message_every == 0:
                        job.send("update", [done, updates])
    if fails:
        raise SimulatedFailure(f"asked to fail at {params.fail_at:g}")
    return {"updates": done, "seconds": round(time.monotonic() - started, 3)}
