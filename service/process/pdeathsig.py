"""Processes that do not outlive whoever started them."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import partial

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def dies_with_us(signum: int) -> partial[None]:
    """A preexec_fn: the process gets `signum` when the *thread* that started it has gone, so start it
    from one that stays. Linux; elsewhere nothing happens."""
    return partial(_die_with_parent, signum, os.getpid())


def _die_with_parent(signum: int, parent: int) -> None:
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signum)
        if os.getppid() != parent:  # it went before prctl
            os._exit(1)
