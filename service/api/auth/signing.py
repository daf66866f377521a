"""Signer: texts that only this service can have made, and that no one needs to store.

`hwt1.<kid>.<payload>.<tag>`: `t` for a ticket (`s`: a session, `a`: an attempt), the id of the secret,
JSON, and the HMAC-SHA-256 of all before it; the last two in base64url. SECRET_FILE has a secret on each
line: the first signs, all verify.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from headway.contract.encoding import dumps

log = logging.getLogger(__name__)

Purpose = Literal["t", "s", "a"]
MIN_SECRET_CHARS = 32

_secrets_of: dict[Path, dict[str, bytes]] = {}
"""What was read, by the file. A fork has it too."""


class BadSecret(ValueError):
    """SECRET_FILE cannot be used; the message is one line."""


def reread(path: Path) -> None:
    """Read the file anew. If it cannot be used now, what was read before stays, and a line is logged."""
    try:
        _secrets_of[path] = _read(path)
    except (OSError, ValueError) as error:
        log.error("SECRET_FILE %s cannot be used, and what was read of it before stays: %s", path, error)


class Signer:
    """Reads the file with the first use in a process, and makes it if it is absent."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def sign(self, purpose: Purpose, payload: Mapping[str, Any]) -> str:
        """Return the text; members that are None or empty are left out."""
        kid = next(iter(self._load()))
        text = dumps({name: value for name, value in payload.items() if value not in (None, "")})
        body = f"hw{purpose}1.{kid}.{_encode(text.encode())}"
        return f"{body}.{self._tag(kid, body)}"

    def open(self, purpose: Purpose, token: str) -> dict[str, Any] | None:
        """Return the payload, or None if this service did not sign that for this purpose."""
        body, _, tag = token.rpartition(".")
        parts = body.split(".")
        if len(parts) != 3 or parts[0] != f"hw{purpose}1" or parts[1] not in self._load():
            return None
        # As bytes: compare_digest refuses text that is not ASCII.
        if not hmac.compare_digest(self._tag(parts[1], body).encode(), tag.encode("utf-8", "replace")):
            return None
        payload: dict[str, Any] = json.loads(urlsafe_b64decode(parts[2] + "=" * (-len(parts[2]) % 4)))
        return payload

    def load(self) -> None:
        """Read the file, unless that was done. Raises BadSecret, OSError."""
        self._load()

    def _tag(self, kid: str, body: str) -> str:
        tag = hmac.digest(self._load()[kid], body.encode("utf-8", "replace"), "sha256")
        return _encode(tag)

    def _load(self) -> dict[str, bytes]:
        if self._path not in _secrets_of:
            _secrets_of[self._path] = _read(self._path)
        return _secrets_of[self._path]


def _read(path: Path) -> dict[str, bytes]:
    lines = [line.strip() for line in _text(path).splitlines() if line.strip()]
    if not lines or min(map(len, lines)) < MIN_SECRET_CHARS:
        raise BadSecret(f"it needs a secret of at least {MIN_SECRET_CHARS} characters on each line")
    return {hashlib.sha256(line.encode()).hexdigest()[:8]: line.encode() for line in lines}


def _text(path: Path) -> str:
    """The file's text; several processes that find no file agree on one."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(secrets.token_urlsafe(32) + "\n")
        try:
            os.link(new, path)
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return path.read_text()


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
