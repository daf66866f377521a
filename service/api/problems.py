"""Errors as application/problem+json (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import redis
from flask import Flask, Response, request
from gunicorn.http.errors import ParseException
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge

from headway.contract.encoding import clip, dumps, pointer
from headway.contract.files import FilesUnavailable
from headway.contract.records import VISIBLE
from service import metrics
from service.streaming.opening import BadRequest

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 20
"""More faults than these are left out of `errors`."""
MAX_LISTED = 2000
"""Of more faults than these not even the first are looked up: pydantic tells all of them or none, and
everybody waits for it."""
MAX_DETAIL_CHARS = 300
_REFUSALS = {401: "credential", 403: "role", 429: "rate", 507: "room"}
"""Status → what it is counted as."""
_TITLES = {460: "Checksum Mismatch"}
"""Of a status that is in no registry: tus has it."""


class Fault(BaseModel):
    """One thing that is wrong with a request. `pointer` is a JSON pointer into the body, or `/` and the
    parameter's name."""

    pointer: str
    detail: str


class ProblemDocument(BaseModel):
    """Why a request was not carried out (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[Fault] | None = None
    known_types: list[str] | None = None
    """With a submission that does not fit: the types there are."""


class Problem(Exception):
    """An answer other than the one asked for.

    `errors` are pairs of JSON pointer and detail; `more` becomes members of the document.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: list[tuple[str, str]] | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}
        self.more = more

    def response(self) -> Response:
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": _TITLES.get(self.status) or HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": clip(self.detail, 2 * MAX_DETAIL_CHARS),
            **self.more,
        }
        if self.errors is not None:
            # Echoed values may be long, and a request may have a fault in each of 80,000 parameters.
            document["errors"] = [
                {"pointer": clip(p, MAX_DETAIL_CHARS), "detail": clip(d, MAX_DETAIL_CHARS)}
                for p, d in self.errors[:MAX_ERRORS]
            ]
        body = dumps(document).encode("utf-8", "replace")
        headers = {"Cache-Control": "no-store", **self.headers, "Content-Type": MEDIA_TYPE}
        return Response(body, self.status, headers)


FAILED = Problem(500, "the service failed unexpectedly; its log has the reason")


class BodyBroken(Problem):
    """A body cannot be read to its end: it comes too slowly (408), ends early or has broken chunks (400).
    `reason` is which, and `outcome` what came of it."""

    def __init__(self, status: int, reason: str, outcome: str) -> None:
        super().__init__(status, f"{reason}; {outcome}")
        self.reason = reason


@contextmanager
def reading_body(outcome: str, too_large: Problem) -> Iterator[None]:
    """Turn what is raised in the block when a body cannot be read to its end into `too_large` or
    BodyBroken."""
    try:
        yield
    except RequestEntityTooLarge:
        raise too_large from None
    except ParseException as error:
        what = clip(str(error), MAX_DETAIL_CHARS)
        raise BodyBroken(400, f"the body's chunks cannot be read: {what}", outcome) from None
    except (ClientDisconnected, OSError) as error:
        if _is_timeout(error):
            raise BodyBroken(408, "the body came too slowly", outcome) from None
        raise BodyBroken(400, "the body ended early", outcome) from None


def _is_timeout(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, TimeoutError):
            return True
        error = error.__cause__ or error.__context__
    return False


def job_not_found(job_id: str) -> Problem:
    return Problem(404, f"there is no job {job_id[:64]!r}")


def invalid(error: ValidationError, status: int = 422, body: Any = None) -> Problem:
    """Return the problem for what pydantic found: its first faults, each with a pointer, into `body` if
    that is given."""
    count = error.error_count()
    if count > MAX_LISTED:
        return Problem(status, f"there are {count} faults, too many to list them")
    found = error.errors(include_url=False)[:MAX_ERRORS]
    errors = [(pointer(*(e["loc"] if body is None else _places(e, body))), _words(e)) for e in found]
    where, what = errors[0]
    return Problem(status, f"{where}: {what}" if where else what, errors=errors)


def _places(fault: ErrorDetails, body: Any) -> Iterator[str | int]:
    """Yield the way to a fault in the body. pydantic's location also has steps that are in the model
    alone: the chosen member of a union, and `[key]` if a member's name is at fault."""
    for part in fault["loc"]:
        try:
            body = body[part]
        except (LookupError, TypeError):
            continue
        yield part
    if fault["type"] == "missing":
        yield fault["loc"][-1]


def _words(fault: ErrorDetails) -> str:
    """Say what is wrong without a word of Python."""
    if fault["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return "Input should be an object"
    if fault["type"] == "string_pattern_mismatch" and fault["ctx"]["pattern"] == VISIBLE:
        return "String should have no control, invisible or bidirectional formatting characters"
    return fault["msg"].removeprefix("Value error, ")


def store_problem(error: redis.RedisError) -> Response:
    """Answer a request that the store could not be asked about (503)."""
    log.warning("a request failed because of Redis: %s", error, extra=_job_of_request())
    refuses = isinstance(error, redis.ResponseError)
    detail = "Redis refuses to write, which a full disk may cause" if refuses else "Redis cannot be reached"
    return Problem(
        503, f"{detail}; nothing was done; try again later", headers={"Retry-After": "2"}
    ).response()


def answer_problems(app: Flask) -> None:
    """Have every error of the app answered as a problem document, and count the refusals."""

    @app.after_request
    def _count(response: Response) -> Response:
        reason = _REFUSALS.get(response.status_code)
        if reason is not None:
            metrics.REQUESTS_REFUSED.labels(reason).inc()
        return response

    @app.errorhandler(Problem)
    def _problem(problem: Problem) -> Response:
        return problem.response()

    @app.errorhandler(BadRequest)
    def _bad_stream(error: BadRequest) -> Response:
        return Problem(400, str(error)).response()

    @app.errorhandler(HTTPException)
    def _werkzeug(error: HTTPException) -> Response:
        headers = {k: v for k, v in error.get_headers() if k.lower() in ("allow", "content-range")}
        return Problem(error.code or 500, error.description or error.name, headers=headers).response()

    app.register_error_handler(redis.RedisError, store_problem)

    @app.errorhandler(FilesUnavailable)
    def _files(error: FilesUnavailable) -> Response:
        log.warning("a request failed because of the object storage: %s", error, extra=_job_of_request())
        detail = "the object storage cannot be reached; nothing was done; try again later"
        return Problem(503, detail, headers={"Retry-After": "2"}).response()

    @app.errorhandler(Exception)
    def _unexpected(error: Exception) -> Response:
        log.exception("a request failed unexpectedly", exc_info=error, extra=_job_of_request())
        return FAILED.response()


def _job_of_request() -> dict[str, str]:
    """What the log says a request is about."""
    job_id = (request.view_args or {}).get("job_id")
    return {"job": job_id} if job_id else {}
