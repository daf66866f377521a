"""Authentication: the one place that decides who asks, for Flask's views and the way around them alike."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import unquote_plus
from wsgiref.types import WSGIEnvironment

from headway.contract.access import Key
from headway.contract.settings import Settings
from headway.contract.store import JobStore
from service.api.auth.caller import LOCAL_CALLER, Caller, Held
from service.api.auth.key_table import KeyTable
from service.api.auth.roles import check_role
from service.api.auth.signing import Signer
from service.api.problems import Problem

CALLER = "headway.caller"
"""In the environ: the Caller of a request whose role was checked."""
_ATTEMPT = re.compile(r"bearer\s+hwa1\.", re.IGNORECASE)
_TICKET = re.compile(r"(?:^|&)ticket=([^&]*)")
CACHED = 20_000
"""Credentials that are not verified again until they expire or are revoked."""


class Authentication:
    """With AUTH=none every caller is LOCAL_CALLER; no credential but an attempt's token is looked at."""

    def __init__(self, settings: Settings, store: JobStore) -> None:
        self._access = store.access
        self._modes = frozenset(settings.auth.split(","))
        self._port = settings.port
        self.keys = KeyTable(store.access)
        self.signer = Signer(settings.signing_secrets)
        self._jwt = self._jwt_verifier(settings) if "jwt" in self._modes else None
        self._known: dict[bytes, Caller] = {}

    @property
    def required(self) -> bool:
        return self._modes != {"none"}

    def start(self) -> None:
        if self.required:
            self.keys.start()

    def authorize(self, environ: WSGIEnvironment, route: str) -> Caller:
        """Return who asks, for a route that is not public.

        Raises Problem: 400, 401, or 403 if the caller lacks the route's role; RedisError if the API keys
        could never be read.
        """
        caller = self.caller(environ)
        environ[CALLER] = caller
        check_role(caller, route)
        return caller

    def caller(self, environ: WSGIEnvironment) -> Caller:
        """Return who asks. Raises like `authorize`."""
        if not self.required:
            token = environ.get("HTTP_AUTHORIZATION", "")
            return self._resolve(_bearer(environ)) if _ATTEMPT.match(token) else LOCAL_CALLER
        found = [self._resolve(token) for token in (_bearer(environ), _ticket(environ)) if token]
        cookie = self.cookie(environ)
        if cookie:
            # A browser sends it along, so an old one must not spoil what was given on purpose.
            session = self._remembered(cookie, self._session)
            if session is not None:
                found.insert(1 if _bearer(environ) else 0, session)
        if not found:
            raise _unauthorized("the session has ended; sign in again" if cookie else "")
        # A session or ticket has the name of the key or token that it was made with.
        if len({(caller.owner, caller.name) for caller in found}) > 1:
            raise Problem(400, "the request has two different credentials; send one")
        return found[0]

    def cookie_name(self, environ: WSGIEnvironment) -> str:
        """The session's cookie. Cookies are shared by all ports of a host, and `__Host-` needs https."""
        return "__Host-headway" if environ["wsgi.url_scheme"] == "https" else f"headway-{self._port}"

    def cookie(self, environ: WSGIEnvironment) -> str:
        """The text of the session's cookie, empty without one."""
        # Beside it are those of other services of the host, which may hold anything but a semicolon.
        pairs = (part.partition("=") for part in environ.get("HTTP_COOKIE", "").split(";"))
        wanted = self.cookie_name(environ)
        return next((value.strip() for name, _, value in pairs if name.strip() == wanted), "")

    def _resolve(self, token: str) -> Caller:
        caller = self._remembered(token, self._by_token)
        if caller is None:
            raise _unauthorized("the credential is unknown, expired or revoked")
        return caller

    def _remembered(self, token: str, resolve: Any) -> Caller | None:
        # A cookie is no bearer credential, nor the other way round.
        kind = "cookie" if resolve == self._session else "token"
        digest = hashlib.sha256(f"{kind} {token}".encode("utf-8", "replace")).digest()
        caller: Caller | None = self._known.get(digest)
        if caller is None or not caller.valid():
            caller = resolve(token)
            if caller is None or not caller.valid():
                self._known.pop(digest, None)
                return None
            if len(self._known) >= CACHED:
                self._known.clear()
            self._known[digest] = caller
        return caller

    def _by_token(self, token: str) -> Caller | None:
        if token.startswith("hwt1."):
            return self._signed(self.signer.open("t", token), "ticket")
        if token.startswith("hwa1."):
            return self._signed(self.signer.open("a", token), "attempt")
        if "keys" in self._modes and token.startswith("hw_"):
            key = self.keys.opened_by(token)
            return None if key is None else self._of_key(key)
        return self._jwt.caller(token) if self._jwt is not None else None

    @staticmethod
    def _jwt_verifier(settings: Settings) -> Any:
        # PyJWT is an extra.
        from service.api.auth.jwt_verifier import JwtVerifier

        return JwtVerifier(settings)

    def _session(self, token: str) -> Caller | None:
        return self._signed(self.signer.open("s", token), "session")

    def _of_key(self, key: Key) -> Caller:
        return Caller(
            key.owner,
            frozenset(key.roles),
            "key",
            f"key:{key.id}",
            expires_at=key.expires_at or float("inf"),
            key_id=key.id,
            revoked=lambda: self.keys.key(key.id) is None,
        )

    def _signed(self, payload: dict[str, Any] | None, kind: str) -> Caller | None:
        """The caller that a ticket or session stands for; `grant` made its payload."""
        if payload is None:
            return None
        key_id, session_id = payload.get("key", ""), payload.get("sid", "")

        def revoked() -> bool:
            return bool(key_id and self.keys.key(key_id) is None) or bool(
                session_id and self.keys.is_revoked(session_id)
            )

        return Caller(
            payload["owner"],
            frozenset(payload["roles"]),
            kind,
            payload["name"],
            _set(self._access.job_list(payload["list"]) if "list" in payload else payload.get("jobs")),
            _set(payload.get("groups")),
            payload["exp"],
            key_id,
            session_id,
            revoked,
            Held(**payload["held"]) if "held" in payload else None,
        )


