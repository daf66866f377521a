"""The keys that JWTs are verified with: from JWT_KEY_FILE, or from JWT_JWKS_URL by a fetch with bounds.

The address comes from the settings alone, never from a token. Tokens with unknown key ids, however many,
cause one fetch in COOL_DOWN_S.
"""

from __future__ import annotations

import http.client
import json
import logging
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt

from service.scheduling import outgoing

log = logging.getLogger(__name__)

FETCH_S = 5.0
MAX_BYTES = 256 * 1024
MAX_KEYS = 32
FRESH_S = 600.0
COOL_DOWN_S = 30.0
STALE_S = 86_400.0
"""How long keys that could not be fetched again go on working."""


class KeysUnavailable(Exception):
    """The keys could not be had, so nothing can be said about a token."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    id: str | None
    algorithm: str | None
    """The only algorithm it is for, if it says so."""
    key: Any


_keys_of: dict[Path, list[VerificationKey]] = {}
"""What was read, by the file. A fork has it too."""


def reread(path: Path, *, shared: bool) -> None:
    """Read the file anew. If it cannot be used now, what was read before stays, and a line is logged."""
    try:
        _keys_of[path] = _read(path, shared=shared)
    except (OSError, ValueError) as error:
        log.error("JWT_KEY_FILE %s cannot be used, and what was read of it before stays: %s", path, error)


class FileKeys:
    """A PEM public key, a JWK or JWKS, or for HS algorithms a secret. Reads the file with the first use in
    a process."""

    def __init__(self, path: Path, *, shared: bool) -> None:
        if path not in _keys_of:
            _keys_of[path] = _read(path, shared=shared)
        self._keys = _keys_of[path]

    def candidates(self, kid: str | None) -> Iterable[VerificationKey]:
        """Return the keys that a token may be signed with."""
        return _named(self._keys, kid)


def _read(path: Path, *, shared: bool) -> list[VerificationKey]:
    text = path.read_bytes().strip()
    if shared:
        if len(text) < 32:
            raise ValueError("is shorter than 32 bytes")
        return [VerificationKey(None, None, text)]
    if text.startswith(b"{"):
        document = json.loads(text)
        return parse_jwks(document if "keys" in document else {"keys": [document]})
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    return [VerificationKey(None, None, load_pem_public_key(text))]


class FetchedKeys:
    """Safe for threads. A fetch blocks the request that causes it, not the event loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._keys: list[VerificationKey] = []
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")

    def candidates(self, kid: str | None) -> Iterable[VerificationKey]:
        """Return the keys that a token may be signed with. Raises KeysUnavailable."""
        found = _named(self._keys, kid)
        if not found or self._age() > FRESH_S:
            with self._lock:
                found = _named(self._keys, kid)
                due = time.monotonic() - self._tried_at > COOL_DOWN_S
                if due and (not found or self._age() > FRESH_S):
                    self._fetch()
                    found = _named(self._keys, kid)
        if self._age() > STALE_S:
            raise KeysUnavailable
        return found

    def _age(self) -> float:
        return time.monotonic() - self._fetched_at

    def _fetch(self) -> None:
        self._tried_at = time.monotonic()
        try:
            self._keys = parse_jwks(json.loads(fetch(self._url)))
            self._fetched_at = time.monotonic()
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            log.warning("the keys at JWT_JWKS_URL cannot be read: %s", error or type(error).__name__)


def fetch(url: str) -> bytes:
    """Return the body of an address, within FETCH_S and MAX_BYTES; redirects are not followed.

    Raises OSError, http.client.HTTPException, ValueError.
    """
    parts = urlsplit(url)
    secure, host = parts.scheme == "https", parts.hostname or ""
    port = parts.port or (443 if secure else 80)
    deadline = time.monotonic() + FETCH_S
    late = TimeoutError(f"it took longer than {FETCH_S:g} s")
    sock = outgoing.connect(outgoing.resolve(host, port, FETCH_S), port, deadline)
    connection = http.client.HTTPConnection(host, port)
    try:
        with outgoing.shut_at(deadline, sock):
            sock.settimeout(FETCH_S)
            if secure:
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
            connection.sock = sock
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"Host": parts.netloc, "Accept": "application/json"})
            with connection.getresponse() as response:
                if response.status != 200:
                    raise ValueError(f"the answer is {response.status}")
                body = response.read(MAX_BYTES + 1)
    except (OSError, http.client.HTTPException):
        if time.monotonic() >= deadline:
            raise late from None
        raise
    finally:
        connection.close()
        sock.close()
    if time.monotonic() >= deadline:  # it may have been shut in the middle
        raise late
    if len(body) > MAX_BYTES:
        raise ValueError(f"the answer is larger than {MAX_BYTES} bytes")
    return body


def parse_jwks(document: Any) -> list[VerificationKey]:
    """Return the public keys of a JWK set; others in it are left out. Raises ValueError."""
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise ValueError(f"it is no JWK set of up to {MAX_KEYS} keys")
    found = []
    for jwk in keys:
        # A symmetric key that is published is no secret.
        if not isinstance(jwk, dict) or jwk.get("kty") == "oct" or jwk.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(jwk).key
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        found.append(VerificationKey(jwk.get("kid"), jwk.get("alg"), key))
    if not found:
        raise ValueError("it holds no public key")
    return found


def _named(keys: list[VerificationKey], kid: str | None) -> list[VerificationKey]:
    """Return the keys that may have signed a token with this key id: those of that id or of none. A token
    without an id must be signed with the only key."""
    if kid is None:
        return keys if len(keys) == 1 else []
    return [key for key in keys if key.id in (kid, None)]
