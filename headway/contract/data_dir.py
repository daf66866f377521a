"""DATA_DIR: what Headway keeps there, and that nobody else can read it."""

from __future__ import annotations

import errno
import grp
import os
import stat
from contextlib import suppress
from pathlib import Path

UPLOADS = "uploads"
ARTIFACTS = "artifacts"
WORK = "work"
VALKEY = "valkey"
DEMO = "demo"
RUN_LOCK = "run.lock"
FILES = (UPLOADS, ARTIFACTS)
SHARED = (*FILES, WORK)
"""The directories that web and workers both use."""
OURS = frozenset({*SHARED, VALKEY, DEMO, RUN_LOCK, "secret", "keys", "token"})
"""All that Headway makes at the top of DATA_DIR: never an input of a job by its path."""


def readable_by_jobs(below: Path) -> bool:
    """Return whether a job may read a file of DATA_DIR by its path there. What Headway keeps, and what is
    hidden, is nobody's input: uploads and artifacts have references of their own, which know whose they
    are."""
    return below.parts[0].casefold() not in OURS and not any(part.startswith(".") for part in below.parts)


def gid_of(group: str) -> int:
    """Return the id of a group given by name or number. Raises KeyError."""
    return int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid


def protect(data_dir: Path, group: str = "", *, files: Path | None = None) -> None:
    """Close all that this process makes from here on to other users, and what Headway made before.

    `files` is the directory of uploads and artifacts, if they are in one (FILES_URL), by default DATA_DIR.

    With a group (DATA_GROUP) its members can read and write the directories that web and workers share.
    Raises OSError if this user may not give files to that group or one of the two is no directory (there
    need be none yet), KeyError if there is no such group.
    """
    for directory in (data_dir, files or data_dir):
        with suppress(FileNotFoundError):
            if not stat.S_ISDIR(directory.stat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
    os.umask(0o007 if group else 0o077)
    shared = [(data_dir if files is None else files) / name for name in FILES] + [data_dir / WORK]
    if group:
        gid = gid_of(group)
        for path in shared:
            path.mkdir(parents=True, exist_ok=True)
            if path.stat().st_uid == os.geteuid():
                os.chown(path, -1, gid)
                # setgid: what is made inside belongs to the group too.
                path.chmod(0o2770)
    else:
        for path in (*shared, data_dir / DEMO):
            if path.is_dir() and path.stat().st_uid == os.geteuid():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o077)
