"""Whether there is room for more: below MIN_FREE_BYTES nothing new is taken, and live work goes on."""

from __future__ import annotations

import shutil
from pathlib import Path


def free_bytes(data_dir: Path) -> int:
    """Return how many bytes may still be written below DATA_DIR, whether it exists yet or not."""
    while not data_dir.exists() and data_dir != data_dir.parent:
        data_dir = data_dir.parent
    return shutil.disk_usage(data_dir).free


def lacks_room(data_dir: Path, min_free_bytes: int, wanted: int = 0) -> bool:
    """Return whether less than `min_free_bytes` would be left after writing `wanted` bytes."""
    return free_bytes(data_dir) - wanted < min_free_bytes
