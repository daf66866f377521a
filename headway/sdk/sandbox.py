"""Sandbox: what a subprocess that reads a stranger's file may touch, and how much it may take."""

from __future__ import annotations

import marshal
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Mode = Literal["auto", "require", "off"]
"""The setting SANDBOX: as far as the kernel can; completely, or the program is not started; not at all,
so that programs run with the worker's rights and environment."""

LAUNCHER = str(Path(__file__).with_name("launcher.py"))
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
_TRIAL_S = 30.0
_PT_INTERP = 3
_ELF_SEGMENT = struct.Struct("<I4xQ16xQ")


@dataclass(frozen=True, slots=True)
class Policy:
    """What a worker's operator says of all sandboxes in it, whatever a program's own says; None is no
    limit."""

    mode: Mode = "auto"
    memory_bytes: int | None = None
    """Of each program."""
    output_bytes: int | None = None
    """Of all files that an attempt makes, with or without a sandbox."""

    @property
    def file_bytes(self) -> int | None:
        """Of one file: who writes past it has made too much."""
        return None if self.output_bytes is None else self.output_bytes + 1


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What one program may do: read, write and run what is named here, and nothing else.

    It gets an environment of its own (PATH, HOME, LC_ALL, TMPDIR), no network, no capability, and it
    cannot change modes or owners of files. A limit of None is no limit of ours.
    """

    read: Sequence[Path] = ()
    """Files, and directories with all that is in them."""
    write: Sequence[Path] = ()
    """Directories in which it may make, change and remove files; they can be read too. The first is
    its TMPDIR."""
    run: Sequence[Path] = ()
    """Programs that it may become or start, beside itself."""
    processes: bool = False
    """Whether it may start others. Threads it may always have."""
    memory_bytes: int | None = None
    """Of address space, so rather twice of what it needs than just that."""
    file_bytes: int | None = None
    """Of one file; who writes past it gets SIGXFSZ."""
    cpu_s: int | None = None
    """Of all its threads together; then it is killed."""
    open_files: int = 256

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment that the program gets."""
        temporary = str(self.write[0]) if self.write else "/nonexistent"
        return {
            "PATH": os.defpath,
            "HOME": "/nonexistent",
            "LC_ALL": "C.UTF-8",
            "TMPDIR": temporary,
            # Each thread's arena would take 64 MiB of address space.
            "MALLOC_ARENA_MAX": "2",
            **(more or {}),
        }

    def spec(self, program: str, policy: Policy) -> dict[str, Any]:
        """What the launcher is told, for a program given by its path."""
        programs = list(_with_interpreters([Path(program), *self.run]))
        limits = {
            "RLIMIT_AS": _least(self.memory_bytes, policy.memory_bytes),
            "RLIMIT_FSIZE": _least(self.file_bytes, policy.file_bytes),
            "RLIMIT_CPU": self.cpu_s,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_CORE": 0,
            "RLIMIT_MSGQUEUE": 0,
        }
        libraries = _LIBRARIES if len(programs) > 1 + len(self.run) else ()
        return {
            "require": policy.mode == "require",
            "read": [*map(_real, self.read), *libraries, "/dev/urandom"],
            "write": [*map(_real, self.write), "/dev/null"],
            "run": [*map(_real, programs)],
            "processes": self.processes,
            "limits": {name: value for name, value in limits.items() if value is not None},
        }


def missing() -> list[str]:
    """What this kernel lacks for a whole sandbox: of `no_new_privs`, `landlock` and `seccomp`, tried out
    in a process of its own. All of them elsewhere than on Linux."""
    spec = {
        "parent": os.getpid(),
        "sandbox": {**Sandbox().spec(sys.executable, Policy()), "trial": True},
    }
    trial = subprocess.run(
        launch([], spec), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_TRIAL_S, check=False
    )
    if trial.returncode != 0:
        return ["no_new_privs", "landlock", "seccomp"]
    return trial.stdout.decode().splitlines()


def launch(args: Iterable[str | Path], spec: Mapping[str, Any]) -> list[str]:
    """The command line that has the launcher start a program; `spec` is described there."""
    return [sys.executable, "-I", "-S", LAUNCHER, marshal.dumps(dict(spec)).hex(), *map(str, args)]


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _real(path: Path) -> str:
    # A right is given to what is there, not to where a link may point later.
    return os.path.realpath(path)


def _with_interpreters(programs: Iterable[Path]) -> Iterator[Path]:
    """The programs and what the kernel must run to run them: the interpreter of a script, the loader of
    a dynamic executable."""
    for program in programs:
        yield program
        interpreter = _interpreter(program)
        if interpreter is not None and interpreter != program:
            yield from _with_interpreters([interpreter])


def _interpreter(program: Path) -> Path | None:
    """None for a static executable, and for what is none."""
    try:
        with program.open("rb") as file:
            head = file.read(4096)
            if head.startswith(b"#!"):
                words = head[2:].split(b"\n", 1)[0].split()
                return Path(os.fsdecode(words[0])) if words else None
            if not head.startswith(b"\x7fELF\x02\x01"):
                return None
            table, size, count = (*struct.unpack_from("<Q", head, 32), *struct.unpack_from("<HH", head, 54))
            for entry in range(table, table + size * count, size):
                kind, offset, length = _ELF_SEGMENT.unpack_from(head, entry)
                if kind == _PT_INTERP:
                    file.seek(offset)
                    return Path(os.fsdecode(file.read(length).rstrip(b"\0")))
    except (OSError, struct.error):
        pass
    return None
