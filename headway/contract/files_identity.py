"""Whether these files are the ones that the other hosts of this service use, too.

A file beside the artifacts holds an id, and so does the store. Two hosts that share a store but not their
disks differ in it.
"""

from __future__ import annotations

import secrets
from typing import cast

from headway.contract.data_dir import ARTIFACTS
from headway.contract.files import Files
from headway.contract.store import JobStore

MARKER = f"{ARTIFACTS}/.store"


def identity_problem(files: Files, store: JobStore) -> str:
    """Return "" if these are the store's files, else what is wrong, for people.

    The first to look writes the id into both. Raises FilesUnavailable, another OSError, redis.RedisError.
    """
    key = store.keys.files_id
    # In this order: the file is there before the store knows its id.
    redis = store.database.at(key)
    known = cast(bytes | None, redis.get(key))
    here = files.read(MARKER)
    if known is None:
        if here is None:
            files.create(MARKER, secrets.token_hex(16).encode())
            here = files.read(MARKER)
        redis.set(key, here or b"", nx=True)
        known = cast(bytes | None, redis.get(key))
    if here is not None and here == known:
        return ""
    return (
        f"the files here ({'another id' if here else 'no id'} in {MARKER}) are not those that this Redis "
        "belongs to: all hosts need the same FILES_URL, and with file:// the same shared directory; if the "
        f"files are gone or were moved on purpose, delete the key {key} in Redis"
    )
