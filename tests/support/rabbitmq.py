"""A RabbitMQ of the tests' own: its ports, its data, its Erlang port mapper."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.support.host import HERE, Host
from tests.support.programs import program
from tests.support.reverse_proxies import make_certificate
from tests.support.stack import free_port
from tests.support.wait import until


class RabbitMQ:
    """Starts when the block is entered; `kill` and `start` it in between."""

    def __init__(self, directory: Path, host: Host = HERE) -> None:
        self._enter = host.enter
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.tls_port = free_port()
        self.url = f"amqp://guest:guest@{host.address}:{self.port}//"
        self.tls_url = f"amqps://guest:guest@{host.address}:{self.tls_port}//"
        make_certificate(directory)
        self.certificate = directory / "fullchain.pem"
        (directory / "rabbitmq.conf").write_text(
            f"listeners.ssl.1 = {host.address}:{self.tls_port}\n"
            "loopback_users = none\n"
            f"ssl_options.certfile = {self.certificate}\n"
            f"ssl_options.keyfile = {directory}/privkey.pem\n"
        )
        mapper = free_port()
        self._environ = {
            **os.environ,
            "HOME": str(directory),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"t{secrets.token_hex(4)}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": host.address,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_USE_LONGNAME": "false",
        }
        # Debian's wrapper changes the user; the script behind it does not.
        found = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        program("rabbitmq-server")
        self._server = str(found) if found.exists() else program("rabbitmq-server")
        self._mapper = subprocess.Popen(
            [*self._enter, program("epmd"), "-port", str(mapper), "-address", "127.0.0.1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._mapper.kill()
        self._mapper.wait()

    @property
    def log(self) -> str:
        return (self.directory / "out").read_text(errors="replace")

    def start(self) -> None:
        """Start it on what it has kept, and wait until it takes messages."""
        self.launch()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.log
            return "Starting broker... completed" in self.log or "completed with" in self.log

        until(ready, 120, lambda: f"RabbitMQ:\n{self.log}")

    def launch(self) -> subprocess.Popen[bytes]:
        with (self.directory / "out").open("wb") as out:
            self.process = subprocess.Popen(
                [*self._enter, self._server],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    def kill(self) -> None:
        """Kill it with all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
