"""Submission: what a client may say of a job that it wants done, and what it is told of it."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from headway.contract.encoding import dumps
from headway.contract.records import (
    MAX_LABEL_VALUE_CHARS,
    MAX_LABELS,
    MAX_PARAMS_BYTES,
    MAX_UNIQUE_CHARS,
    VISIBLE,
    Job,
    Links,
    Unique,
)
from service.api.attempt_token import LeaseS
from service.api.names import Name
from service.api.webhooks import WebhookTarget

MAX_AHEAD_S = 31_536_000
"""Of run_at."""
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)

MAX_BATCH = 1000
"""Jobs of one batch: the store makes them in one step, in which nobody else has a turn."""
LabelValue = Annotated[str, StringConstraints(max_length=MAX_LABEL_VALUE_CHARS, pattern=VISIBLE)]


class UniqueKey(Unique):
    """A unique key as it may be asked for; those that are stored may be older than this rule."""

    key: Annotated[str, StringConstraints(min_length=1, max_length=MAX_UNIQUE_CHARS, pattern=VISIBLE)]


def _small(params: dict[str, Any]) -> dict[str, Any]:
    """Before the type's schema has a word to say about each of thousands of parameters."""
    dumps(params, MAX_PARAMS_BYTES, "params")
    return params


def _time(text: str) -> str:
    at = time_ms(text)
    if at > (time.time() + MAX_AHEAD_S) * 1000:
        raise ValueError("is more than a year ahead")
    return text


def time_ms(text: str) -> int:
    """The milliseconds since 1970 of a time. Raises ValueError."""
    try:
        at = datetime.fromisoformat(text.upper()) if _RFC3339.fullmatch(text) else None
    except ValueError:
        at = None
    # Before the first year there is none.
    if at is None or at.year == 1:
        raise ValueError("is not a time in RFC 3339, such as 2027-01-31T08:00:00Z")
    return round(at.timestamp() * 1000)


class Submission(BaseModel):
    """The body of POST /jobs. `params` must fit the type's JSON Schema (GET /types)."""

    model_config = ConfigDict(extra="forbid")

    type: Annotated[Name, Field(examples=["simulate"])]
    params: Annotated[dict[str, Any], AfterValidator(_small)] = Field(
        default_factory=dict, examples=[{"duration_s": 5}]
    )
    group: Name | None = None
    labels: Annotated[dict[Name, LabelValue], Field(max_length=MAX_LABELS)] = Field(default_factory=dict)
    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] | None = None
    webhook: WebhookTarget | None = None
    """Who is told of this job, beside the owner's webhooks."""
    size: (
        Annotated[
            float,
            Field(gt=0, le=1e15, allow_inf_nan=False, description="beside the other jobs of its group"),
        ]
        | None
    ) = None
    priority: (
        Annotated[
            int,
            Field(
                ge=0,
                le=9,
                description="which of the owner's jobs is next: 9 before 0; default: 4",
            ),
        ]
        | None
    ) = None
    run_at: Annotated[str, AfterValidator(_time)] | None = None
    """Not before this time (RFC 3339, at most a year ahead) does it begin."""
    expires_s: Annotated[float, Field(ge=0.001, le=31_536_000, allow_inf_nan=False)] | None = None
    """It fails (`timeout`) unless it begins within so many seconds of `run_at`, or of now."""
    unique: UniqueKey | None = None
    """As long as another of the owner's jobs holds this key, that is the answer, and none is made."""
    run: Literal["here"] | None = None
    """`here`: the caller does the job itself. It is running at once, `token` in the answer is for reporting
    on it, and its type need not be known."""
    lease_s: LeaseS | None = None
    """With `run`: how long the caller may be silent before the job fails as lost; default: LEASE_S."""

    @model_validator(mode="after")
    def _one_attempt_here(self) -> Self:
        if self.run is None and self.lease_s is not None:
            raise ValueError('lease_s goes with "run": "here"; the lease of other jobs is their type\'s')
        if (
            self.run is not None
            and (self.priority, self.run_at, self.expires_s, self.unique) != (None,) * 4
        ):
            raise ValueError(
                "a job that is run here begins at once: it has no priority, run_at, expires_s or unique"
            )
        if self.run is not None and (self.max_attempts or 1) > 1:
            raise ValueError("a job that is run here has one attempt: nobody else would make another")
        return self


class BegunJob(Job):
    """A submitted job. With `"run": "here"` the token and lease of its attempt."""

    token: str | None = None
    lease_s: float | None = None
    traceparent: str | None = None
    """The span that this attempt's are children of (W3C Trace Context), if the job is in a trace."""


class Submissions(BaseModel):
    """Many submissions, as POST /jobs takes them; none may be run here."""

    model_config = ConfigDict(extra="forbid")

    jobs: Annotated[list[Submission], Field(min_length=1, max_length=MAX_BATCH)]


class BatchItem(BaseModel):
    """A job of a batch. `created`: whether it is new, or another that has its unique key."""

    id: str
    created: bool
    links: Links


class BatchAnswer(BaseModel):
    items: list[BatchItem]
