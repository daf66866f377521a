"""`python -m tests.hosts.growth`: one machine becomes three under live jobs, as docs/operators.md says.

The steps are those of its section "From one machine to three". Afterwards the first machine goes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from headway.contract.events import ZERO
from headway.contract.settings import load
from headway.contract.store import JobStore
from tests.faults.checker import check
from tests.faults.clients import Watcher, ask
from tests.faults.history import History, Reading, Stored
from tests.faults.services import Owner
from tests.hosts import front
from tests.hosts.__main__ import as_first_process, inside
from tests.hosts.front import PORT
from tests.hosts.network import Network
from tests.support import credentials
from tests.support.checkout import ROOT
from tests.support.redis_cluster import Server
from tests.support.seaweed import ACCESS, Seaweed
from tests.support.wait import until

MACHINES = ("a", "b", "c")
LASTING_S = 60
PATIENCE_S = 240.0
PASSWORD = "of-the-three"


class Growth:
    """The machines, an object storage, and those who use the service, on the switch's own host."""

    def __init__(self, directory: Path, ended: ExitStack) -> None:
        self.directory = directory
        self._ended = ended
        self._began = time.monotonic()
        self._hosts = Network(*MACHINES, "files", "front").hosts
        self.at = {name: host.address for name, host in self._hosts.items()}
        self.way_in = f"{self.at['front']}:{PORT}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.jobs: list[str] = []
        self._over = threading.Event()
        self._watchers: list[Watcher] = []
        self.seaweed = ended.enter_context(Seaweed(directory / "seaweed", self._hosts["files"]))
        ended.callback(self._kill)
        (directory / "secret").write_text("s" * 64)
        (directory / "secret").chmod(0o600)
        self.environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "AUTH": "keys",
            "SECRET_FILE": str(directory / "secret"),
            "HOST": "0.0.0.0",
            "TRUSTED_PROXIES": f"127.0.0.1,{self.at['front']}",
            "ALLOWED_HOSTS": ",".join(self.at.values()),
            "WORKER_CONCURRENCY": "3",
            "HEARTBEAT_S": "1",
        }

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)

    def _kill(self) -> None:
        self._over.set()
        for name in list(self._processes):
            self.stop(name, patience_s=0)

    # -- what an operator does -----------------------------------------------------------------------

    def valkey(
        self, machine: str, name: str, port: int, *options: str, password: str | None = None
    ) -> Server:
        server = Server(
            self.directory / name / machine,
            *options,
            host=self._hosts[machine],
            port=port,
            sentinel=name == "sentinel",
            password=password,
        )
        self._ended.callback(server.close)
        return server

    def start(self, name: str, machine: str, *command: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as out:
            self._processes[name] = subprocess.Popen(
                [*self._hosts[machine].enter, *command],
                cwd=ROOT,
                env={**self.environ, "DATA_DIR": str(self.directory / machine)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, name: str, patience_s: float = 30) -> None:
        process = self._processes.pop(name)
        if patience_s:
            process.terminate()
            process.wait(patience_s)
        else:
            os.killpg(process.pid, 9)
            process.wait()

    def start_web(self, machine: str) -> None:
        self.start(f"web-{machine}", machine, sys.executable, "-m", "service", "web")
        ready = lambda: ask(f"{self.at[machine]}:{PORT}", "GET", "/readyz")[0] == 200  # noqa: E731
        until(ready, PATIENCE_S, f"web on {machine}: see {self.directory}")

    def start_worker(self, machine: str) -> None:
        self.start(f"worker-{machine}", machine, sys.executable, "-m", "worker")
        alive = lambda: bool(self.store().registry.workers())  # noqa: E731
        until(alive, PATIENCE_S, f"worker on {machine}")

    def front(self, *machines: str) -> None:
        if "front" in self._processes:
            self.stop("front")
        servers = {machine: self.at[machine] for machine in machines}
        self.start("front", "front", *front.command(self.directory / "haproxy.cfg", servers))

    def copy_files(self) -> None:
        """What `aws s3 sync` does: what is new or has changed."""
        bucket = self.seaweed.store("headway")
        there = {e["path"]: e["size"] for page in bucket.list() for e in page}
        root = self.directory / "a"
        for below in ("artifacts", "uploads"):
            for path in (root / below).rglob("*"):
                key = path.relative_to(root).as_posix()
                if path.is_file() and there.get(key) != path.stat().st_size:
                    bucket.put(key, path)

    # -- those who use it ----------------------------------------------------------------------------

    def store(self) -> JobStore:
        return JobStore.of(load({**self.environ, "DATA_DIR": str(self.directory)}), connections=2)

    def submit(self, kind: str, **params: object) -> None:
        status, job = ask(
            self.way_in, "POST", "/jobs", {"type": kind, "params": params}, credentials.BEARER
        )
        assert status == 202, (status, job)
        self.jobs.append(job["id"])
        reading = Reading(f"reader of {job['id']}", [job["id"]], None)
        watcher = Watcher(reading, self.way_in, "0", Owner("local", credentials.BEARER), self._over)
        self._watchers.append(watcher)
        watcher.start()

    def some_jobs(self) -> None:
        self.submit("simulate", duration_s=LASTING_S, rate=5, log_every=1)
        self.submit("simulate", duration_s=3, rate=5, log_every=1)
        self.submit("video.encode", input="sample:4", width=160)

    def document(self, job_id: str, address: str | None = None) -> dict[str, object]:
        status, job = ask(address or self.way_in, "GET", f"/jobs/{job_id}", headers=credentials.BEARER)
        return dict(job) if status == 200 else {}

    def ended(self, job_id: str) -> bool:
        return self.document(job_id).get("finished_at") is not None

    def until_ended(self) -> None:
        for job_id in self.jobs:
            until(partial(self.ended, job_id), PATIENCE_S, f"job {job_id} to end")
        for watcher in self._watchers:
            watcher.join(PATIENCE_S)

    def wrong(self) -> list[str]:
        """What is not as it should be, once all has ended."""
        store = self.store()
        history = History(readings=[watcher.reading for watcher in self._watchers])
        found = []
        for job_id in self.jobs:
            page = store.read(job_id, ZERO, 100_000)
            assert page is not None
            history.events[job_id] = [Stored.of(e) for e in page.events]
            document = self.document(job_id)
            if document.get("state") != "succeeded":
                found.append(f"{job_id} is {document.get('state')}: {document.get('error')}")
        # What the rest of the checker looks at was not noted here.
        return found + [str(v) for v in check(history) if v.rule == "readers miss nothing"]

    def artifacts_everywhere(self, *machines: str) -> list[str]:
        found = []
        for machine, job_id in ((m, j) for m in machines for j in self.jobs):
            address = f"{self.at[machine]}:{PORT}"
            for artifact in self.document(job_id, address).get("artifacts", ()):  # type: ignore[attr-defined]
                asked = ["curl", "-sfL", "-o", "/dev/null", "-w", "%{size_download}"]
                url = f"http://{address}{artifact['url']}"
                done = subprocess.run(
                    [*asked, "-H", credentials.LINE, url], check=False, capture_output=True, text=True
                )
                if done.stdout != str(artifact["size"]):
                    found.append(f"{url}: {done.stdout} bytes instead of {artifact['size']}")
        return found


@contextmanager
def growth(directory: Path) -> Iterator[Growth]:
    with ExitStack() as ended:
        yield Growth(directory, ended)


def run(directory: Path) -> list[str]:
    """Returns what went wrong."""
    with growth(directory) as g:
        valkey = g.valkey("a", "valkey", 6379, "appendonly yes")
        g.environ["REDIS_URL"] = f"redis://{g.at['a']}:6379/0"
        credentials.admit(g.store())
        g.start_web("a")
        g.start_worker("a")
        g.front("a")
        until(lambda: ask(g.way_in, "GET", "/readyz")[0] == 200, 30, "the way in")
        g.some_jobs()
        g.say("1. one machine, with jobs")
        until(partial(g.ended, g.jobs[-1]), PATIENCE_S, "the first encode")
        g.some_jobs()

        g.copy_files()
        g.stop("worker-a")
        g.stop("web-a")
        g.copy_files()
        g.environ |= {**ACCESS, "FILES_URL": g.seaweed.url("headway")}
        g.start_web("a")
        g.start_worker("a")
        g.say("2. the files are in the bucket")
        g.some_jobs()

        valkey.ask("CONFIG", "SET", "masterauth", PASSWORD)
        valkey.ask("CONFIG", "SET", "requirepass", PASSWORD)
        secret = ("appendonly yes", f"masterauth {PASSWORD}", f"requirepass {PASSWORD}")
        replicas = [
            g.valkey(m, "valkey", 6379, *secret, f"replicaof {g.at['a']} 6379", password=PASSWORD)
            for m in ("b", "c")
        ]
        watched = (
            f"sentinel monitor headway {g.at['a']} 6379 2",
            f"sentinel auth-pass headway {PASSWORD}",
            "sentinel down-after-milliseconds headway 5000",
            "sentinel failover-timeout headway 10000",
        )
        sentinels = [g.valkey(m, "sentinel", 26379, *watched) for m in MACHINES]
        g.say(f"3. {len(replicas)} replicas and {len(sentinels)} sentinels")
        hosts = ",".join(g.at[m] for m in MACHINES)
        g.environ["REDIS_URL"] = f"redis+sentinel://:{PASSWORD}@{hosts}/headway/0"
        g.stop("worker-a")
        g.start_worker("a")
        g.stop("web-a")
        g.start_web("a")
        g.say("4. Headway asks the sentinels")
        for machine in ("b", "c"):
            g.start_web(machine)
            g.start_worker(machine)
        g.front(*MACHINES)
        until(lambda: ask(g.way_in, "GET", "/readyz")[0] == 200, 30, "the way in")
        g.say("5. three machines")
        g.some_jobs()
        until(partial(g.ended, g.jobs[-1]), PATIENCE_S, "an encode on three machines")
        wrong = g.artifacts_everywhere(*MACHINES)

        for name in ("worker-a", "web-a"):
            g.stop(name, patience_s=0)
        valkey.kill()
        sentinels[0].kill()
        gone = time.monotonic()
        until(lambda: ask(g.way_in, "GET", "/readyz")[0] == 200, PATIENCE_S, "the service to be back")
        g.say(f"6. the first machine is gone; ready again after {time.monotonic() - gone:.1f} s")
        g.some_jobs()
        g.until_ended()
        return wrong + g.wrong() + g.artifacts_everywhere("b", "c")


def main() -> int:
    if not as_first_process():
        return inside("tests.hosts.growth", 1200)
    directory = Path(tempfile.mkdtemp(prefix="headway-growth-"))
    wrong = run(directory)
    print("\n".join(wrong) or "all jobs succeeded, nobody missed anything, and all files are everywhere")
    if not wrong:
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
