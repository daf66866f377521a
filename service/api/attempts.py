"""What a worker says of the attempt that it holds over HTTP: reports, artifacts, and its end.

Its token (service/api/claims.py) names the job and the fence, so nothing of it is kept here between two
requests, and each may come to another web process.
"""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Annotated, Any, Literal
from weakref import WeakValueDictionary

from flask import Response, request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from headway import tracing
from headway.contract.encoding import RecordError, clip, dumps
from headway.contract.events import EventId, EventType
from headway.contract.files import artifact_key
from headway.contract.messages import message_body
from headway.contract.records import (
    ARTIFACT_NAME,
    HIGHEST_FRACTION,
    MAX_CHECKPOINT_BYTES,
    MAX_DATA_BYTES,
    MAX_ERROR_CHARS,
    MAX_LOG_CHARS,
    MAX_MESSAGE_CHARS,
    MAX_RESULT_BYTES,
    Artifact,
    Job,
    Progress,
    StageProgress,
)
from headway.contract.states import ErrorCode, State
from headway.contract.store import Claim, Report, StaleFence
from headway.sdk.meter import ETA_AFTER_FRACTION, ETA_AFTER_S, MAX_ETA_S, RATE_AFTER_S, finished
from headway.sdk.retry import DEFAULT
from service.api.auth.caller import Held
from service.api.claims import ALIVE_S
from service.api.context import caller, context, find_job
from service.api.file_body import answering_full, check_room, media_type, receive
from service.api.names import Name
from service.api.operation import Answer, Resource, json_answer
from service.api.problems import Problem, job_not_found

bp = Resource("attempts", "Workers in any language")

MAX_ARTIFACTS = 500
"""Of a job. They are a part of it, so each is read with all others whenever the job is."""
MAX_EVENTS = 200
"""In one batch."""
_publishing: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
"""By job: its files are counted and published one after the other, or two that fit alone would be too much
together. Between web processes it is left to chance."""

