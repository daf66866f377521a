"""A Celery project as others have them. Two lines of it are about Headway."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from celery import Celery, Task, chain, group
from celery.exceptions import Ignore, Reject, Retry
from kombu.exceptions import OperationalError

from headway.celery import instrument

app = Celery("shop", broker=os.environ["SHOP_BROKER"], backend=os.environ.get("SHOP_BACKEND"))
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    result_expires=600,
    task_always_eager=bool(os.environ.get("SHOP_EAGER")),
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": int(os.environ.get("SHOP_VISIBILITY_S", "600"))},
    accept_content=["json", "pickle"],
)
if os.environ.get("SHOP_INSTRUMENT", "1") == "1":
    instrument(app)
    # Another of the same project. It has all tasks of the first, too, as Celery has it by default; it says
    # nothing of what they do.
    annex = Celery("annex", broker=os.environ["SHOP_BROKER"], set_as_current=False)
    instrument(annex, owner="annex", redact=True)
    # As code does that asks whether there is a module. It must not use the hooks up.
    for module in ("tqdm.std", "rich.progress"):
        importlib.util.find_spec(module)


@app.task
def add(x: int, y: int = 0) -> int:
    return int(Decimal(x) + y)


@app.task
def noop() -> None:
    pass


@app.task
def named(**kwargs: int) -> dict[str, int]:
    return kwargs


@app.task(bind=True)
def count(self: Any, total: int, pause_s: float = 0.05) -> dict[str, int]:
    for n in range(total):
        self.update_state(state="PROGRESS", meta={"current": n, "total": total, "status": f"row {n}"})
        time.sleep(pause_s)
    return {"rows": total}


@app.task
def tqdm_rows(total: int, pause_s: float = 0.05) -> None:
    from tqdm import tqdm

    for _ in tqdm(range(total), desc="rows", unit="row"):
        for _ in tqdm(range(3), desc="cells"):
            time.sleep(pause_s / 3)


@app.task
def tqdm_by_hand(total: int, pause_s: float = 0.05) -> None:
    from tqdm import tqdm

    with tqdm(total=total) as bar:
        for n in range(total):
            bar.n = n + 1
            bar.refresh()
            time.sleep(pause_s)


@app.task
def tqdm_threads(total: int, pause_s: float = 0.05) -> None:
    """The bar is moved by threads that are no task's."""
    from tqdm import tqdm

    def work(bar: Any) -> None:
        time.sleep(2 * pause_s)
        bar.update()

    with tqdm(total=total) as bar, ThreadPoolExecutor(2) as pool:
        for _ in range(total):
            pool.submit(work, bar)


@app.task
def tqdm_map(total: int, pause_s: float = 0.05) -> None:
    from tqdm.contrib.concurrent import thread_map

    thread_map(lambda _: time.sleep(2 * pause_s), range(total), max_workers=2)


@app.task
def rich_rows(total: int, pause_s: float = 0.05) -> None:
    from rich.progress import track

    for _ in track(range(total), description="rich rows"):
        time.sleep(pause_s)


@app.task
def rich_left(total: int, pause_s: float = 0.05) -> None:
    """Its first two bars never get to their ends: a loop that is left, and a bar that is taken away."""
    from rich.progress import Progress, track

    for n in track(range(10 * total)):
        if n:
            break
    with Progress() as progress:
        scan = progress.add_task("scan", total=None)
        progress.remove_task(scan)
        rows = progress.add_task("rows", total=total)
        for _ in range(total):
            time.sleep(pause_s)
            progress.advance(rows)


@app.task(bind=True)
def told_by_thread(self: Any, total: int, pause_s: float = 0.05) -> None:
    def tell(task_id: str) -> None:
        for n in range(total):
            self.update_state(task_id, "PROGRESS", {"progress": n, "total": total})
            time.sleep(pause_s)

    thread = threading.Thread(target=tell, args=(self.request.id,))
    thread.start()
    thread.join()


@app.task
def recorded(total: int, pause_s: float = 0.05) -> None:
    """What celery-progress's ProgressRecorder does."""
    from celery import current_task

    for n in range(total):
        meta = {"pending": False, "current": n, "total": total, "percent": 0.0, "description": "rec"}
        current_task.update_state(state="PROGRESS", meta=meta)
        time.sleep(pause_s)


@app.task(bind=True, max_retries=2)
def flaky(self: Any, fails: int, countdown: float = 0.1) -> str:
    if self.request.retries < fails:
        raise self.retry(exc=ValueError("not yet"), countdown=countdown)
    return "at last"


