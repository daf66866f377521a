"""Who may use the service: API keys and revoked sessions, as the store keeps them.

A key is `hw_<id>_<secret>`. Of the secret only a hash is kept: it is 256 random bits, so a fast hash is
enough. Every change counts `version` up, by which the service notices that its copy is out of date.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

from redis.client import Pipeline

from headway.contract.database import Database
from headway.contract.encoding import dumps

ROLES = ("read", "submit", "cancel", "work", "ops", "ops:all")
"""`ops:all` extends all other roles to the jobs of every owner."""
OWNER = re.compile(r"[A-Za-z0-9._~-]{1,64}")


def check_owner(owner: str) -> None:
    """Check that a text can be an owner's name. Raises ValueError."""
    if not isinstance(owner, str) or not OWNER.fullmatch(owner):
        raise ValueError(f"{owner!r} is not an owner: 1 to 64 of A-Z a-z 0-9 . _ ~ -")


LOCAL = "local"
"""The only owner there is without authentication."""
REFRESH_S = 1.0
"""How often the service looks for changes."""
LOGGED = 1000
"""Most changes of keys that are kept until a web process has recorded them."""
_TOKEN = re.compile(r"hw_([A-Za-z0-9]{8})_([A-Za-z0-9_-]{43})")


class UnknownKey(LookupError):
    """There is no key with this id."""


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, without its secret. Times are seconds since 1970; `expires_at` may be None."""

    id: str
    owner: str
    roles: tuple[str, ...]
    label: str
    created_at: float
    expires_at: float | None
    hash: str

    def opens_with(self, secret: str) -> bool:
        return hmac.compare_digest(self.hash, _hash(secret))


@dataclass(frozen=True, slots=True)
class Snapshot:
    version: int
    keys: dict[str, Key]
    revoked_sessions: frozenset[str]


class Access:
    """`by` is who changes a key, for the audit log. Every method raises redis.RedisError when the store
    cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._keys = database.keys
        self._redis = database.at(self._keys.api_keys)

    def create(
        self,
        owner: str,
        roles: Iterable[str],
        *,
        expires_s: float | None = None,
        label: str = "",
        by: str = "",
    ) -> tuple[Key, str]:
        """Make a key. Returns it and its text, which cannot be had again.

        Raises ValueError for an owner or role that is not valid.
        """
        roles = tuple(dict.fromkeys(roles))
        check_owner(owner)
        if not roles or set(roles) - set(ROLES):
            raise ValueError(f"the roles are some of {', '.join(ROLES)}")
        secret = secrets.token_urlsafe(32)
        now = time.time()
        key_id = "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(8))
        expires_at = None if expires_s is None else now + expires_s
        key = Key(key_id, owner, roles, label, now, expires_at, _hash(secret))
        with self._changing("create_key", by, key) as pipe:
            self._put(pipe, key)
        return key, f"hw_{key.id}_{secret}"

    def rotate(self, key_id: str, *, grace_s: float, by: str = "") -> tuple[Key, str]:
        """Make a key like this one, which itself works for `grace_s` more. Raises UnknownKey."""
        old = self.snapshot().keys.get(key_id)
        if old is None:
            raise UnknownKey(key_id)
        lasts_s = None if old.expires_at is None else old.expires_at - old.created_at
        made = self.create(old.owner, old.roles, expires_s=lasts_s, label=old.label, by=by)
        ends = min(time.time() + grace_s, old.expires_at or float("inf"))
        with self._changing("rotate_key", by, old) as pipe:
            self._put(pipe, Key(**{**asdict(old), "expires_at": ends}))
        return made

    def revoke(self, key_id: str, *, by: str = "") -> None:
        """Remove a key, and with it the sessions and tickets made with it. Raises UnknownKey."""
        old = self.snapshot().keys.get(key_id)
        if old is None:
            raise UnknownKey(key_id)
        with self._changing("revoke_key", by, old) as pipe:
            pipe.hdel(self._keys.api_keys, key_id)

    def take_changes(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the oldest changes of keys that nobody has taken yet, and forget them."""
        taken = cast("list[bytes] | None", self._redis.lpop(self._keys.access_log, limit))
        return [json.loads(line) for line in taken or ()]

    def revoke_session(self, session_id: str, expires_at: float) -> None:
        """Refuse a session from now on; it is remembered until the session would have expired."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.zremrangebyscore(self._keys.revoked_sessions, "-inf", time.time())
            pipe.zadd(self._keys.revoked_sessions, {session_id: expires_at})
            pipe.incr(self._keys.access_version)
            pipe.execute()

    def keep_list(self, jobs: Sequence[str], ttl_s: float) -> str:
        """Keep the jobs of a ticket that has no room for them. Returns the name of the list."""
        name = secrets.token_urlsafe(16)
        self._redis.set(self._keys.job_list(name), dumps(list(jobs)), px=round(ttl_s * 1000))
        return name

    def job_list(self, name: str) -> list[str]:
        """Return a list that was kept; nothing after its time."""
        found: list[str] = json.loads(self._redis.get(self._keys.job_list(name)) or "[]")
        return found

    def version(self) -> int:
        return int(self._redis.get(self._keys.access_version) or 0)

    def snapshot(self) -> Snapshot:
        """Return everything, as it is at one moment."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(self._keys.access_version)
            pipe.hgetall(self._keys.api_keys)
            pipe.zrangebyscore(self._keys.revoked_sessions, time.time(), "+inf")
            version, keys, sessions = pipe.execute()
        found = [json.loads(text) for text in keys.values()]
        return Snapshot(
            int(version or 0),
            {key["id"]: Key(**{**key, "roles": tuple(key["roles"])}) for key in found},
            frozenset(session.decode() for session in sessions),
        )

    @contextmanager
    def _changing(self, action: str, by: str, key: Key) -> Iterator[Pipeline]:
        """A transaction that changes a key, with what it owes to the service and to the audit log."""
        line = {"at": time.time(), "who": by, "owner": key.owner, "action": action, "key": key.id}
        with self._redis.pipeline(transaction=True) as pipe:
            yield pipe
            pipe.incr(self._keys.access_version)
            pipe.rpush(self._keys.access_log, dumps({**line, "roles": list(key.roles)}))
            pipe.ltrim(self._keys.access_log, -LOGGED, -1)
            pipe.execute()

    def _put(self, pipe: Pipeline, key: Key) -> None:
        pipe.hset(self._keys.api_keys, key.id, dumps(asdict(key)))


def split_token(token: str) -> tuple[str, str] | None:
    """Return a key's id and its secret, or None for a text that is no API key."""
    found = _TOKEN.fullmatch(token)
    return None if found is None else (found[1], found[2])


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
