"""What is known of an upload: uploads/<id>/meta.json, which is written when all of its data is there."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headway.contract.access import LOCAL
from headway.contract.encoding import dumps
from headway.contract.files import Files, upload_key
from headway.contract.media_types import media_type_of

ID = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
DATA = "data"
META = "meta.json"


@dataclass(frozen=True, slots=True)
class Upload:
    id: str
    owner: str
    name: str
    media_type: str
    size: int
    keys: tuple[str, ...]
    """The files whose bytes, one after the other, are the upload's."""
    metadata: str
    """`Upload-Metadata` as its client sent it; "" if it was not sent by tus."""
    groups: tuple[str, ...] | None
    """Those of the restricted credential that it came with, of which another must have all; None: it came
    with one that opens everything of the owner's."""


def find_upload(files: Files, upload_id: str, only: str | None = None) -> Upload | None:
    """Return a complete upload, or None if there is none with this id, or `only` is not its owner. Raises
    FilesUnavailable."""
    if not ID.fullmatch(upload_id):
        return None
    text = files.read(upload_key(upload_id, META))
    try:
        meta = json.loads(text or b"")
        data = upload_key(upload_id, DATA)
        keys = tuple(f"{data}/{piece}" for piece in meta.get("pieces", ())) or (data,)
        # Before there were owners, every upload was local.
        groups = None if meta.get("groups") is None else tuple(map(str, meta["groups"]))
        owner, name, size = str(meta.get("owner", LOCAL)), str(meta["name"]), int(meta.get("size", 0))
    except (ValueError, LookupError, AttributeError, TypeError):
        return None
    if only not in (None, owner):
        return None
    if len(keys) == 1:
        # It may have been removed by hand.
        data_file = files.head(keys[0])
        if data_file is None:
            return None
        size = data_file.size
    kind = str(meta.get("media_type", media_type_of(name)))
    return Upload(upload_id, owner, name, kind, size, keys, str(meta.get("metadata", "")), groups)


def complete_upload(
    files: Files,
    made: dict[str, Any],
    owner: str,
    pieces: Sequence[str] = (),
    groups: Sequence[str] | None = None,
) -> None:
    """Write what makes an upload complete. `made` is what its client is told of it; `pieces` are the names
    that `Files.add` returned, in order."""
    meta = {**made, "owner": owner}
    if groups is not None:
        meta["groups"] = list(groups)
    if named := [piece for piece in pieces if piece]:
        meta["pieces"] = named
    files.write(upload_key(made["id"], META), dumps(meta).encode())
