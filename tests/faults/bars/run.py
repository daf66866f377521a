"""Bars in a real Chromium while what carries them breaks: nginx and a proxy that stalls before the real
service, jobs in the real store, windows that note what they show."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.bars.checker import Look, Showing, Verdict, check
from tests.faults.bars.jobs import Jobs
from tests.support import processes
from tests.support.browser import Browser
from tests.support.faulty_proxy import FaultyProxy
from tests.support.programs import program
from tests.support.stack import Stack, free_port
from tests.support.tabs import renderer
from tests.support.wait import until

PAGE = (Path(__file__).parent / "page.js").read_text("utf-8")
SETTLE_S = 4
"""About how long it takes after a fault until all bars are fresh."""
SLACK_MS = 1500
"""What a loaded machine adds to what is promised."""

NGINX = """
worker_processes 1;
daemon off;
pid {here}/pid;
{user}
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {here}/body;
    proxy_temp_path {here}/proxy;
    fastcgi_temp_path {here}/fastcgi;
    uwsgi_temp_path {here}/uwsgi;
    scgi_temp_path {here}/scgi;
    server {{
        listen 127.0.0.1:{port};
        if (-f {here}/away) {{
            return 503;
        }}
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_buffering off;
            proxy_read_timeout 75s;
        }}
    }}
}}
"""
"""Its errors reach the browser as they are: 502 while the service is away, and 503 when it is told to."""


@dataclass(frozen=True)
class Lengths:
    """How long each fault lasts: seconds."""

    killed: float = 6
    paused: float = 12
    refused: float = 12
    stalled: float = 30
    suspended: float = 30
    frozen: float = 20
    stopped: float = 25
    between: float = 6


class Fault(NamedTuple):
    """What was done, and how many bars were of jobs that had not ended."""

    name: str
    live: int


@dataclass
class Report:
    """What a run found."""

    bars: int
    jobs: int
    right_bars: int
    right_jobs: int
    verdict: Verdict
    faults: list[Fault]


def layout() -> tuple[list[str | None], list[tuple[int, bool, list[dict[str, str]]]]]:
    """The group of each of the hundred jobs; and the windows: by which of the two proxies, whether with a
    connection of its own, and its bars, with `#n` for the id of a job."""
    groups: list[str | None] = [None] * 100
    for name, jobs in (("a", range(30, 50)), ("b", range(60, 70)), ("c", range(90, 100))):
        for n in jobs:
            groups[n] = name

    def single(*jobs: int) -> list[dict[str, str]]:
        return [{"job": f"#{n}"} for n in jobs]

    return groups, [
        (0, False, single(*range(30))),
        (0, False, [{"group": "a"}]),
        (0, False, [{"jobs": " ".join(f"#{n}" for n in range(50, 60))}, {"group": "b"}]),
        (1, False, single(*range(70, 90))),
        (1, False, [{"group": "c"}]),
        (1, True, single(*range(10))),
    ]


class Run:
    """`go` once, then `close`."""

    def __init__(
        self,
        directory: Path,
        seed: int,
        lengths: Lengths,
        heartbeat_s: float,
        say: Callable[[str], None],
        slack_ms: int = SLACK_MS,
    ) -> None:
        self._say = say
        self._lengths = lengths
        self._luck = random.Random(seed)
        self._seed = seed
        # The client's own bounds (web/client/: event-stream.js, shared-stream.js): 1.5 heartbeats, at least
        # one and two seconds; a check each second; two seconds more where the connection is another's.
        self.bound_ms = round(1000 * max(1.5 * heartbeat_s, heartbeat_s + 2)) + 3000 + slack_ms
        self._started = ExitStack()
        try:
            self.stack = Stack(
                directory / "stack", AUTH="none", HEARTBEAT_S=f"{heartbeat_s:g}", DRAIN_S="1"
            )
            self._started.callback(self.stack.close)
            self.stack.start_web()
            self._here = directory / "nginx"
            port = self._start_nginx()
            self.proxies = [FaultyProxy(port), FaultyProxy(port)]
            for proxy in self.proxies:
                self._started.callback(proxy.close)
            self.browser = Browser(directory / "browser")
            self._started.callback(self.browser.close)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._started.close()

    def _start_nginx(self) -> int:
        self._here.mkdir(parents=True)
        port = free_port()
        # What root starts it makes the workers somebody who may not look into our directory.
        user = "user root;" if os.getuid() == 0 else ""
        config = NGINX.format(here=self._here, port=port, upstream=self.stack.port, user=user)
        (self._here / "config").write_text(config)
        command = [program("nginx"), "-e", "stderr", "-p", str(self._here), "-c"]
        with (self._here / "log").open("wb") as log:
            nginx = subprocess.Popen(
                [*command, str(self._here / "config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

        def stop() -> None:
            nginx.terminate()
            nginx.wait(10)

        self._started.callback(stop)
        until((self._here / "pid").exists, what="nginx to start")
        return port

    # -- the windows -------------------------------------------------------------------------------

    def _open(self, jobs: Jobs) -> list[str]:
        driver = self.browser.driver
        windows: list[str] = []
        for proxy, alone, bars in layout()[1]:
            if windows:
                driver.switch_to.new_window("window")
            driver.get(f"http://127.0.0.1:{self.proxies[proxy].port}/healthz")
            named = [
                {
                    name: " ".join(jobs.all[int(w[1:])].id if w[0] == "#" else w for w in value.split())
                    for name, value in bar.items()
                }
                for bar in bars
            ]
            driver.execute_async_script(PAGE, named, alone)
            windows.append(driver.current_window_handle)
        return windows

    def _ask(self, window: str, expression: str) -> Any:
        self.browser.driver.switch_to.window(window)
        return self.browser.run(f"return {expression}")

    def _leader(self, windows: list[str], proxy: int) -> str:
        """The window of an origin that holds its connection, among those that share it."""
        sharing = [
            w for w, (of, alone, _) in zip(windows, layout()[1], strict=True) if of == proxy and not alone
        ]
        led = "window.stream.leads"
        return str(
            self.browser.until(lambda: next((w for w in sharing if self._ask(w, led)), None), "a leader")
        )

    def _settle(self, windows: list[str]) -> None:
        """Wait until every bar is fresh."""
        began = time.monotonic()
        fresh = (
            "document.visibilityState === 'visible' && Date.now() - window.sampledAt < 1000"
            " && Object.values(window.latest).every((one) => one.fresh)"
        )
        for window in windows:
            self.browser.until(partial(self._ask, window, fresh), "all bars to be fresh")
        self._say(f"all bars are fresh {time.monotonic() - began:.1f} s after")

    def _live(self, windows: list[str]) -> int:
        """How many bars show a job that has not ended."""
        live = "Object.values(window.latest).filter((one) => /ing|queued/.test(one.look[0])).length"
        return sum(self._ask(window, live) for window in windows)

    # -- the faults --------------------------------------------------------------------------------

    @contextmanager
    def _stopped(self, pids: list[int]) -> Iterator[None]:
        processes.signal_all(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            processes.signal_all(pids, signal.SIGCONT)

    def _faults(self, windows: list[str]) -> list[tuple[str, float, Callable[[], None]]]:
        """What is done, for how long, and how."""
        lengths = self._lengths

        def killed() -> None:
            self.stack.stop("web", signal.SIGKILL)
            time.sleep(lengths.killed)
            self.stack.start_web()

        def paused() -> None:
            with self._stopped([self.stack.valkey.process.pid]):
                time.sleep(lengths.paused)

        def refused() -> None:
            (self._here / "away").touch()
            try:
                # nginx leaves alone what is open already.
                self.stack.restart_web()
                time.sleep(lengths.refused)
            finally:
                (self._here / "away").unlink()

        def stalled() -> None:
            for proxy in self.proxies:
                proxy.stall()
            time.sleep(lengths.stalled)
            for proxy in self.proxies:
                proxy.resume()

        def suspended() -> None:
            driver = self.browser.driver.service.process.pid
            with self._stopped([p.pid for p in processes.descendants(driver)]):
                time.sleep(lengths.suspended)

        def frozen() -> None:
            driver = self.browser.driver
            leaders = [self._leader(windows, proxy) for proxy in (0, 1)]
            for state, seconds in (("frozen", lengths.frozen), ("active", 0)):
                for window in leaders:
                    driver.switch_to.window(window)
                    driver.execute_cdp_cmd("Page.setWebLifecycleState", {"state": state})
                    if state == "active":
                        # It stays hidden otherwise, and paints nothing.
                        driver.minimize_window()
                        driver.set_window_size(1280, 1000)
                driver.switch_to.window(windows[-1])
                time.sleep(seconds)

        def stopped() -> None:
            leader = self._leader(windows, 0)
            pid = renderer(self.browser, leader)
            self.browser.driver.switch_to.window(windows[-1])
            with self._stopped([pid]):
                time.sleep(lengths.stopped)

        all_of_them = {
            "the web process is killed": (lengths.killed, killed),
            "Valkey stands still": (lengths.paused, paused),
            "a proxy answers 503": (lengths.refused, refused),
            "nothing gets through": (lengths.stalled, stalled),
            "the browser is suspended": (lengths.suspended, suspended),
            "the windows with the connections are frozen": (lengths.frozen, frozen),
            "the process of the window with the connection is stopped": (lengths.stopped, stopped),
        }
        return [(name, seconds, fault) for name, (seconds, fault) in all_of_them.items() if seconds > 0]

    # -- the whole of it ---------------------------------------------------------------------------

    def go(self, rounds: int) -> Report:
        lengths = self._lengths
        faults = self._faults([])
        seconds = rounds * sum(seconds + lengths.between + SETTLE_S for _, seconds, _ in faults)
        jobs = Jobs(self.stack.store, self._seed, layout()[0], seconds)
        jobs.create()
        windows = self._open(jobs)
        done: list[Fault] = []
        jobs.work()
        try:
            self._settle(windows)
            for _ in range(rounds):
                faults = self._faults(windows)
                self._luck.shuffle(faults)
                for name, seconds, fault in faults:
                    done.append(Fault(f"{name} for {seconds:g} s", self._live(windows)))
                    self._say(f"{done[-1].name}, {done[-1].live} bars live")
                    fault()
                    self._settle(windows)
                    time.sleep(lengths.between)
        finally:
            jobs.finish()
        return self._judge(windows, jobs, done)

    def _judge(self, windows: list[str], jobs: Jobs, done: list[Fault]) -> Report:
        histories = jobs.histories()
        self._say("all jobs have ended")
        latest = "Object.values(window.latest).map((one) => [one.job, ...one.look])"
        groups, plan = layout()

        def ends() -> list[tuple[str, bool]]:
            """Each bar's job, and whether it shows its end."""
            return [
                (job, histories[job][-1].look == Look(*look))
                for window in windows
                for job, *look in self._ask(window, latest)
            ]

        expected = sum(
            len(bar.get("jobs", "").split()) or groups.count(bar.get("group", "")) or 1
            for _, _, bars in plan
            for bar in bars
        )
        names = {job.id: job.name for job in jobs.all}
        deadline = time.monotonic() + 60
        while True:
            bars = ends()
            right = sum(ok for _, ok in bars)
            if right == expected or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        right_jobs = {names.get(job, job) for job, ok in bars if ok} - {
            names.get(job, job) for job, ok in bars if not ok
        }
        showings = [
            Showing(
                f"window {n}, bar {one['bar']}, {one['job']}",
                one["job"],
                one["since"],
                one["until"],
                Look(*one["look"]),
                one["fresh"],
                one["awake"],
                one["samples"],
            )
            for n, window in enumerate(windows)
            for one in self._ask(window, "window.shown")
        ]
        verdict = check(histories, showings, self.bound_ms)
        for n, window in enumerate(windows):
            verdict.lies += [f"window {n}: {error}" for error in self._ask(window, "window.errors")]
        return Report(expected, len(jobs.all), right, len(right_jobs), verdict, done)
