"""Run a program that is killed when its parent dies: `python die_with_parent.py <parent pid> program args…`

A program of its own, because setting PR_SET_PDEATHSIG between fork and exec would run Python code in the
fork of a process with threads. The signal is bound to the *thread* that started this program.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the line above, and then no signal comes.
    if os.getppid() != parent:
        os._exit(1)
    try:
        os.execvp(program[0], program)
    except OSError as error:
        sys.stderr.write(f"{program[0]}: {error.strerror}\n")
        os._exit(127)


main()
