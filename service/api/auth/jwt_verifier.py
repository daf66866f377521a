"""JwtVerifier: the caller that a JWT names. One bad detail refuses the whole token.

`jku`, `x5u` and `jwk` in a token are never looked at.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from typing import Any, Protocol

import jwt

from headway.contract.access import OWNER, ROLES
from headway.contract.encoding import dumps
from headway.contract.keys import JOB_ID
from headway.contract.records import is_name
from headway.contract.settings import Settings
from service.api.auth.caller import Caller
from service.api.auth.jwks import FetchedKeys, FileKeys, KeysUnavailable, VerificationKey
from service.api.problems import Problem

LEEWAY_S = 10
MAX_NAMES = 64
"""Entries of a list in the claim `headway`."""
MAX_TOKEN_CHARS = 8192
_TOKEN = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
_TYPES = ("jwt", "at+jwt")
_NOT_OURS = {"crit", "enc", "zip"}
"""What changes how the rest is to be read."""
_MEMBERS = {"owner", "roles", "jobs", "groups"}


class _Keys(Protocol):
    def candidates(self, kid: str | None) -> Any: ...


class JwtVerifier:
    """Raises ValueError or OSError if JWT_KEY_FILE cannot be used."""

    def __init__(self, settings: Settings) -> None:
        self._algorithms = settings.jwt_algorithms.split(",")
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._keys: _Keys
        if settings.jwt_key_file is not None:
            self._keys = FileKeys(settings.jwt_key_file, shared=self._algorithms[0].startswith("HS"))
        else:
            self._keys = FetchedKeys(settings.jwt_jwks_url)

    def caller(self, token: str) -> Caller | None:
        """Return the caller, or None for a token that is not good. Raises Problem (503) if that cannot be
        told because there are no keys."""
        parts = _TOKEN.fullmatch(token)
        if parts is None or len(token) > MAX_TOKEN_CHARS:
            return None
        try:
            header = _decoded(parts[1])
            kid, algorithm = header.get("kid"), header.get("alg")
            # As a media type: RFC 7515, section 4.1.9.
            kind = str(header.get("typ", "JWT")).lower().removeprefix("application/")
            if (
                algorithm not in self._algorithms
                or header.keys() & _NOT_OURS
                or kind not in _TYPES
                or not isinstance(kid, str | None)
            ):
                return None
            for key in self._keys.candidates(kid):
                if key.algorithm in (algorithm, None) and self._verify(token, key, algorithm):
                    return _caller(_decoded(parts[2]))
        except KeysUnavailable:
            raise Problem(
                503,
                "the keys that verify JWTs cannot be had; try again later",
                headers={"Retry-After": "5"},
            ) from None
        except (jwt.PyJWTError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
            pass
        return None

    def _verify(self, token: str, key: VerificationKey, algorithm: str) -> bool:
        jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            issuer=self._issuer,
            audience=self._audience,
            leeway=LEEWAY_S,
            options={"require": ["iss", "aud", "exp", "sub"]},
        )
        return True


def _decoded(text: str) -> dict[str, Any]:
    """The header or the claims. Raises ValueError for what is no object in UTF-8, for a member that is
    there twice, and for numbers and text that JSON has not."""
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    found = json.loads(data.decode(), object_pairs_hook=_once)
    if not isinstance(found, dict):
        raise ValueError("no object")
    dumps(found)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found


def _caller(claims: dict[str, Any]) -> Caller:
    """Return the caller that the claims describe. Raises ValueError unless every detail is as in
    docs/security.md."""
    ours = claims.get("headway")
    if not isinstance(ours, dict) or not ours.keys() <= _MEMBERS:
        raise ValueError("headway")
    owner, subject = ours.get("owner"), claims["sub"]
    if not isinstance(owner, str) or not OWNER.fullmatch(owner):
        raise ValueError("owner")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isprintable():
        raise ValueError("sub")
    # A number in a text, or true, would be taken for one.
    if any(type(claims[name]) not in (int, float) for name in ("exp", "nbf", "iat") if name in claims):
        raise ValueError("a time is no number")
    roles = _names(ours["roles"])
    jobs = _names(ours["jobs"]) if "jobs" in ours else None
    if not roles <= set(ROLES) or not all(JOB_ID.fullmatch(job) for job in jobs or ()):
        raise ValueError("roles or jobs")
    groups = _names(ours["groups"]) if "groups" in ours else None
    return Caller(owner, roles, "jwt", f"sub:{subject}", jobs, groups, float(claims["exp"]) + LEEWAY_S)


def _names(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or len(value) > MAX_NAMES:
        raise ValueError("a list")
    if not all(isinstance(name, str) and is_name(name) for name in value):
        raise ValueError("a name")
    return frozenset(value)
