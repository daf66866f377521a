"""Hosts hear each other, unless they are cut off; and nothing is left of them, whatever ends the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts import plan
from tests.hosts.__main__ import apart, why_not
from tests.support.checkout import ROOT
from tests.support.wait import until

TRIAL = """
import socket, subprocess, sys, threading
from tests.hosts.network import FLOATING, Network

network = Network("a", "b")
a, b = network.hosts.values()
SERVER = "import socket; s = socket.create_server(('', 80)); [s.accept() for _ in iter(int, 1)]"
for host in (a, b):
    subprocess.Popen([*host.enter, sys.executable, "-Sc", SERVER])
CALL = "import socket, sys; socket.create_connection((sys.argv[1], 80), float(sys.argv[2]))"

def hears(source, address, patience=0.3):
    call = [*source.enter, sys.executable, "-Sc", CALL, address, str(patience)]
    return subprocess.run(call, capture_output=True).returncode == 0

while not (hears(a, b.address, 5) and hears(b, a.address, 5)):
    pass
print("joined", flush=True)
network.cut([("a", "b")])
print(hears(a, b.address), end=" ")
network.cut([("a", "b")], mend=True)
print(hears(a, b.address, 5))
network.cut(network.split(["a"]))
network.cut(network.deaf("a"))
network.cut(network.split(["a"]), mend=True)
print(hears(b, a.address), end=" ")
network.cut(network.deaf("a"), mend=True)
print(hears(b, a.address, 5))
network.plug("b", up=False)
print(hears(a, b.address), end=" ")
network.plug("b", up=True)
print(hears(a, b.address, 5))
network.float_to("a")
print(hears(b, FLOATING, 5), end=" ")
network.float_to("b")
print(hears(a, FLOATING, 5), flush=True)
"""


@pytest.fixture(scope="module")
def namespaces() -> None:
    reason = why_not()
    if reason:
        pytest.skip(reason)


def run(script: str) -> subprocess.Popen[str]:
    """Start it in namespaces of its own."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = apart(sys.executable, "-c", script)
    return subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.usefixtures("namespaces")
def test_hosts_hear_each_other_unless_they_are_cut_off() -> None:
    with run(TRIAL) as process:
        said, _ = process.communicate(timeout=60)
    assert said.split("\n") == ["joined", "False True", "False True", "False True", "True True", ""]


@pytest.mark.usefixtures("namespaces")
def test_nothing_is_left_of_hosts_whose_run_is_killed() -> None:
    mark = f"hosts-{os.getpid()}"
    with run(
        TRIAL.replace("network.cut", f"import time; '{mark}'; time.sleep(600); network.cut", 1)
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "joined\n"
        assert _processes(mark)
        process.send_signal(signal.SIGKILL)
    until(lambda: not _processes(mark), 10, "all to be gone")
    named = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    assert not {"a", "b"} & set(named.split())


def _processes(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:  # it has gone
            continue
        if mark.encode() in command:
            found.append(entry.parent.name)
    return found


def test_a_seed_draws_the_same_faults_again() -> None:
    assert plan.draw(5, 9, 40, 1) == plan.draw(5, 9, 40, 1) != plan.draw(6, 9, 40, 1)
    assert {fault.act for fault in plan.draw(5, 9, 40, 1, {"kill", "split"}).faults} == {"kill", "split"}
