"""What is known of an upload: DATA_DIR/uploads/<id>/meta.json, beside its `data`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from headway.contract.access import LOCAL
from headway.contract.data_dir import UPLOADS

_ID = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Upload:
    directory: Path
    owner: str
    name: str


def find_upload(data_dir: Path, upload_id: str) -> Upload | None:
    """Return a complete upload, or None if there is none with this id."""
    directory = data_dir / UPLOADS / upload_id
    if not _ID.fullmatch(upload_id) or not (directory / "data").is_file():
        return None
    try:
        meta = json.loads((directory / "meta.json").read_text())
        # Before there were owners, every upload was local.
        return Upload(directory, str(meta.get("owner", LOCAL)), str(meta["name"]))
    except (OSError, ValueError, LookupError, AttributeError):
        return None
