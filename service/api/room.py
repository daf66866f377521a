"""Whether there is room for more: below MIN_FREE_BYTES nothing new is taken, and live work goes on."""

from __future__ import annotations

from headway.contract.files import Files


def lacks_room(files: Files, min_free_bytes: int, wanted: int = 0) -> bool:
    """Return whether less than `min_free_bytes` would be left after writing `wanted` bytes. An object
    storage always has room."""
    free = files.free_bytes()
    return free is not None and free - wanted < min_free_bytes
