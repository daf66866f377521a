"""What a file is, by its name."""

from __future__ import annotations

import mimetypes
from pathlib import PurePosixPath

_OURS = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".m4a": "audio/mp4",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".ts": "video/mp2t",
    ".webm": "video/webm",
}
"""What the machine's own table lacks or has otherwise: of `.ts`, that it is a text."""


def media_type_of(name: str) -> str:
    """Return the media type of a file of this name; `application/octet-stream` for an unknown suffix."""
    found = _OURS.get(PurePosixPath(name).suffix) or mimetypes.guess_type(name)[0]
    return found or "application/octet-stream"
