"""Scrambled: how much of a transport stream is encrypted. ffmpeg leaves such packets out without a word."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from worker.media.torn import TS_PACKETS

_SPOT = 1 << 18
"""Bytes that are looked at in one place."""
_SPOTS = 64
_SYNC = 0x47
_BEGINS, _PID = 0x40, 0x1FFF
_SCRAMBLED, _ADAPTED = 0xC0, 0x20
_START_CODE = b"\0\0\1"


def scrambled_shares(path: Path) -> dict[int, float]:
    """Return by PID the share (0 to 1) of what begins in its packets that is scrambled. A larger file is
    looked at in places."""
    size = path.stat().st_size
    step = max(_SPOT, size // _SPOTS)
    begun: Counter[int] = Counter()
    scrambled: Counter[int] = Counter()
    with path.open("rb") as file:
        for at in range(0, size, step):
            file.seek(at)
            for packet in _packets(file.read(_SPOT)):
                if not packet[1] & _BEGINS:
                    continue
                pid = int.from_bytes(packet[1:3], "big") & _PID
                payload = 4 + (1 + packet[4] if packet[3] & _ADAPTED else 0)
                begun[pid] += 1
                # Some programs that decrypt leave the flag as it was.
                scrambled[pid] += (
                    packet[3] & _SCRAMBLED > 0 and packet[payload : payload + 3] != _START_CODE
                )
    return {pid: scrambled[pid] / count for pid, count in begun.items()}


def _packets(data: bytes) -> list[bytes]:
    """Return the packets of 188 bytes in a piece of a file, wherever it begins."""
    for length in TS_PACKETS:
        for at in range(length):
            marks = data[at : at + 8 * length : length]
            if len(marks) > 4 and all(mark == _SYNC for mark in marks):
                return [data[start : start + 188] for start in range(at, len(data) - 187, length)]
    return []
