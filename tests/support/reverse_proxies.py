"""nginx, Caddy and HAProxy as deploy/ has them, on ports and in a directory of the test's own."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Self

from tests.support.checkout import ROOT
from tests.support.programs import program
from tests.support.stack import free_port
from tests.support.wait import until

DEPLOY = ROOT / "deploy"
PROGRAMS = ("nginx", "caddy", "haproxy")


class ReverseProxy:
    """A proxy before a service on `upstream`, with a certificate that it made itself.

    `idle` replaces the time after which the configuration ends a silent connection; `source` is the address
    that it connects to the service from (not with Caddy, whose version 2.6 cannot). Call `close`.
    """

    def __init__(
        self, name: str, directory: Path, upstream: int, idle: str = "75s", source: str = "127.0.0.1"
    ) -> None:
        self.port, self.plain_port = free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._directory = directory
        self.certificate = directory / "fullchain.pem"
        self._upstream = upstream
        self._source = source
        directory.mkdir(parents=True, exist_ok=True)
        make_certificate(directory)
        config, command = getattr(self, f"_{name}")()
        path = directory / "config"
        path.write_text(_changed(config, {"75s": idle}))
        self.log = directory / "log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [program(name), *command, str(path)],
                cwd=directory,
                # Caddy keeps things in the home directory.
                env={**os.environ, "HOME": str(directory), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._listens, what=f"{name} to listen")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listens(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _nginx(self) -> tuple[str, list[str]]:
        here = self._directory
        temporary = "".join(
            f"    {kind}_temp_path {here}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # What root starts it makes the workers somebody who may not look into our directory.
        user = "user root;\n" if os.getuid() == 0 else ""
        changes = {
            "worker_processes auto;": f"{user}worker_processes 2;\ndaemon off;\npid {here}/pid;",
            "    access_log off;": f"{temporary}    access_log off;",
            "/var/log/nginx/error.log": "stderr",
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "/etc/ssl/headway/fullchain.pem": f"{here}/fullchain.pem",
            "/etc/ssl/headway/privkey.pem": f"{here}/privkey.pem",
            "127.0.0.1:8000": f"127.0.0.1:{self._upstream}",
            "proxy_http_version 1.1;": f"proxy_http_version 1.1;\n        proxy_bind {self._source};",
        }
        return _changed((DEPLOY / "nginx.conf").read_text(), changes), [
            "-e",
            "stderr",
            "-p",
            str(here),
            "-c",
        ]

    def _caddy(self) -> tuple[str, list[str]]:
        here = self._directory
        site = f"{self.url} {{\n\tbind 127.0.0.1\n\ttls {here}/fullchain.pem {here}/privkey.pem"
        changes = {
            "grace_period 10s": "grace_period 1s\n\tadmin off\n\tauto_https disable_redirects",
            "headway.example.org {": site,
            "127.0.0.1:8000": f"127.0.0.1:{self._upstream}",
        }
        return _changed((DEPLOY / "Caddyfile").read_text(), changes), [
            "run",
            "--adapter",
            "caddyfile",
            "--config",
        ]

    def _haproxy(self) -> tuple[str, list[str]]:
        here = self._directory
        changes = {
            "maxconn 32768": "maxconn 1000",  # as many files as anybody may open
            "bind :80": f"bind 127.0.0.1:{self.plain_port}",
            "bind :443": f"bind 127.0.0.1:{self.port}",
            "/etc/ssl/headway/headway.pem": f"{here}/headway.pem",
            "127.0.0.1:8000": f"127.0.0.1:{self._upstream} source {self._source}",
        }
        return _changed((DEPLOY / "haproxy.cfg").read_text(), changes), ["-db", "-f"]


def _changed(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in the configuration any more"
        text = text.replace(old, new)
    return text


def make_certificate(directory: Path) -> None:
    """Write a self-signed certificate for 127.0.0.1: fullchain.pem, privkey.pem, both in headway.pem."""
    key, chain = directory / "privkey.pem", directory / "fullchain.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = subprocess.run(
        [*command, "-keyout", str(key), "-out", str(chain)], capture_output=True, check=False
    )
    assert made.returncode == 0, made.stderr
    (directory / "headway.pem").write_text(chain.read_text() + key.read_text())
