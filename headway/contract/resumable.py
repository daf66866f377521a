"""ResumableUploads: uploads that are coming in, in parts, by any web process: how far each is, who writes.

What has come is among the files (headway/contract/files.py). The store holds the offset up to which it
counts, and the token of the one writer that may move it: a client that comes back has another take over,
and what the old one still writes does not count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from headway.contract.database import Database
from headway.contract.encoding import dumps

MAX_PIECES = 4000
"""Most names of pieces in one call of a script: Lua's stack holds 8,000 values."""


class UploadGone(Exception):
    """There is no such upload: it never was, is complete, was removed or has expired."""


class UploadMoved(Exception):
    """The upload is at another offset."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"it is at {offset}")
        self.offset = offset


class WriterReplaced(Exception):
    """Another request writes this upload now."""


@dataclass(frozen=True, slots=True)
class Coming:
    """An upload that is not complete."""

    id: str
    length: int
    offset: int
    name: str
    media_type: str
    metadata: str
    """`Upload-Metadata` as its client sent it."""
    expires_ms: float
    groups: tuple[str, ...] | None = None
    """As of headway.contract.uploads.Upload."""


class ResumableUploads:
    """Every method raises redis.RedisError when the store cannot be reached. An owner sees its own."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(self, owner: str, new: Coming, ttl_s: float) -> float:
        """Register an upload that is about to come in. Returns when it expires, in ms since 1970."""
        facts = {
            "length": new.length,
            "name": new.name,
            "media_type": new.media_type,
            "metadata": new.metadata,
        }
        if new.groups is not None:
            facts["groups"] = dumps(new.groups)
        flat = [part for fact in facts.items() for part in fact]
        return self._run("create", owner, new.id, ttl_s, f"{new.id} {new.length}", *flat)[1]

    def get(self, owner: str, upload_id: str) -> Coming | None:
        key = self._db.keys.upload(owner, upload_id)
        with self._db.at(key).pipeline(transaction=False) as pipe:
            pipe.hmget(key, ["length", "offset", "name", "media_type", "metadata", "groups"])
            pipe.pttl(key)
            values, left_ms = cast(tuple[list[bytes | None], int], tuple(pipe.execute()))
        *facts, groups = values
        if None in facts:
            return None
        length, offset, name, kind, metadata = (cast(bytes, fact).decode() for fact in facts)
        expires_ms = self._db.now_ms(key) + left_ms
        scope = None if groups is None else tuple(json.loads(groups))
        return Coming(upload_id, int(length), int(offset), name, kind, metadata, expires_ms, scope)

    def begin(self, owner: str, upload_id: str, offset: int, token: str, ttl_s: float) -> None:
        """Become its writer. Raises UploadGone, UploadMoved."""
        self._run("begin", owner, upload_id, ttl_s, offset, token)

    def advance(
        self,
        owner: str,
        upload_id: str,
        offset: int,
        token: str,
        size: int,
        pieces: Sequence[str],
        ttl_s: float,
    ) -> float:
        """Count what the writer has written at the offset. Returns when the upload expires, in ms since
        1970. Raises UploadGone, UploadMoved, WriterReplaced."""
        assert len(pieces) <= MAX_PIECES  # noqa: S101
        return self._run("advance", owner, upload_id, ttl_s, offset, token, size, *pieces)[1]

    def pieces(self, owner: str, upload_id: str) -> list[str]:
        """Return the names of the pieces that count, in order. Raises UploadGone."""
        upload, pieces, _ = self._keys(owner, upload_id)
        with self._db.at(upload).pipeline(transaction=True) as pipe:
            pipe.exists(upload)
            pipe.lrange(pieces, 0, -1)
            there, found = cast(tuple[int, list[bytes]], tuple(pipe.execute()))
        if not there:
            raise UploadGone
        return [name.decode() for name in found]

    def forget(self, owner: str, upload: Coming) -> None:
        self._run("forget", owner, upload.id, 0, f"{upload.id} {upload.length}")

    def announced(self, owner: str) -> int:
        """Return how many bytes the owner's incomplete uploads will have together."""
        key = self._db.keys.uploading(owner)
        members = self._db.at(key).zrange(key, self._db.now_ms(key), math.inf, byscore=True)
        return sum(int(member.rpartition(b" ")[2]) for member in cast(list[bytes], members))

    def _keys(self, owner: str, upload_id: str) -> list[str]:
        keys = self._db.keys
        upload = keys.upload(owner, upload_id)
        return [upload, upload + ":pieces", keys.uploading(owner)]

    def _run(self, action: str, owner: str, upload_id: str, ttl_s: float, *args: Any) -> tuple[int, float]:
        reply = self._db.run("upload", self._keys(owner, upload_id), [action, round(ttl_s * 1000), *args])
        match reply:
            case [b"ok", offset, ends]:
                return int(offset), float(ends)
            case [b"offset", offset]:
                raise UploadMoved(int(offset))
            case [b"lost"]:
                raise WriterReplaced
        raise UploadGone
