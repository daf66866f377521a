"""Upload: what a client is told of a file that it has sent."""

from __future__ import annotations

from pathlib import PurePosixPath

from pydantic import BaseModel

from headway.contract.encoding import displayable
from service.api.problems import Problem

MAX_UPLOAD_BYTES = "MAX_UPLOAD_BYTES"
"""The setting."""
MAX_NAME_CHARS = 255


class Upload(BaseModel):
    """An uploaded file; `upload:<id>` is the input of a job."""

    id: str
    name: str
    size: int
    media_type: str


def file_name(given: str) -> str:
    """Return the last part of a path as a file's name. Raises Problem (422)."""
    name = displayable(PurePosixPath(given.replace("\\", "/")).name)
    if not name or name in (".", "..") or len(name) > MAX_NAME_CHARS:
        raise Problem(422, f"a file's name has 1 to {MAX_NAME_CHARS} characters")
    return name
