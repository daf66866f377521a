"""The /webhooks endpoints, and the webhook of a submission."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from flask import Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from headway.contract.encoding import dumps
from headway.contract.pages import JobPage
from headway.contract.webhooks import MAX_WEBHOOKS, Target, TooManyWebhooks, Webhook
from service.api.context import Context, caller, context
from service.api.operation import Answer, Resource, json_answer
from service.api.problems import Problem
from service.scheduling.webhook_post import Refused, check

bp = Resource("webhooks", "Webhooks")

MAX_URL_CHARS = 2_048
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
EventName = Literal["state", "artifact", "end"]
_HOST = re.compile(r"([a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\]):[0-9]{1,5}")
"""Of a submission's webhook. Never a _NAME, as it has a colon."""
_NONE = {404: "the caller's owner has no such webhook"}


def _url(value: str) -> str:
    if not re.fullmatch(r"(?i:https?)://[\x21-\x7e]+", value):
        raise ValueError("is not an https:// address in ASCII")
    try:
        parts = urlsplit(value)
        valid = parts.hostname is not None and parts.port != 0 and _HOST.fullmatch(_host_of(value))
    except ValueError:
        valid = None
    if not valid:
        raise ValueError("has no host and port that can be read")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("has a user, a password or a fragment; none of them would be sent")
    return value


def _host_of(url: str) -> str:
    """`host:port`."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _once_each(
    events: list[EventName],
) -> list[EventName]:
    return [*dict.fromkeys(events)]


class WebhookTarget(BaseModel):
    """An address, and the events that are sent to it."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[
        str,
        Field(max_length=MAX_URL_CHARS, examples=["https://hooks.example/headway"]),
        AfterValidator(_url),
    ]
    events: Annotated[list[EventName], Field(min_length=1, max_length=8), AfterValidator(_once_each)] = (
        Field(default=["end"])
    )


class WebhookAnswer(BaseModel):
    """A webhook. `url` and `events` are null for that of a host, `host:port`: the submissions that name it
    say what is sent where."""

    name: str
    url: str | None
    events: list[EventName] | None
    created_at: str
    pending: int
    """Jobs of which something waits to be delivered."""
    missed: int
    """Events that were dropped, since more than 16 MiB were waiting."""
    failing_since: str | None
    """When it began to do nothing but fail; null if the last delivery arrived."""
    disabled: Literal["failing", "gone"] | None
    """Why nothing is sent any more: it failed for days, or its receiver answered 410. PUT begins anew."""


class NewWebhook(WebhookAnswer):
    secret: str
    """Verifies the signatures; it is shown this once."""


class WebhooksAnswer(BaseModel):
    items: list[WebhookAnswer]


class Secret(BaseModel):
    secret: str
    """Verifies the signatures; it is shown this once."""
    previous_until: str | None
    """Until when deliveries have a signature by the secret before, too."""


class DeliveryAnswer(BaseModel):
    """One try to deliver one event."""

    id: str
    """The `webhook-id`: the same for each try."""
    job: str
    event_id: str
    event: EventName
    at: str
    attempt: int
    outcome: Literal["delivered", "failed", "given_up", "gone"]
    """`failed` is tried again at `next_at`, `given_up` is not; `gone`: the receiver answered 410."""
    status: int | None
    error: str | None
    answer: str | None
    """The beginning of what the receiver answered."""
    duration_ms: int
    next_at: str | None


class Deliveries(BaseModel):
    items: list[DeliveryAnswer]


class Redelivery(BaseModel):
    """Which delivery is to be made once more."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(max_length=128, examples=["evt_1795394956319-0_3f2a9c1b4d5e"])]


@bp.operation("GET", "/webhooks", answers={200: Answer.json("the webhooks", WebhooksAnswer)})
def list_webhooks() -> Response:
    """The owner's webhooks, by name."""
    _whole_owner()
    return json_answer(
        dumps({"items": [_shown(found) for found in context().store.webhooks.all(caller().owner)]})
    )


@bp.operation(
    "PUT",
    "/webhooks/<webhook_name>",
    body=WebhookTarget,
    answers={
        201: Answer.json("the new webhook, with its secret", NewWebhook),
        200: Answer.json("the webhook, changed", WebhookAnswer),
    },
    problems={422: "the name or the address cannot be used, or the owner has too many webhooks"},
)
def put_webhook(webhook_name: str, body: WebhookTarget) -> Response:
    """Make or change a webhook that is told of all the owner's jobs submitted from now on."""
    _whole_owner()
    if "read" not in caller().roles:
        raise Problem(403, "a webhook is told of all the owner's jobs, so this needs the role 'read' too")
    if not _NAME.fullmatch(webhook_name):
        detail = "a name has up to 64 letters, digits, - and _"
        raise Problem(422, detail, errors=[("/name", detail)])
    here = context()
    _check(here, body.url, "/url")
    owner = caller().owner
    try:
        secret = here.store.webhooks.put(owner, webhook_name, body.url, body.events)
    except TooManyWebhooks:
        raise _too_many() from None
    shown = _shown(_find(webhook_name))
    if secret is None:
        return json_answer(dumps(shown))
    return json_answer(dumps({**shown, "secret": secret}), 201)


