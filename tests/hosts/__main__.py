"""`python -m tests.hosts`: breaks Headway on several hosts, and checks what all parties saw. README.md."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.faults.report import carry_out
from tests.faults.run import Run
from tests.hosts import plan
from tests.hosts.stack import HostsStack
from tests.hosts.stores import STORES

INSIDE = "HEADWAY_HOSTS_INSIDE"
PROGRAMS = ("ip", "nft", "unshare", "nsenter", "setpriv", "haproxy", "rabbitmq-server", "epmd")
START_AND_END_S = 300
"""What a run may take beside its limit, before all of it is killed."""


def why_not() -> str:
    """Return why hosts cannot be had here; an empty text if they can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    lacks = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if lacks:
        return f"not installed: {', '.join(lacks)}"
    tried = "ip link add name a type bridge && nft add table inet b"
    found = subprocess.run(apart("sh", "-c", tried), check=False, capture_output=True, text=True)
    return "" if found.returncode == 0 else f"namespaces are not to be had: {found.stderr.strip()}"


def apart(*command: str) -> list[str]:
    """The command with a network, processes and mounts of its own, which end with it, and it with this
    process."""
    own = ["--net", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child"]
    if os.geteuid() != 0:
        own += ["--user", "--map-root-user"]
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *own, *command]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.hosts", description=__doc__)
    parser.add_argument("--store", choices=STORES, default="cluster", help="what the store is (cluster)")
    parser.add_argument("--faults", type=int, default=60, help="how many (60)")
    parser.add_argument("--jobs", type=int, help="jobs (as many as faults)")
    parser.add_argument("--seed", type=int, help="draws jobs, faults and what the proxy does (random)")
    parser.add_argument("--gap", type=float, default=2.0, help="mean seconds between faults (2)")
    parser.add_argument("--only", help="kinds of faults, such as kill,split; others are left out")
    parser.add_argument(
        "--seconds-limit", type=float, default=900, help="no fault comes after so long (900)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the histories even if all is well")
    return parser.parse_args()


def main() -> int:
    given = options()
    if not as_first_process():
        return inside("tests.hosts", given.seconds_limit + START_AND_END_S)
    return _run(given)


def inside(module: str, limit_s: float) -> int:
    """Run the module, with the arguments of this process, apart from everything else."""
    reason = why_not()
    if reason:
        print(f"{module}: {reason}", file=sys.stderr)
        return 2
    command = apart(sys.executable, "-m", module, *sys.argv[1:])
    with subprocess.Popen(command, env={**os.environ, INSIDE: "1"}) as process:
        try:
            return process.wait(limit_s)
        except KeyboardInterrupt:
            # It has got the signal too, and says what it has seen.
            return process.wait(30)
        finally:
            process.kill()


def as_first_process() -> bool:
    """Return whether this process is apart already; then go on in a child. The first process of a namespace
    is given its orphans, has to wait for them, and takes all with it when it ends."""
    if INSIDE not in os.environ:
        return False
    child = os.fork()
    if child == 0:
        return True
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(abs(os.waitstatus_to_exitcode(status)))


def _run(given: argparse.Namespace) -> int:
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    jobs = given.faults if given.jobs is None else given.jobs
    only = set(given.only.split(",")) if given.only else None

    def prepare(directory: Path, say: Callable[[str], None]) -> Run:
        drawn = plan.draw(seed, jobs, given.faults, given.gap, only)
        return Run(drawn, directory, given.seconds_limit, say, partial(HostsStack, kind=given.store))

    what = f"{given.faults} faults over {jobs} jobs and a {given.store}"
    return carry_out("hosts", what, prepare, seed=seed, keep=given.keep)


if __name__ == "__main__":
    sys.exit(main())