Number = Annotated[float, Field(ge=0, le=2**53, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Word = Annotated[str, StringConstraints(max_length=128)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ReportedStage(_Body):
    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    index: Annotated[int, Field(ge=1, le=1000)] = 1
    count: Annotated[int, Field(ge=1, le=1000)] = 1
    fraction: Fraction | None = None


def _small_data(data: dict[str, Any]) -> dict[str, Any]:
    dumps(data, MAX_DATA_BYTES, "data")
    return data


class ProgressUpdate(_Body):
    """How far the attempt is: all of it anew each time. What is left out is computed where it can be:
    `fraction` from `current` and `total`; `rate` and `eta_s` from the time since the attempt began."""

    type: Literal["progress"]
    current: Number | None = None
    total: Number | None = None
    unit: Word | None = None
    message: str | None = None
    fraction: Fraction | None = None
    stage: ReportedStage | None = None
    rate: Number | None = None
    eta_s: Annotated[float, Field(ge=0, le=MAX_ETA_S, allow_inf_nan=False)] | None = None
    data: Annotated[dict[str, Any], AfterValidator(_small_data)] = Field(default_factory=dict)


class LogUpdate(_Body):
    type: Literal["log"]
    message: str
    level: Literal["debug", "info", "warning", "error"] = "info"


class MessageUpdate(_Body):
    """A message to whoever watches the job. `data` is any JSON up to 64 KiB."""

    type: Literal["message"]
    name: Name
    data: Any = None


class CheckpointUpdate(_Body):
    """What the next attempt gets as its `checkpoint`."""

    type: Literal["checkpoint"]
    value: Any


class ReadUpdate(_Body):
    """The messages up to this one are dealt with: no attempt is given them again."""

    type: Literal["read"]
    id: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,20}-[0-9]{1,20}$")]


Update = Annotated[
    ProgressUpdate | LogUpdate | MessageUpdate | CheckpointUpdate | ReadUpdate, Field(discriminator="type")
]


class Batch(_Body):
    """What happened since the last batch, in order. `batch` counts up from 1; the same number again counts
    once, so a request whose answer was lost is sent again as it was. Without events it renews the lease."""

    batch: Annotated[int, Field(ge=1, le=2**53)]
    events: Annotated[list[Update], Field(max_length=MAX_EVENTS)] = Field(default_factory=list)


class UnreadMessage(BaseModel):
    """What somebody sent with POST /jobs/{id}/messages."""

    id: str
    at: str
    name: str
    data: Any


class Renewal(BaseModel):
    """`cancel_requested`: stop, clean up and end the job. The next report is due within `lease_s`.
    `messages` were sent to the job and are not `read` yet, the oldest first, 100 at most."""

    cancel_requested: bool
    lease_s: float
    messages: list[UnreadMessage]


class ReportedError(_Body):
    code: Literal["error", "invalid_input", "no_space"] = "error"
    message: Annotated[str, StringConstraints(min_length=1)]


def _small_result(result: Any) -> Any:
    dumps(result, MAX_RESULT_BYTES, "the result")
    return result


class Ending(_Body):
    """How the attempt ends. `retry`: another attempt follows after `delay_s` (default: as for other types),
    or the job fails if there is none left. A job whose cancellation was requested ends as canceled, unless
    it has succeeded. `result` goes with succeeded, `error` with the others, `delay_s` with retry."""

    state: Literal["succeeded", "failed", "retry"]
    result: Annotated[Any, AfterValidator(_small_result)] = None
    error: ReportedError | None = None
    delay_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] | None = None


_BELONGS = {"result": ["succeeded"], "error": ["failed", "retry"], "delay_s": ["retry"]}
"""Which fields of an Ending say something of which states."""

_PROBLEMS = {
    404: "there is no such job",
    409: "the attempt is over: its lease ran out, another one runs, or the job has ended",
}


@bp.operation(
    "POST",
    "/jobs/<job_id>/reports",
    body=Batch,
    answers={200: Answer.json("counted, and the lease renewed", Renewal)},
    problems=_PROBLEMS,
)
def report(job_id: str, body: Batch) -> Response:
    """Report on the attempt and renew its lease."""
    here = context()
    job, held, claim = _held(job_id)
    reports = _reports(body.events, held, job.progress)
    try:
        if reports:
            here.store.append(claim, body.batch, reports)
        cancel_requested = here.store.renew(claim, lease_s=held.lease_s)
    except StaleFence:
        raise _over() from None
    here.store.registry.note_claimer(job.owner, held.worker, [job.type], held.lease_s + ALIVE_S)
    unread = [UnreadMessage(**asdict(message)) for message in here.store.messages.unread(job.id)]
    renewal = Renewal(cancel_requested=cancel_requested, lease_s=held.lease_s, messages=unread)
    return json_answer(renewal.model_dump_json(), 200)


@bp.operation(
    "PUT",
    "/jobs/<job_id>/artifacts/<path:name>",
    answers={201: Answer.json("the artifact, as the job shows it", Artifact)},
    problems={
        **_PROBLEMS,
        400: "the body ended early, or its chunks cannot be read; nothing was kept",
        408: "the body came too slowly; nothing was kept",
        413: "the attempt's files are larger than MAX_OUTPUT_BYTES together; nothing was kept",
        415: "the body is a form with the file in it, not the file; nothing was kept",
        422: "the name is not valid, or the job has 500 artifacts; nothing was kept",
        503: "Redis or the object storage cannot be reached; nothing was kept",
        507: "the disk is full, or nearly; nothing was kept",
    },
    upload=True,
)
def put_artifact(job_id: str, name: str) -> Response:
    """Publish a file that the attempt made, as the raw body. The same name again replaces it."""
    here = context()
    job, held, claim = _held(job_id)
    if not ARTIFACT_NAME.fullmatch(name):
        raise Problem(422, "the name of an artifact begins with a letter or digit; more of these and . _ -")
    kind = media_type(name)
    announced = request.content_length
    try:
        check_room(here.files, here.settings, "MAX_OUTPUT_BYTES", announced)
        key = artifact_key(job.id, held.attempt, name)
        left = _output_left(job, held, name)
        if (announced or 0) > left[0]:
            raise left[1]
        with answering_full(), here.files.writing(key, kind, announced) as out:
            size = receive(out, here.files, here.settings, "MAX_OUTPUT_BYTES", left)
            artifact = Artifact(
                name=name,
                media_type=kind,
                size=size,
                url=f"/jobs/{job.id}/artifacts/{name}",
                attempt=held.attempt,
            )
            with _publishing.setdefault(job.id, threading.Lock()):
                # Others may have come meanwhile.
                left = _output_left(_held(job_id)[0], held, name)
                if size > left[0]:
                    raise left[1]
                # From here on the lease outlasts the next lines: a file of a job that has ended is never
                # replaced.
                here.store.renew(claim, lease_s=held.lease_s)
                out.commit()
                here.store.publish(claim, artifact)
    except StaleFence:
        raise _over() from None
    return json_answer(artifact.model_dump_json(), 201)


def _output_left(job: Job, held: Held, name: str) -> tuple[int, Problem]:
    """How many bytes a file of this name may have beside the others of its attempt, and what to answer
    to more. Raises Problem (422) if the job has no room for another file."""
    if len(job.artifacts) >= MAX_ARTIFACTS and name not in {a.name for a in job.artifacts}:
        raise Problem(422, f"a job has at most {MAX_ARTIFACTS} artifacts; pack several into one")
    most = context().settings.max_output_bytes
    others = sum(a.size for a in job.artifacts if a.attempt == held.attempt and a.name != name)
    return most - others, Problem(
        413, f"an attempt's files may have {most} bytes together (MAX_OUTPUT_BYTES); nothing was kept"
    )


@bp.operation(
    "POST",
    "/jobs/<job_id>/end",
    body=Ending,
    answers={200: Answer.json("the job", Job)},
    problems=_PROBLEMS,
)
def end(job_id: str, body: Ending) -> Response:
    """End the attempt. The same end again is answered alike."""
    store = context().store
    job, held, claim = _held(job_id)
    misplaced = [
        (f"/{name}", f"goes with {' or '.join(states)}, not with {body.state}")
        for name, states in _BELONGS.items()
        if getattr(body, name) is not None and body.state not in states
    ]
    if misplaced:
        raise Problem(422, " ".join(misplaced[0]), errors=misplaced)
    code = ErrorCode(body.error.code if body.error else "error")
    message = clip(body.error.message, MAX_ERROR_CHARS) if body.error else "the worker gave no reason"
    try:
        with _traced(job, held, claim) as span:
            if body.state == "succeeded":
                progress = "" if job.progress is None else dumps(finished(job.progress).model_dump())
                store.end(claim, State.SUCCEEDED, result=body.result, progress=progress)
            elif job.cancel_requested or job.state is State.CANCELED:
                store.end(claim, State.CANCELED, error=(ErrorCode.CANCELED, "the job was canceled"))
            else:
                span.fail(code, message)
                if body.state == "retry" and held.attempts_left > 0:
                    delay_s = DEFAULT.delay_s(held.attempt) if body.delay_s is None else body.delay_s
                    store.retry(claim, delay_s=delay_s, reason=message)
                else:
                    store.end(claim, State.FAILED, error=(code, message))
    except StaleFence:
        raise _over() from None
    return json_answer(find_job(job_id).document)


def _held(job_id: str) -> tuple[Job, Held, Claim]:
    """The job that the caller's token is for, as it is now. Raises Problem (404) for any other."""
    held = caller().held
    if held is None or held.job != job_id:
        raise job_not_found(job_id)
    page = find_job(job_id)
    job = Job.model_validate_json(page.document)
    trace = page.fields.get(b"_trace", b"").decode()
    return job, held, Claim(page.ref, held.fence, job, "", held.attempts_left, trace=trace)


def _traced(job: Job, held: Held, claim: Claim) -> AbstractContextManager[tracing.Span]:
    """The span of the whole attempt, now that it is over."""
    return tracing.span(
        f"attempt {job.type}",
        claim.trace,
        kind="consumer",
        attributes=tracing.about_job(job.id, job.owner, job.type, held.attempt),
        since_ns=round(held.began_ms * 1_000_000),
    )


def _over() -> Problem:
    return Problem(409, "this attempt is over: its lease ran out, another one runs, or the job has ended")


def _reports(events: list[Any], held: Held, before: Progress | None) -> list[Report]:
    last = max((n for n, event in enumerate(events) if event.type == "progress"), default=-1)
    found = []
    for n, event in enumerate(events):
        if isinstance(event, LogUpdate):
            body = dumps({"level": event.level, "message": clip(event.message, MAX_LOG_CHARS)})
            found.append(Report(EventType.LOG, body))
        elif isinstance(event, MessageUpdate):
            try:
                body = message_body("task", event.name, event.data)
            except RecordError as error:
                raise Problem(422, str(error), errors=[(f"/events/{n}/data", str(error))]) from None
            found.append(Report(EventType.MESSAGE, body))
        elif isinstance(event, CheckpointUpdate):
            try:
                text = dumps(event.value, MAX_CHECKPOINT_BYTES, "the checkpoint")
            except RecordError as error:
                raise Problem(422, str(error), errors=[(f"/events/{n}/value", str(error))]) from None
            found.append(Report("", "", "_checkpoint", text))
        elif isinstance(event, ReadUpdate):
            found.append(Report("", "", "_read", EventId.parse(event.id).start))
        elif n == last:  # of progress only the newest counts
            text = dumps(measured(event, held, before, time.time() * 1000).model_dump())
            found.append(Report(EventType.PROGRESS, text, "progress", text))
    return found


def measured(told: ProgressUpdate, held: Held, before: Progress | None, now_ms: float) -> Progress:
    """Return the progress that the job shows for what its worker told at `now_ms`. The fraction never falls
    within an attempt, and is 1 only for a job that has succeeded."""
    current = told.current
    if current is not None and told.total is not None:
        current = min(current, told.total)
    fraction = told.fraction
    if fraction is None and current is not None and told.total:
        fraction = current / told.total
    if fraction is not None:
        fraction = round(min(HIGHEST_FRACTION, max(fraction, (before and before.fraction) or 0)), 5)
    # An attempt that goes on from a checkpoint did not do all of it in its own time.
    elapsed_s = 0.0 if held.resumed else (now_ms - held.began_ms) / 1000
    rate, eta_s = told.rate, told.eta_s
    if rate is None and current and elapsed_s >= RATE_AFTER_S:
        rate = float(f"{current / elapsed_s:.4g}")
    if eta_s is None and fraction and fraction >= ETA_AFTER_FRACTION and elapsed_s >= ETA_AFTER_S:
        left_s = elapsed_s * (1 - fraction) / fraction
        eta_s = round(left_s, 1) if left_s <= MAX_ETA_S else None
    return Progress(
        fraction=fraction,
        current=current,
        total=told.total,
        unit=told.unit,
        message=None if told.message is None else clip(told.message, MAX_MESSAGE_CHARS),
        stage=None if told.stage is None else StageProgress(**told.stage.model_dump()),
        rate=rate,
        eta_s=eta_s,
        data=told.data,
    )
