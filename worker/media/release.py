"""Whether an ffmpeg has publicly known vulnerabilities."""

from __future__ import annotations

import re
import subprocess

FIXED = {5: (5, 1, 10), 6: (6, 1, 6), 7: (7, 1, 5), 8: (8, 1, 2)}
"""By series, the release that fixed the last known vulnerability (CVE-2026-8461, "PixelSmash"). Series
older than these are no longer maintained."""
_TIMEOUT_S = 30.0


def warning(path: str) -> str | None:
    """Return what to tell an operator of the ffmpeg at this path; None if it is recent, or does not say."""
    try:
        ran = subprocess.run(
            [path, "-version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = parse(ran.stdout)
    if version is None or not is_old(version):
        return None
    fixed = ", ".join(".".join(map(str, release)) for release in FIXED.values())
    return (
        f"{path} is ffmpeg {'.'.join(map(str, version))}, which has known vulnerabilities, unless your "
        f"distribution has mended them: use {fixed} or newer, "
        "or the one that comes with the requirements"
    )


def parse(text: str) -> tuple[int, ...] | None:
    """Return the release that `ffmpeg -version` names; None for a build from git."""
    found = re.match(r"ff\w+ version n?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return None if found is None else tuple(int(number or 0) for number in found.groups())


def is_old(version: tuple[int, ...]) -> bool:
    """Return whether a release is older than the one of its series that fixed the last known
    vulnerability."""
    series = version[0]
    return version < FIXED[series] if series in FIXED else series < min(FIXED)
