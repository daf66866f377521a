"""Declares an operation of the API beside its view: what it takes, and every answer it may give.

One declaration does both jobs. It validates a request before the view is called, and
service/api/openapi.py builds the document at /openapi.json from it. So neither can be forgotten.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_origin

from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, ValidationError
from werkzeug.datastructures import MultiDict

from service.api.problems import Problem, invalid, reading_body

JSON = "application/json"
ANY_TYPE = "*/*"
MAX_BODY_BYTES = 256 * 1024
"""Of a JSON body."""
MAX_VALUES = 100_000
"""In a JSON body: a value of two bytes may take a hundred, and everybody waits while it is read."""


def json_answer(body: str | bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer of JSON, which nobody may keep."""
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, mimetype=JSON)


class Query(BaseModel):
    """The query of an operation. A parameter that is given twice is refused unless its field is a list."""

    model_config = ConfigDict(extra="ignore")

    refusal: ClassVar[int] = 422
    """Status of the answer to a query that does not fit."""

    @classmethod
    def of(cls, args: MultiDict[str, str]) -> Any:
        """Read the query. Raises ValidationError."""
        lists = {name for name, field in cls.model_fields.items() if get_origin(field.annotation) is list}
        return cls.model_validate(
            {
                name: given if name in lists or len(given) > 1 else given[0]
                for name, given in args.lists()
                if name != "ticket"  # a credential; it was read before
            }
        )


class Headers(BaseModel):
    """The request headers that an operation reads; each field's alias is its header's name."""

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Any:
        """Read the headers. Raises ValidationError."""
        names = (field.alias or name for name, field in cls.model_fields.items())
        return cls.model_validate({name: headers[name] for name in names if name in headers})


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that is no problem. `content` is the schema of its body for each media type: a pydantic
    model, or a JSON schema; of an event stream that of one event. `headers` are those worth knowing of,
    with what they say."""

    description: str
    content: Mapping[str, type[BaseModel] | Mapping[str, Any]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, description: str, model: type[BaseModel], **headers: str) -> Answer:
        return cls(description, {JSON: model}, headers)


@dataclass(frozen=True, eq=False)
class Operation:
    """A view with its declaration; Flask calls it as the view. The first line of the view's docstring is
    the summary, the rest the description."""

    view: Callable[..., Response]
    method: str
    tag: str
    answers: Mapping[int, Answer]
    problems: Mapping[int, str]
    """Status → when that is the answer, beside what the declaration implies."""
    query: type[Query] | None = None
    headers: type[Headers] | None = None
    body: type[BaseModel] | None = None
    max_body: int = MAX_BODY_BYTES
    """Of a JSON body, in bytes."""
    hints: Callable[[], dict[str, Any]] = dict
    """Returns what a 422 says beside the body's faults: more members of the problem document."""
    upload: bool = False
    """The body is a file, of any type; the view reads it."""
    store: bool = True
    """It needs the store."""

    def __call__(self, **path: str) -> Response:
        read: dict[str, Any] = {}
        if self.query is not None:
            read["query"] = _read(lambda model: model.of(request.args), self.query, self.query.refusal)
        if self.headers is not None:
            read["headers"] = _read(lambda model: model.of(request.headers), self.headers, 400)
        if self.body is not None:
            read["body"] = self._validated(self.body)
        return self.view(**path, **read)

    def _validated(self, model: type[BaseModel]) -> BaseModel:
        # The body and all its faults have been let go of when the hints are looked up, for which others may
        # have to wait.
        found = _fitting(model, self.max_body)
        if isinstance(found, Problem):
            found.more = self.hints()
            raise found
        return found

    @property
    def all_problems(self) -> dict[int, str]:
        """Status → when that is the answer: those declared, and those that the declaration implies."""
        found = dict(self.problems)
        if self.query is not None:
            found.setdefault(self.query.refusal, "a query parameter is not valid; nothing was done")
        if self.headers is not None:
            found.setdefault(400, "a header is not valid; nothing was done")
        if self.body is not None:
            found[400] = "the body is not JSON or broke off, or a header is not valid; nothing was done"
            found[408] = "the body came too slowly; nothing was done"
            found[413] = (
                f"the body is larger than {self.max_body} bytes or has more than {MAX_VALUES} values"
            )
            found[415] = f"the body is not {JSON}"
            found.setdefault(422, "the body does not fit; `errors` says where and why")
        if self.store:
            found.setdefault(503, "Redis cannot be reached; nothing was done")
        return found