class SlowToRetry(Task):  # type: ignore[misc]
    def on_retry(self, *_: Any) -> None:
        time.sleep(0.5)


@app.task(bind=True, base=SlowToRetry, max_retries=2)
def overtaken(self: Any) -> str:
    """Its next attempt is over before this one is."""
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return "at last"


@app.task(autoretry_for=(OSError,), retry_backoff=False, default_retry_delay=0.1, max_retries=1)
def gives_up() -> None:
    raise OSError("no luck")


@app.task
def fails(message: str = "boom") -> None:
    raise RuntimeError(message)


@app.task
def sleeps(seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.05)
    return "slept"


@app.task(acks_late=True)
def late(seconds: float) -> str:
    time.sleep(seconds)
    return "late"


@app.task
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True, retry_on_worker_lost=True, default_retry_delay=0.1, max_retries=1)
def dies_at(self: Any, path: str) -> str:
    """Its process is killed as soon as there is such a file, once."""
    while self.request.retries == 0:
        if Path(path).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
    return "at last"


@app.task
def secret(password: str, rows: list[int]) -> dict[str, Any]:
    return {"password": password, "rows": len(rows)}


@app.task
def strange() -> Any:
    return {1, 2, 3}, object


@app.task
def ignores() -> None:
    raise Ignore


@app.task(bind=True)
def says_so(self: Any) -> None:
    self.update_state(state="SUCCESS", meta={"rows": 3})
    raise Ignore


@app.task
def rejects(requeue: bool = False) -> None:
    """Its message was acknowledged before, so it does not come again."""
    raise Reject("no", requeue=requeue)


@app.task(time_limit=1)
def too_long() -> None:
    time.sleep(60)


@app.task(soft_time_limit=1)
def softly_too_long() -> None:
    time.sleep(60)


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(bind=True)
def parent(self: Any, children: int, seconds: float = 0) -> list[str]:
    """Sends tasks that outlive it, or waits for its end beside them."""
    ids = [sleeps.delay(60 if seconds else 0.3).id for _ in range(children)]
    sleeps(seconds)
    return ids


@app.task
def parent_of_failing(children: int) -> None:
    for _ in range(children):
        fails.delay()


@app.task(bind=True)
def replaced(self: Any) -> Any:
    raise self.replace(add.s(20, 3))


@app.task(bind=True, max_retries=1)
def swapped(self: Any, by: str, retries: int = 0) -> Any:
    """Puts a whole canvas in its place."""
    if self.request.retries < retries:
        raise self.retry(countdown=0)
    canvas = {
        "group": lambda: group(add.s(n, n) for n in range(3)),
        "chain": lambda: chain(add.s(1, 1), add.s(2)),
        "groups": lambda: chain(add.s(1, 1), group(add.s(0), add.s(2))),
        "failing chain": lambda: chain(fails.s(), add.si(1, 1), add.si(2, 2)),
        "failing group": lambda: group(fails.s(), add.s(1, 1)),
    }
    raise self.replace(canvas[by]())


@app.task
def spread(n: int) -> str:
    result = group(add.s(i, i) for i in range(n)).apply_async()
    return str(result.id)


@app.task
def marks(path: str) -> None:
    Path(path).touch()


def audit(self: Any, ledger: str, seconds: float, ends: str = "returns") -> float:
    """What it does stands in a file that knows nothing of Redis."""

    def note(*what: str) -> None:
        head = (f"{time.time():.3f}", str(os.getpid()), self.request.id, str(self.request.retries))
        line = " ".join([*head, *what]) + "\n"
        descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, line.encode())
        os.close(descriptor)

    from tqdm import tqdm

    note("began")
    for _ in tqdm(range(10), disable=True):
        time.sleep(seconds / 10)
    if ends == "sends":
        with suppress(OperationalError):
            note("sent", audited.delay(ledger, seconds).id)
    if ends == "retries" and self.request.retries < 2:
        try:
            raise self.retry(countdown=0.2)
        except Retry:
            note("retried")
            raise
        except Reject:
            # What Celery makes of it if the broker does not take the retry.
            note("raised")
            raise
        except OperationalError:
            pass
    if ends == "raises":
        note("raised")
        raise RuntimeError("as planned")
    note("returned")
    return seconds


audited = app.task(bind=True, max_retries=2, name=f"{__name__}.audited")(audit)
audited_late = app.task(bind=True, acks_late=True, name=f"{__name__}.audited_late")(audit)


@app.task
def big_result(size: int) -> str:
    return "x" * size
