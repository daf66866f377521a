"""/session: a browser signs in with a bearer credential and is remembered by a cookie."""

from __future__ import annotations

import math
import secrets
import time

from flask import Response, request
from pydantic import BaseModel

from headway.contract.encoding import dumps, rfc3339
from service.api.auth.authentication import grant
from service.api.auth.caller import Caller
from service.api.context import caller, context
from service.api.gate import LOOPBACK
from service.api.operation import Answer, Resource, json_answer
from service.api.problems import Problem

bp = Resource("session", "Access")

SESSION_S = 12 * 3600
"""How long a session lasts, unless its credential expires before."""


class Session(BaseModel):
    """Who asks. `kind` is the credential: `none` (authentication is off), `key`, `jwt` or `session`;
    `expires_at` is null for one that does not expire."""

    owner: str
    roles: list[str]
    kind: str
    expires_at: str | None


def _answer(who: Caller) -> Response:
    expires_at = None if math.isinf(who.expires_at) else rfc3339(round(who.expires_at * 1000))
    body = {"owner": who.owner, "roles": sorted(who.roles), "kind": who.kind, "expires_at": expires_at}
    return json_answer(dumps(body))


@bp.operation("GET", "/session", answers={200: Answer.json("who asks", Session)}, store=False)
def get_session() -> Response:
    """Who the caller is, and what it may do."""
    return _answer(caller())


@bp.operation(
    "POST",
    "/session",
    answers={200: Answer.json("signed in", Session, **{"Set-Cookie": "the session's cookie"})},
    problems={400: "the connection is neither https nor loopback", 409: "authentication is off"},
    store=False,
)
def sign_in() -> Response:
    """Sign in with a bearer credential. Later requests of the browser carry the cookie instead."""
    who = caller()
    authentication = context().authentication
    if not authentication.required:
        raise Problem(409, "authentication is off (AUTH=none): there is nothing to sign in to")
    secure = request.scheme == "https"
    if not secure and request.host.rpartition(":")[0] not in LOOPBACK and request.host not in LOOPBACK:
        raise Problem(400, "a session needs https; have the proxy set X-Forwarded-Proto")
    if who.kind == "session":
        return _answer(who)
    payload = grant(who, sorted(who.roles), time.time() + SESSION_S)
    payload["sid"] = secrets.token_urlsafe(12)
    response = _answer(who)
    response.set_cookie(
        authentication.cookie_name(request.environ),
        authentication.signer.sign("s", payload),
        max_age=math.ceil(payload["exp"] - time.time()),
        secure=secure,
        httponly=True,
        samesite="Strict",
    )
    return response


@bp.operation("DELETE", "/session", answers={204: Answer("signed out")})
def sign_out() -> Response:
    """Sign out: the session ends, and so do its streams and tickets within a minute."""
    here = context()
    payload = here.authentication.signer.open("s", here.authentication.cookie(request.environ))
    if payload is not None:
        here.store.access.revoke_session(payload["sid"], payload["exp"])
        here.authentication.keys.refresh()
    response = Response(status=204)
    response.delete_cookie(
        here.authentication.cookie_name(request.environ),
        secure=request.scheme == "https",
        httponly=True,
        samesite="Strict",
    )
    return response