class Resource(Blueprint):
    """A blueprint whose routes are operations. `tag` groups them in the document."""

    def __init__(self, name: str, tag: str) -> None:
        super().__init__(name, __name__)
        self._tag = tag

    def operation(
        self,
        method: str,
        path: str,
        answers: Mapping[int, Answer],
        problems: Mapping[int, str] | None = None,
        **takes: Any,
    ) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
        """Route `method` and `path` to the view below. `takes` are fields of Operation; the view gets
        `query`, `headers` and `body` by name if they are declared."""

        def declare(view: Callable[..., Response]) -> Callable[..., Response]:
            operation = Operation(view, method, self._tag, answers, problems or {}, **takes)
            self.add_url_rule(path, view.__name__, operation, methods=[method])
            return view

        return declare


def _read(of: Callable[[Any], Any], model: type[BaseModel], status: int) -> Any:
    try:
        return of(model)
    except ValidationError as error:
        raise invalid(error, status) from None


def give_way() -> None:
    """Let other requests go on, between two steps that take long if a body is large."""
    # gevent would not look for new ones during a sleep of 0.
    time.sleep(0.001)


def _fitting(model: type[BaseModel], limit: int) -> BaseModel | Problem:
    body = _json(limit)
    if limit > MAX_BODY_BYTES:
        give_way()
    try:
        found = model.model_validate(body, strict=True)
    except ValidationError as error:
        return invalid(error, 422, body)
    if limit > MAX_BODY_BYTES:
        give_way()
    return found


def _json(limit: int) -> Any:
    """The body, read as RFC 8259 has it: Python would also take NaN and Infinity."""
    if request.mimetype != JSON:
        raise Problem(415, f"the body must be {JSON}; set Content-Type")
    # One byte more, or a chunked body would be cut at the limit without a word.
    request.max_content_length = limit + 1
    too_large = Problem(413, f"the body is larger than {limit} bytes")
    with reading_body("nothing was done", too_large):
        # Not kept until the answer, as it may have megabytes.
        text = request.get_data(cache=False)
    if len(text) > limit:
        raise too_large
    if _has_more_values(text, MAX_VALUES):
        raise Problem(413, f"the body has more than {MAX_VALUES} values")
    try:
        # Of bytes Python would guess the encoding. In UTF-16 the count above is of something else.
        return json.loads(text.decode("utf-8-sig"), parse_constant=_refuse_constant, parse_float=_number)
    except RecursionError:
        raise Problem(400, "the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None
    except UnicodeDecodeError:
        raise Problem(400, "the body is not JSON: it is not in UTF-8") from None
    except ValueError:
        # The one thing that is left which Python says of JSON, in words of its own.
        raise Problem(
            400, f"the body has an integer of more than {sys.get_int_max_str_digits()} digits"
        ) from None


def _has_more_values(text: bytes, most: int) -> bool:
    """Whether JSON has more values than `most`. A comma stands for each but the first of a list or object,
    and its bracket for that."""
    if _structure(text) <= most:
        return False
    # Some of that is in strings. Of these, each is a value or the name of one.
    text = text.replace(rb"\\", b"").replace(rb"\"", b"")
    return text.count(b'"') > 4 * most or _structure(b"".join(text.split(b'"')[::2])) > most


def _structure(text: bytes) -> int:
    return len(text) - len(text.translate(None, b",[{"))


def _number(text: str) -> float:
    """Parse a number with a fraction. To JSON Schema 5.0 is an integer, to pydantic's strict mode it is
    not."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) <= 2**53 else value


def _refuse_constant(name: str) -> None:
    raise Problem(400, f"the body is not JSON: {name} is no number of it")
