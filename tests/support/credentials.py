"""The key that every service of the tests knows, and what a client does with it.

Tests run with authentication unless they say `AUTH="none"`. HEADWAY_TOKEN has the key in it, so that
clients and commands find it as a user's do; tests/conftest.py sees to that.
"""

from __future__ import annotations

import hashlib
import ssl
import time
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt

from headway.contract.access import ROLES, Key
from headway.contract.encoding import dumps
from headway.contract.store import JobStore

OWNER = "local"
_ID, _SECRET = "testtest", "t" * 43
KEY = f"hw_{_ID}_{_SECRET}"
BEARER = {"Authorization": f"Bearer {KEY}"}
LINE = f"Authorization: Bearer {KEY}"
_JWT_SECRET = "s" * 40


def added(ours: Mapping[str, str], given: Mapping[str, str], path: str) -> dict[str, str]:
    """The headers of a request: the given ones, with ours if it has no credential of its own. An empty
    `Authorization` stands for none."""
    has_one = "Authorization" in given or "Cookie" in given or "ticket=" in path
    headers = dict(given) if has_one else {**ours, **given}
    return {name: value for name, value in headers.items() if value or name != "Authorization"}


def admit(store: JobStore, owner: str = OWNER, key_id: str = _ID) -> dict[str, str]:
    """Let the key in: all roles, but for other owners' jobs. Returns the headers that have it. Each owner's
    has an id of its own, of eight letters."""
    roles = tuple(role for role in ROLES if role != "ops:all")
    key = Key(key_id, owner, roles, "the tests'", 0, None, hashlib.sha256(_SECRET.encode()).hexdigest())
    store.database.at(store.keys.api_keys).hset(store.keys.api_keys, key_id, dumps(asdict(key)))
    store.database.at(store.keys.access_version).incr(store.keys.access_version)
    return {"Authorization": f"Bearer hw_{key_id}_{_SECRET}"}


def keys_and_jwts(directory: Path) -> dict[str, str]:
    """The settings of a service that takes keys and the tokens of `jwt_header`."""
    (directory / ".jwt").write_text(_JWT_SECRET)
    return {
        "AUTH": "keys,jwt",
        "JWT_KEY_FILE": str(directory / ".jwt"),
        "JWT_ALGORITHMS": "HS256",
        "JWT_ISSUER": "idp",
        "JWT_AUDIENCE": "headway",
    }


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def jwt_header(owner: str, roles: Iterable[str], expires_s: float = 300, **scope: Any) -> dict[str, str]:
    """The header with a JWT that opens the jobs and groups of the scope, or all."""
    claims = {"iss": "idp", "aud": "headway", "sub": "someone", "exp": time.time() + expires_s}
    rights = {"owner": owner, "roles": list(roles), **scope}
    return bearer(jwt.encode({**claims, "headway": rights}, _JWT_SECRET, "HS256"))


def cookie_name(origin: str) -> str:
    parts = urlsplit(origin)
    return "__Host-headway" if parts.scheme == "https" else f"headway-{parts.port}"


def session(origin: str) -> dict[str, str] | None:
    """Sign in as a browser does; the name and the value of the cookie. None where there is nothing to sign
    in to: no service that listens there, none that knows the key, or one without authentication."""
    request = urllib.request.Request(f"{origin}/session", b"", BEARER, method="POST")
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(request, timeout=30, context=trust) as answer:
            name, _, rest = str(answer.headers["Set-Cookie"]).partition("=")
    except OSError:  # what HTTPError is, too
        return None
    return {"name": name, "value": rest.partition(";")[0]}
