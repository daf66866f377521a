"""Headway on ten hosts: a store on three, a broker, an object storage, two web, two workers, HAProxy."""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from headway.contract.layout import slot_of
from headway.contract.settings import load
from headway.contract.store import JobStore
from tests.faults.history import File
from tests.faults.plan import Fault
from tests.faults.services import Owner, Service, Services
from tests.hosts import front, stores
from tests.hosts.front import PORT
from tests.hosts.network import CLIENTS, NET, Network
from tests.hosts.stores import STORES, ClusterStore, role
from tests.support import credentials, processes
from tests.support.checkout import ROOT
from tests.support.faulty_proxy import Fate, FaultyProxy, unavailable
from tests.support.rabbitmq import RabbitMQ
from tests.support.seaweed import ACCESS, Seaweed

OWNERS = {"anna": "annaanna", "ida": "idaidaid", "dora": "doradora"}
"""With the ids of their keys. In a cluster their jobs are on different servers."""
CALM_S = 8.0
"""So long after the last fault of the network or the storage all is expected to be as before."""


class HostsStack(Services):
    """Everything that a run starts. It is not ended here one by one: all of it goes with the namespaces."""

    def __init__(self, directory: Path, kind: str) -> None:
        super().__init__()
        self.directory = directory.resolve()
        self._rng = random.Random(kind)
        self._network = Network(
            *stores.HOSTS, "broker", "files", "proxy", "web1", "web2", "worker1", "worker2"
        )
        hosts = self._network.hosts
        self._ill_until = 0.0
        self._closing = ExitStack()
        try:
            self._start(kind, {name: host.address for name, host in hosts.items()})
        except BaseException:
            self.close()
            raise
        way_in = hosts["proxy"].address
        self.addresses = [
            f"{way_in}:{PORT}",
            *(f"{hosts[name].address}:{PORT}" for name in ("web1", "web2")),
        ]
        self.through = [(way_in, PORT)]

    def _start(self, kind: str, address: dict[str, str]) -> None:
        hosts = self._network.hosts
        broker = RabbitMQ(self.directory / "rabbitmq", hosts["broker"])
        self._closing.callback(broker.kill)
        broker.launch()
        self._store = STORES[kind](self.directory / "store", self._network)
        self._closing.callback(self._store.close)
        seaweed = self._closing.enter_context(Seaweed(self.directory / "seaweed", hosts["files"]))
        self._seaweed = seaweed
        self._storage = self._closing.enter_context(
            FaultyProxy((address["files"], seaweed.port), fate=self._fate_of_storage, listens=CLIENTS)
        )
        self._storage_is_slow = False
        (self.directory / "secret").write_text(secrets.token_hex(32))
        (self.directory / "secret").chmod(0o600)
        (self.directory / "tmp").mkdir()
        self._environ = {
            **os.environ,
            **ACCESS,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TMPDIR": str(self.directory / "tmp"),
            "REDIS_URL": self._store.url,
            "CELERY_BROKER_URL": broker.url,
            "FILES_URL": seaweed.url("hosts", f"http://{CLIENTS}:{self._storage.port}"),
            "SECRET_FILE": str(self.directory / "secret"),
            "AUTH": "keys",
            "HOST": "0.0.0.0",
            "PORT": str(PORT),
            "TRUSTED_PROXIES": f"{NET}.0/24",
            "ALLOWED_HOSTS": ",".join([CLIENTS, *address.values()]),
            "WORKER_CONCURRENCY": "2",
            **{"LEASE_S": "3", "HEARTBEAT_S": "1", "DRAIN_S": "1"},
            **{"LOG_FORMAT": "json", "LOG_LEVEL": "INFO"},
        }
        store = self.new_store(60)
        self.owners = [Owner(name, credentials.admit(store, name, key)) for name, key in OWNERS.items()]
        if isinstance(self._store, ClusterStore):
            self._store.slots = [slot_of(store.keys.jobs(owner.name)) for owner in self.owners]
        store.servers.close()
        broker.wait_until_ready()
        for n, server in enumerate(self._store.servers, 1):
            self._supervise(f"valkey{n}", server.start, server.process)
        for n, server in enumerate(self._store.sentinels, 1):
            self._supervise(f"sentinel{n}", server.start, server.process)
        self._supervise("rabbitmq", broker.launch, broker.process)
        self._supervise("seaweed", seaweed.launch, seaweed.process)
        self._supervise("haproxy", self._haproxy(address), None)
        for name in ("web1", "web2"):
            self._supervise(name, partial(self._python, name, "-m", "service", "web"), None)
        for name in ("worker1", "worker2"):
            self._supervise(name, partial(self._python, name, "-m", "worker"), None)

    def _supervise(
        self,
        name: str,
        start: Callable[[], subprocess.Popen[bytes]],
        process: subprocess.Popen[bytes] | None,
    ) -> None:
        self.services.append(Service(name, start, process or start()))

    def _run(self, name: str, *command: str, host: str | None = None) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as out:
            return subprocess.Popen(
                [*self._network.hosts[host or name].enter, *command],
                cwd=ROOT,
                # A disk of its own.
                env={**self._environ, "DATA_DIR": str(self.directory / name)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _python(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        return self._run(name, sys.executable, *arguments)

    def _haproxy(self, address: dict[str, str]) -> Callable[[], subprocess.Popen[bytes]]:
        servers = {name: address[name] for name in ("web1", "web2")}
        command = front.command(self.directory / "haproxy.cfg", servers)
        return partial(self._run, "haproxy", *command, host="proxy")

    # -- looking -----------------------------------------------------------------------------------

    def new_store(self, timeout_s: float) -> JobStore:
        return JobStore.of(load(self._environ), timeout_s=timeout_s)

    @property
    def calm(self) -> bool:
        return time.monotonic() > self._ill_until + CALM_S and all(s.settled for s in self.services)

    @property
    def work(self) -> list[Path]:
        return [self.directory / name / "work" for name in ("worker1", "worker2")]

    def files(self) -> list[File]:
        found = []
        for entry in (entry for page in self._seaweed.store("hosts").list("artifacts") for entry in page):
            _, *rest = entry["path"].split("/")
            # Beside the jobs lies the mark of whose files these are.
            if len(rest) > 2:
                found.append(File(rest[0], int(rest[1]), "/".join(rest[2:]), entry["size"]))
        return found

    # -- breaking ----------------------------------------------------------------------------------

    def break_(self, fault: Fault, busy: list[int]) -> str | None:
        did = self._break(fault, busy)
        if did is not None and fault.what not in ("pool", "encoder"):
            self._ill_until = max(self._ill_until, time.monotonic() + fault.seconds)
        return did

    def _break(self, fault: Fault, busy: list[int]) -> str | None:
        match fault.act:
            case "kill" | "pause":
                self._may_lose(fault.what == "valkey")
                return super().break_(fault, busy)
            case "unplug":
                self._may_lose(fault.what in stores.HOSTS)
                self._network.plug(fault.what, up=False)
                self._at(fault.seconds, partial(self._network.plug, fault.what, up=True))
            case "deaf" | "mute":
                self._may_lose(fault.what in stores.HOSTS)
                pairs = getattr(self._network, fault.act)(fault.what)
                self._cut(pairs, fault.seconds)
            case "split":
                return self._split(fault)
            case "failover":
                self._may_lose(not isinstance(self._store, ClusterStore))
                return self._store.fail_over(fault.luck, self._at)
            case "migrate":
                return self._store.migrate(fault.luck)
            case _:
                return self._break_storage(fault)
        return f"{fault.act} {fault.what} for {fault.seconds:.1f} s"

    def _may_lose(self, whether: bool) -> None:
        self.lossy = self.lossy or (whether and self._store.loses)

    def _cut(self, pairs: list[tuple[str, str]], seconds: float) -> None:
        self._network.cut(pairs)
        self._at(seconds, partial(self._network.cut, pairs, mend=True))

    def _split(self, fault: Fault) -> str | None:
        """A primary alone with some who write to it. What they write there is lost when they meet again."""
        primaries = [
            s.host for s in self._store.servers if s.process.poll() is None and role(s) == "master"
        ]
        if not primaries:
            return None
        self._may_lose(True)
        chosen = primaries[int(fault.luck * len(primaries))]
        name = next(name for name, host in self._network.hosts.items() if host == chosen)
        # Clients reach both sides.
        self._cut(self._network.split([name, *fault.what.split()]), fault.seconds)
        return f"split {name} {fault.what} from the others for {fault.seconds:.1f} s"

    def _fate_of_storage(self) -> Fate:
        if not self._storage_is_slow:
            return Fate()
        return self._rng.choice([Fate(slow=True), Fate(cut_up=2000), Fate(cut_down=300, reset=True)])

    def _break_storage(self, fault: Fault) -> str | None:
        if fault.act == "stall":
            self._storage.stall()
            self._at(fault.seconds, self._storage.resume)
        elif fault.act == "refuse":
            self._storage.refuse(unavailable(1))
            self._storage.cut()
            self._at(fault.seconds, partial(self._storage.refuse, None))
        else:
            self._storage_is_slow = True
            self._storage.cut()
            self._at(fault.seconds, self._storage_recovers)
        return f"{fault.act} storage for {fault.seconds:.1f} s"

    def _storage_recovers(self) -> None:
        self._storage_is_slow = False
        self._storage.cut()

    # -- the end -----------------------------------------------------------------------------------

    def end(self, seconds: float = 15) -> list[str]:
        asked = [s for s in self.services if s.kind in ("web", "worker")]
        processes.signal_all([s.process.pid for s in asked], signal.SIGTERM)
        deadline = time.monotonic() + seconds
        for service in asked:
            with suppress(subprocess.TimeoutExpired):
                service.process.wait(max(0.1, deadline - time.monotonic()))
        sessions = {service.process.pid for service in asked}
        left = []
        for p in processes.table().values():
            if p.session in sessions or any(str(work) in p.command for work in self.work):
                left.append(f"process {p.pid} ({p.command[:120]})")
        return left

    def close(self) -> None:
        for service in self.services:
            with suppress(ProcessLookupError):
                os.killpg(service.process.pid, signal.SIGKILL)
            service.process.wait()
        self._closing.close()
