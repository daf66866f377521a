"""`make run`: Valkey, web and worker as one thing that starts, says when it is ready, and ends.

Valkey starts first and ends last, so that what the others write while they stop is kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from honcho.environ import parse_procfile
from redis import RedisError

from headway.contract.data_dir import RUN_LOCK, VALKEY
from headway.contract.settings import Settings, load_or_exit, protect_data_dir_or_exit
from headway.contract.store import JobStore
from service.process import valkey
from service.process.serve import port_trouble
from service.process.supervisor import Console, Supervisor

GRACE_S = 6.0
"""Seconds from SIGTERM to SIGKILL; with Valkey's stop it stays below the promised ten."""
RECOVERY_S = 10.0
"""Seconds that the leftovers of a killed `make run` have to exit."""
SLOW_S = 15.0
"""Seconds after which it prints what it is still waiting for."""


class CannotStart(Exception):
    """It cannot start; the message is one line with the reason."""


def run(procfile: Path) -> int:
    """Run the processes of `procfile` until a signal asks to stop.

    Returns the exit status: 0 after a signal, 1 if a process ended by itself, 2 if it could not start.
    """
    console = Console(sys.stdout.fileno())
    supervisor = Supervisor(console)
    environ = dict(os.environ)
    embedded = not environ.get("REDIS_URL", "").strip()
    if embedded:
        environ["REDIS_URL"] = "redis://127.0.0.1"  # until its port is known
    settings = load_or_exit(environ)
    protect_data_dir_or_exit(settings)
    environ["DATA_DIR"] = str(settings.data_dir.resolve())
    environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
    environ["PYTHONUNBUFFERED"] = "1"
    try:
        with _only_one(settings) as note, contextlib.ExitStack() as last:
            _await_port(settings, after_a_crash=note.is_left_over)
            if embedded:
                note.await_end_of_valkey()
                redis = valkey.start(settings.data_dir / VALKEY)
                last.callback(redis.stop)
                environ["REDIS_URL"] = redis.url
                settings = settings.model_copy(update={"redis_url": redis.url})
                supervisor.watch("valkey", redis.process)
                note.write(settings.base_url, redis.process.pid)
            else:
                note.write(settings.base_url)
            _start(supervisor, procfile, environ, settings)
            failure = _watch(supervisor, console, settings)
            supervisor.stop(GRACE_S)
            note.clear()
    except (CannotStart, valkey.ValkeyError, OSError) as error:
        print(f"headway: {error}", file=sys.stderr)
        return 2
    if failure:
        print(f"headway: {failure}; everything else was stopped", file=sys.stderr)
        return 1
    return 0


def _start(supervisor: Supervisor, procfile: Path, environ: dict[str, str], settings: Settings) -> None:
    commands = parse_procfile(procfile.read_text()).processes
    if not commands:
        raise CannotStart(f"{procfile} names no process; add a line such as `web: python -m service web`")
    width = max(map(len, commands))
    for name, command in commands.items():
        # A prefix would spoil lines that a machine is to read.
        prefix = b"" if settings.log_format == "json" else f"{name:<{width}} | ".encode()
        cwd = procfile.resolve().parent
        supervisor.start(name, command, env=environ, cwd=cwd, prefix=prefix)


def _watch(supervisor: Supervisor, console: Console, settings: Settings) -> str | None:
    """Pass on output until a signal asks to stop or a process ends by itself. SIGHUP is the web process's,
    which takes it once it is ready.

    Returns None after a signal, else which process ended and how.
    """
    store = JobStore.of(settings, connections=1, timeout_s=1)
    ready = complained = False
    since = time.monotonic()
    while not supervisor.asked_to_stop:
        supervisor.turn(1.0 if ready else 0.1)
        if (ended := supervisor.ended()) is not None and not supervisor.asked_to_stop:
            name, status = ended
            how = f"status {status}" if status >= 0 else f"signal {-status}"
            return f"{name} ended by itself with {how}"
        if ready and supervisor.asked_to_reread:
            supervisor.asked_to_reread = False
            supervisor.pass_on(signal.SIGHUP, "web")
        if not ready:
            missing = _missing(settings, store)
            if missing is None:
                ready = True
                store.redis.close()
                console.line(f"Headway is ready at {settings.base_url}".encode())
            elif not complained and time.monotonic() - since > SLOW_S:
                complained = True
                console.line(f"headway: still not ready: {missing}".encode())
    return None


def _missing(settings: Settings, store: JobStore) -> str | None:
    """Returns what is missing until everything is ready, or None."""
    try:
        if (status := _status(settings, "/readyz")) != 200:
            return f"GET /readyz responds with {status}"
    except (OSError, http.client.HTTPException) as error:
        return f"no answer from {settings.base_url}: {error}"
    try:
        if not store.registry.workers():
            return "no worker has registered"
    except RedisError as error:
        return f"Redis does not answer: {error}"
    return None


def _status(settings: Settings, path: str) -> int:
    connection = http.client.HTTPConnection(settings.host, settings.port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def _await_port(settings: Settings, *, after_a_crash: bool) -> None:
    trouble = port_trouble(settings, patience_s=RECOVERY_S if after_a_crash else 0)
    if trouble:
        raise CannotStart(trouble)


class _Note:
    """What DATA_DIR/run.lock says about who runs here. It is emptied by an orderly end, so what the
    next one finds in it was left by one that was killed."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._found: dict[str, Any] = self.read()

    @property
    def is_left_over(self) -> bool:
        return bool(self._found)

    def read(self) -> dict[str, Any]:
        self._file.seek(0)
        try:
            found = json.load(self._file)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, url: str, valkey_pid: int | None = None) -> None:
        self.clear()
        json.dump({"pid": os.getpid(), "url": url, "valkey": valkey_pid}, self._file)
        self._file.flush()

    def clear(self) -> None:
        self._file.seek(0)
        self._file.truncate()

    def await_end_of_valkey(self) -> None:
        """Two servers must not write one append-only file: wait for the one of a killed run."""
        pid = self._found.get("valkey")
        deadline = time.monotonic() + RECOVERY_S
        while isinstance(pid, int) and _is_valkey(pid):
            if time.monotonic() > deadline:
                raise CannotStart(
                    f"the Valkey of an earlier run that was killed is still running; stop process {pid}"
                )
            time.sleep(0.05)


def _is_valkey(pid: int) -> bool:
    try:
        return b"valkey" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@contextlib.contextmanager
def _only_one(settings: Settings) -> Iterator[_Note]:
    """Hold DATA_DIR for as long as this process lives. Raises CannotStart if another does."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        file = (settings.data_dir / RUN_LOCK).open("a+")
    except OSError as error:
        raise CannotStart(f"DATA_DIR cannot be used: {error}") from None
    with file:
        note = _Note(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = note.read()
            where = f"process {other['pid']}, {other['url']}" if other else "it is starting or stopping"
            raise CannotStart(
                f"already running on {settings.data_dir.resolve()} ({where}); "
                "stop that first, or give this one another DATA_DIR and PORT"
            ) from None
        yield note
