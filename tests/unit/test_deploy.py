"""What deploy/ says fits what the service does by itself."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from headway.contract.settings import Settings, load
from service.api.events import POLL_WAIT_S
from tests.support.programs import program

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
SETTINGS: Settings = load({"REDIS_URL": "redis://127.0.0.1"})
SILENCE = {
    "nginx.conf": ["proxy_read_timeout", "send_timeout"],
    "Caddyfile": ["read_timeout"],
    "haproxy.cfg": ["timeout client", "timeout server"],
}


@pytest.mark.parametrize("name", SILENCE)
def test_a_proxy_waits_longer_than_heartbeats_and_polls_may_take(name: str) -> None:
    text = (DEPLOY / name).read_text()
    for setting in SILENCE[name]:
        found = re.search(rf"(?m)^\s*{setting}\s+(\d+)s", text)
        assert found, setting
        assert int(found[1]) > POLL_WAIT_S
        assert int(found[1]) >= 4 * SETTINGS.heartbeat_s


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nginx.conf", "access_log off;"),
        ("nginx.conf", "error.log crit;"),
        ("Caddyfile", "request>uri delete"),
        ("Caddyfile", "request>headers>Referer delete"),
        ("haproxy.cfg", "log stderr format raw daemon notice"),
        ("compose/haproxy.cfg", "log stdout format raw daemon notice"),
        ("kubernetes/ingress.yaml", 'enable-access-log: "false"'),
    ],
)
def test_no_proxy_logs_addresses_as_tickets_are_in_them(name: str, said: str) -> None:
    assert said in (DEPLOY / name).read_text()


@pytest.mark.parametrize("name", SILENCE)
def test_a_proxy_asks_where_the_service_is(name: str) -> None:
    assert f"127.0.0.1:{SETTINGS.port}" in (DEPLOY / name).read_text()


def test_the_units_start_what_the_procfile_starts() -> None:
    for line in (ROOT / "Procfile").read_text().splitlines():
        name, _, command = line.partition(": exec python ")
        unit = (DEPLOY / "systemd" / f"headway-{name}.service").read_text()
        assert f"\nExecStart=/opt/headway/.venv/bin/python {command}\n" in unit


def test_the_unit_of_the_web_process_reloads_with_the_signal_that_it_takes() -> None:
    unit = (DEPLOY / "systemd" / "headway-web.service").read_text()
    assert "\nExecReload=/bin/kill -HUP $MAINPID\n" in unit


def test_a_unit_is_not_killed_before_it_has_stopped_by_itself() -> None:
    for path in (DEPLOY / "systemd").iterdir():
        found = re.search(r"(?m)^TimeoutStopSec=(\d+)$", path.read_text())
        assert found, path
        assert int(found[1]) > SETTINGS.drain_s + 2


@pytest.mark.parametrize("name", ["headway-web", "headway-worker"])
def test_a_unit_is_closed_as_far_as_its_process_can_be(name: str) -> None:
    analyze = program("systemd-analyze")
    unit = DEPLOY / "systemd" / f"{name}.service"
    ran = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