@bp.operation(
    "GET",
    "/webhooks/<webhook_name>",
    answers={200: Answer.json("the webhook", WebhookAnswer)},
    problems=_NONE,
)
def get_webhook(webhook_name: str) -> Response:
    """One webhook, without its secret."""
    return json_answer(dumps(_shown(_find(webhook_name))))


@bp.operation(
    "DELETE",
    "/webhooks/<webhook_name>",
    answers={204: Answer("the webhook is removed")},
    problems=_NONE,
)
def delete_webhook(webhook_name: str) -> Response:
    """Remove a webhook; what waits to be delivered to it is dropped."""
    _find(webhook_name)
    context().store.webhooks.remove(caller().owner, webhook_name)
    return Response(status=204)


@bp.operation(
    "POST",
    "/webhooks/<webhook_name>/secret",
    answers={200: Answer.json("the new secret", Secret)},
    problems={**_NONE, 422: "the owner has too many webhooks"},
)
def rotate_secret(webhook_name: str) -> Response:
    """Make a new secret. The one before signs beside it for a day.

    For a `host:port`, this may come before the first submission that names it."""
    _whole_owner()
    store = context().store.webhooks
    if _HOST.fullmatch(webhook_name):
        try:
            store.ensure_host(caller().owner, webhook_name)
        except TooManyWebhooks:
            raise _too_many() from None
    made = store.rotate(caller().owner, webhook_name)
    if made is None:
        raise _absent(webhook_name)
    return json_answer(dumps({"secret": made[0], "previous_until": made[1]}))


@bp.operation(
    "GET",
    "/webhooks/<webhook_name>/deliveries",
    answers={200: Answer.json("the tries, newest first", Deliveries)},
    problems=_NONE,
)
def list_deliveries(webhook_name: str) -> Response:
    """The last 100 tries to deliver to a webhook."""
    _find(webhook_name)
    return json_answer(dumps({"items": context().store.webhooks.log(caller().owner, webhook_name)}))


@bp.operation(
    "POST",
    "/webhooks/<webhook_name>/redeliver",
    body=Redelivery,
    answers={202: Answer("it will be delivered once more, with the same `webhook-id`")},
    problems={
        404: "there is no such webhook, the delivery is not in its log, or the event is not kept any more",
        409: "the webhook is disabled, or too much waits to be delivered to it",
    },
)
def redeliver(webhook_name: str, body: Redelivery) -> Response:
    """Deliver one event of the log once more, whatever came of it before."""
    _find(webhook_name)
    store = context().store
    for record in store.webhooks.log(caller().owner, webhook_name):
        if record["id"] == body.id:
            break
    else:
        raise Problem(404, f"the log of {webhook_name!r} has no delivery {body.id!r}")
    ref = store.ref(record["job"])
    done = store.webhooks.redeliver(ref, webhook_name, record["event_id"]) if ref else "gone"
    if done == "gone":
        raise Problem(404, "the job or its event is not kept any more")
    if done == "refused":
        raise Problem(409, "the webhook is disabled, or too much waits to be delivered to it")
    return Response(status=202)


def submitted_target(here: Context, wanted: WebhookTarget) -> Target:
    """Return where a submission has its events sent, and make its host's webhook. Raises Problem."""
    _check(here, wanted.url, "/webhook/url")
    host = _host_of(wanted.url)
    try:
        here.store.webhooks.ensure_host(caller().owner, host)
    except TooManyWebhooks:
        raise _too_many() from None
    return Target(host, wanted.url, wanted.events)


def target_of(page: JobPage) -> Target | None:
    """Return where the submission of a job had its events sent."""
    url = page.fields.get(b"_hook_url", b"").decode()
    return Target(_host_of(url), url, page.fields[b"_hook_events"].decode().split()) if url else None


def _check(here: Context, url: str, pointer: str) -> None:
    try:
        check(url, here.settings.webhook_allow)
    except Refused as error:
        raise Problem(422, f"{pointer}: {error}", errors=[(pointer, str(error))]) from None


def _find(name: str) -> Webhook:
    _whole_owner()
    found = context().store.webhooks.get(caller().owner, name)
    if found is None:
        raise _absent(name)
    return found


def _whole_owner() -> None:
    """Check that the caller is not restricted to some jobs or groups. Raises Problem (403)."""
    caller().check_group(None)


def _absent(name: str) -> Problem:
    return Problem(404, f"there is no webhook {name[:64]!r}")


def _too_many() -> Problem:
    return Problem(
        422,
        f"an owner has up to {MAX_WEBHOOKS} webhooks, one for each host that submissions name among them; "
        "remove one first",
    )


def _shown(webhook: Webhook) -> dict[str, object]:
    return {name: getattr(webhook, name) for name in WebhookAnswer.model_fields}
