"""POST /jobs/{id}/messages: what a person or a program has to say to a running job."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

import redis
from flask import Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from headway.contract.encoding import RecordError, dumps
from headway.contract.events import EventType
from headway.contract.messages import JobEnded, MessageConflict, TooManyMessages
from headway.contract.records import MAX_MESSAGE_BYTES
from service.api.context import context, find_job
from service.api.event_models import MessageEvent
from service.api.idempotency import Idempotency
from service.api.names import Name
from service.api.operation import Answer, Resource, json_answer
from service.api.problems import Problem, job_not_found
from service.api.submissions import refuse_when_full

bp = Resource("messages", "Jobs")


def _small(data: Any) -> Any:
    dumps(data, MAX_MESSAGE_BYTES, "the message's data")
    return data


class MessageToJob(BaseModel):
    """The body of POST /jobs/{id}/messages. `data` is any JSON up to 64 KiB."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    data: Annotated[Any, AfterValidator(_small)] = Field(default=None, examples=[{"text": "yes"}])


@bp.operation(
    "POST",
    "/jobs/<job_id>/messages",
    headers=Idempotency,
    body=MessageToJob,
    answers={
        201: Answer.json("the message, as an event of the job", MessageEvent),
        200: Answer.json("the same, which this Idempotency-Key has sent before", MessageEvent),
    },
    problems={
        404: "there is no such job",
        409: "the job has ended",
        422: "the body does not fit, or the Idempotency-Key belongs to another message",
        429: "the job gets too many messages, or does not read them; nothing was sent",
        503: "Redis cannot be reached, or it or the disk is nearly full; nothing was sent",
    },
)
def send_message(job_id: str, headers: Idempotency, body: MessageToJob) -> Response:
    """Send a message to a job."""
    here = context()
    find_job(job_id)
    refuse_when_full(here)
    meaning = json.dumps([body.name, body.data], sort_keys=True)
    once = headers.once(lambda: meaning, f"message {job_id} ")
    try:
        sent = here.store.messages.send(job_id, body.name, body.data, once=once)
    except JobEnded:
        raise Problem(409, "the job has ended, and nothing would read the message") from None
    except MessageConflict:
        raise Problem(422, "this Idempotency-Key was used with another message; use a new key") from None
    except TooManyMessages as error:
        wait = {"Retry-After": str(math.ceil(error.retry_after_s))}
        raise Problem(429, f"{error}; nothing was sent, try again later", headers=wait) from None
    except RecordError as error:
        raise Problem(422, str(error)) from None
    except redis.OutOfMemoryError:
        raise Problem(503, "Redis is full; nothing was sent", headers={"Retry-After": "30"}) from None
    if sent is None:
        raise job_not_found(job_id)
    event = {"id": sent.id, "event": EventType.MESSAGE, "data": sent.data}
    return json_answer(dumps(event), 201 if sent.is_new else 200)