def grant(caller: Caller, roles: list[str], expires_at: float) -> dict[str, Any]:
    """Return the payload of a ticket or session that `caller` asks for."""
    return {
        "owner": caller.owner,
        "roles": roles,
        "name": caller.name,
        "exp": round(min(expires_at, caller.expires_at), 3),
        "key": caller.key_id,
        "sid": caller.session_id,
        "jobs": None if caller.jobs is None else sorted(caller.jobs),
        "groups": None if caller.groups is None else sorted(caller.groups),
    }


def _set(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _bearer(environ: WSGIEnvironment) -> str:
    """The token of the Authorization header, empty without one. Raises Problem if it is no Bearer."""
    header: str = environ.get("HTTP_AUTHORIZATION", "").strip()
    if not header:
        return ""
    scheme, _, token = header.partition(" ")
    token = token.strip()
    # Two headers arrive as one, with a comma between them.
    if "," in token:
        raise Problem(400, "the request has more than one Authorization header; send one")
    if scheme.lower() != "bearer" or not token or not token.isascii() or " " in token:
        raise _unauthorized("the Authorization header is not `Bearer <key or token>`")
    return token


def _ticket(environ: WSGIEnvironment) -> str:
    query: str = environ.get("QUERY_STRING", "")
    if "ticket=" not in query or environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return ""
    given = _TICKET.findall(query)
    if len(given) > 1:
        raise Problem(400, "the query has more than one `ticket`; send one")
    return unquote_plus(given[0]) if given else ""


def _unauthorized(detail: str) -> Problem:
    return Problem(
        401,
        detail or "this needs a credential: send `Authorization: Bearer <key or token>`",
        headers={
            "WWW-Authenticate": 'Bearer realm="headway"' + (', error="invalid_token"' if detail else "")
        },
    )
