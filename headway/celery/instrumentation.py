"""Instrumentation: connects an app's signals, so that each task that is sent or runs is a job."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from celery import Celery, current_app, group, signals, states
from celery._state import _apps
from celery.app.task import Task
from celery.exceptions import Ignore
from celery.result import AsyncResult
from kombu.entity import Queue

from headway.celery import bars
from headway.celery.agent import Agent
from headway.celery.interruption import Interruption
from headway.celery.recorder import Abandoned, Announcement, Recorder, Total
from headway.celery.redaction import Redact, Redaction, is_plain
from headway.celery.run import RUN, Run, current_run, failure, max_attempts, outcome_of, retrying
from headway.celery.selection import Selection
from headway.celery.signature import TaskSignature
from headway.celery.task_message import (
    CONTINUES,
    GROUP_HEADER,
    PARENT_HEADER,
    TaskMessage,
    following,
    group_of,
    keep_places,
    parent_of,
)
from headway.contract.access import check_owner
from headway.contract.executions import Outcome
from headway.contract.foreign import QUEUE, Foreign, followers, job_id_of, placed
from headway.contract.keys import JobRef
from headway.contract.new_job import NewJob
from headway.contract.records import MAX_LABEL_CHARS, MAX_LABEL_VALUE_CHARS
from headway.contract.settings import ConfigError, Settings, load_client
from headway.contract.states import State
from headway.contract.store import JobStore

FLUSH_S = 1.0
"""How long a process that ends waits for its last notes to be written."""
VISIBILITY_S = 3600.0
"""After which Redis as a broker delivers again what a lost worker had, by default."""
MAX_GROUPS = 1000
DEFAULT_MAX_ATTEMPTS = 4
"""Of a task that is not known where it is sent: Celery's own default."""

logger = logging.getLogger("headway.celery")

_instrumented: dict[int, Instrumentation] = {}


def instrument(
    app: Celery,
    *,
    redis_url: str | None = None,
    owner: str = "local",
    include: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    sample: float = 1.0,
    redact: Redact = (),
) -> None:
    """Show each task of this app as a job in Headway, from when it is sent.

    Call it once, where the app is made: wherever tasks are sent or run, it is imported. `redis_url` is
    Headway's Redis; by default HEADWAY_REDIS_URL, else REDIS_URL. Without one, nothing is shown, and a
    warning in the log says so. `include` and `exclude` are patterns of tasks' names, `sample` is the share
    of tasks that are shown, `redact` says what is not (headway.celery.redaction). The jobs are `owner`'s.

    It raises for arguments that are wrong (ValueError, TypeError, ConfigError) and for nothing else: if
    Headway's Redis cannot be reached, tasks are sent and run as without it.
    """
    if not isinstance(app, Celery):
        raise TypeError(f"instrument takes a Celery app, not {app!r}")
    check_owner(owner)
    selection, redaction = Selection(include, exclude, sample), Redaction(redact)
    try:
        settings = load_client(os.environ, redis_url)
    except ConfigError as error:
        if redis_url is not None:
            raise
        logger.warning("tasks are not shown in Headway: %s", error)
        return
    before = _instrumented.pop(id(app), None)
    if before is not None:
        before.disconnect()
    _instrumented[id(app)] = Instrumentation(app, settings, owner, selection, redaction)
    bars.replace_method(group, "apply_async", _counted)
    bars.replace_method(Task, "replace", _noticed)


def job_id(task_id: str, owner: str = "local") -> str:
    """Return the id of a task's job, for `/jobs/{id}/events`: `job_id(add.delay(2, 2).id)`.

    The first call for an owner asks Headway's Redis, that of an instrumented app, else the environment's.
    Raises ConfigError if its settings cannot be used, redis.RedisError if it cannot be reached.
    """
    stores = [one.recorder.store for one in _instrumented.values()] or [_store_of_environment]
    return placed(stores[0]().keys, owner, job_id_of(owner, task_id))


@functools.cache
def _store_of_environment() -> JobStore:
    return JobStore.of(load_client(os.environ), connections=1)


def _harmless(handler: Callable[..., None]) -> Callable[..., None]:
    """A signal's handler that fails tells the log, and nobody else."""

    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> None:
        try:
            handler(*args, **kwargs)
        except Exception:
            logger.exception("headway: a task may be shown wrongly")

    return call


def _run_of(task: Task, task_id: str | None) -> Run | None:
    """The run whose state a task updates: its own, or that of the `task_id` that it names, which is how a
    thread of a task has to say it."""
    run = current_run()
    if run is not None and task_id in (None, run.task_id):
        return run
    instrumentation = _instrumented.get(id(task.app))
    return None if instrumentation is None or task_id is None else instrumentation.runs.get(task_id)


def _counted(apply_async: Any) -> Any:
    """Wrap `group.apply_async`, since no signal says how many tasks a group has."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = apply_async(self, *args, **kwargs)
        instrumentation = _instrumented.get(id(self.app))
        if instrumentation is not None:
            instrumentation.group_was_sent(result)
        return result

    return call


def _noticed(replace: Any) -> Any:
    """Wrap `Task.replace`, since no signal says that a task puts others in its place, which may come back
    to it much later."""

    def call(self: Any, sig: Any) -> Any:
        run = current_run()
        if run is None:
            return replace(self, sig)
        keep_places(run, self.request.chain or ())
        try:
            return replace(self, sig)
        except Ignore:
            run.replaced = True
            raise

    return call


class Instrumentation:
    """One app's. Its handlers run in the project's threads: they take notes and wait for nothing."""

    def __init__(
        self, app: Celery, settings: Settings, owner: str, selection: Selection, redaction: Redaction
    ) -> None:
        self._app = app
        self._owner = owner
        self._selection = selection
        self._redaction = redaction
        self.recorder = Recorder(settings, Interruption(app).begin)
        self._queue = QUEUE + (app.main or "tasks")
        self._agent = Agent(app, self.recorder.store, settings, owner, self._queue, selection, redaction)
        self.runs: dict[str, Run] = {}
        """By their tasks' ids. Of a task that retries at once, in another thread, the newest."""
        self._signatures: dict[str, TaskSignature] = {}
        self._sending = threading.local()
        """`here`: whether it is this app's task that the thread is sending."""
        self._after: dict[str, int] = {}
        """How many tasks follow those of a group that is being sent: the body of a chord."""
        self._handlers = (
            (signals.before_task_publish, _harmless(self._before_publish)),
            (signals.after_task_publish, _harmless(self._published)),
            (signals.task_prerun, _harmless(self._started)),
            (signals.task_postrun, _harmless(self._ended)),
            (signals.task_failure, _harmless(self._failed)),
            (signals.task_retry, _harmless(self._retried)),
            (signals.task_revoked, _harmless(self._revoked)),
            (signals.worker_ready, _harmless(self._worker_ready)),
            # The first is for signals, also those that end a worker at once; the second for a command.
            (signals.worker_shutting_down, _harmless(self._worker_stops)),
            (signals.worker_shutdown, _harmless(self._worker_stops)),
            (signals.worker_process_shutdown, _harmless(self._flush)),
        )
        for signal, handler in self._handlers:
            signal.connect(handler, weak=False)
        atexit.register(self._process_ends)
        bars.hook_all(_run_of)

    def disconnect(self) -> None:
        """Undo it, but for the hooks of bars."""
        for signal, handler in self._handlers:
            signal.disconnect(handler)
        atexit.unregister(self._process_ends)

    # -- where tasks are sent ----------------------------------------------------------------------

    def _before_publish(
        self, sender: Any = None, headers: Any = None, body: Any = None, declare: Any = None, **_: Any
    ) -> None:
        self._sending.here = isinstance(headers, dict) and self._sends(sender, declare)
        if self._sending.here:
            run = self._running()
            group = group_of(headers, body, run)
            if group is not None:
                headers[GROUP_HEADER] = group
            parent = parent_of(headers, run)
            if parent is not None:
                headers[PARENT_HEADER] = parent

    def _published(self, headers: Any = None, body: Any = None, **_: Any) -> None:
        if not self._sending.here:
            return
        message = TaskMessage.sent(headers, body)
        if message is None or not self._selection.takes(message.name, message.root_id):
            return
        run = self._running()
        if run is not None and run.task_id == message.id:
            run.resent = True
            return
        if not message.chain and not message.chord and is_plain(message.args, message.kwargs.values()):
            make_job = functools.partial(self._job, message)
        else:  # The project may change something of it.
            new = self._job(message)
            make_job = functools.partial(lambda: new)
        self.recorder.put(Announcement(self._job_id(message.id), self._owner, make_job))
        if message.group is None:
            return
        each, once, followed = message.followers()
        if followed is not None and followed in once:
            if len(self._after) >= MAX_GROUPS:
                self._after.clear()
            self._after[followed] = once[followed]
        if message.chain and message.group == message.id:
            self._tell_total(message.group, 1 + each.get(message.group, 0))

    @_harmless
    def group_was_sent(self, result: Any) -> None:
        """Note how many tasks a group has, now that they are sent."""
        if self._app.conf.task_always_eager:
            return
        if all(type(part) is self._app.AsyncResult or type(part) is AsyncResult for part in result.results):
            self._tell_total(result.id, len(result.results) + self._after.pop(result.id, 0))

    def _tell_total(self, group: str, jobs: int) -> None:
        if self._selection.takes_all(self._app.tasks):
            self.recorder.put(Total(self._owner, group[:MAX_LABEL_CHARS], jobs))

    def _sends(self, name: str | None, queues: Sequence[Queue] | None) -> bool:
        """Whether it is this app that sends a task of this name to these queues: the signal does not say
        which it is. Apps have tasks in common (by default all that one of them has), but no queues."""
        if queues and _has(self._app, queues[0]):
            return True
        others = [app for app in list(_apps) if app is not self._app]
        if queues and any(_has(other, queues[0]) for other in others):
            return False
        if name in self._app.tasks:
            return True
        return current_app._get_current_object() is self._app and not any(
            name in other._tasks for other in others
        )

    def _job_id(self, task_id: str) -> str:
        """Without its partition."""
        return job_id_of(self._owner, task_id)

    def _ref(self, message: TaskMessage) -> JobRef:
        group, parent = self._place(message)
        return JobRef(self._job_id(message.id), self._owner, self._queue, group, parent=parent)

    def _place(self, message: TaskMessage) -> tuple[str | None, str | None]:
        """The group that a task's job has of its own, and its parent."""
        group = None if message.group is None else message.group[:MAX_LABEL_CHARS]
        return group, None if message.parent_id is None else self._job_id(message.parent_id)

    def _job(self, message: TaskMessage) -> NewJob:
        signature = self._signature(message.name)
        params, partial = self._redaction.params(
            message.name, signature.to_params(message.args, message.kwargs)
        )
        task = self._app.tasks.get(message.name)
        now_ms = time.time() * 1000
        eta_ms = message.eta_ms(now_ms)
        group, parent = self._place(message)
        each, once, _ = message.followers()
        return NewJob(
            owner=self._owner,
            type=message.name,
            params=params,
            queue=self._queue,
            max_attempts=DEFAULT_MAX_ATTEMPTS if task is None else max_attempts(task),
            group=group,
            parent=parent,
            labels={"task_id": message.id[:MAX_LABEL_VALUE_CHARS]},
            trace=message.trace,
            foreign=Foreign(
                sent=True,
                task_id=message.id,
                partial=partial,
                wait_ms=max(0, round(eta_ms - now_ms)) if eta_ms else 0,
                not_before_ms=eta_ms,
                followers=followers(each, once),
            ),
        )

    def _signature(self, name: str) -> TaskSignature:
        found = self._signatures.get(name)
        if found is None:
            task = self._app.tasks.get(name)
            found = TaskSignature(None if task is None else task.run)
            if task is not None:
                self._signatures[name] = found
        return found

    # -- where they run ----------------------------------------------------------------------------

    def _running(self) -> Run | None:
        run = current_run()
        return run if run is not None and run.task.app is self._app else None

    def _runs_here(self, task_id: str) -> bool:
        run = self._running()
        return task_id in self.runs or (run is not None and run.task_id == task_id)

    def _started(
        self, task_id: str = "", task: Any = None, args: Any = None, kwargs: Any = None, **_: Any
    ) -> None:
        if task.app is not self._app:
            return
        request = task.request
        if task.name != CONTINUES and not self._selection.takes(task.name, request.root_id or task_id):
            return
        message = TaskMessage.started(task_id, task.name, args, kwargs, request)
        ref = self._ref(message)
        make_job = functools.partial(self._job, message)
        run = Run(task, task_id, ref, request.retries or 0, make_job, self.recorder.put)
        run.worker = f"{request.hostname or 'eager'}:{os.getpid()}"
        run.parent_id = message.parent_id
        run.only_continues = task.name == CONTINUES
        run.nesting = request.get("replaced_task_nesting") or 0
        if request.chain or request.chord:
            run.following, run.ends_for = following(request), message.ends_for
        if task.acks_late and not request.is_eager:
            run.redelivery_s = self._redelivery_s()
        setattr(request, RUN, run)
        self.runs[task_id] = run
        self.recorder.put(run)

    def _redelivery_s(self) -> float:
        options = self._app.conf.broker_transport_options or {}
        return float(options.get("visibility_timeout") or VISIBILITY_S) + 60

    def _ended(
        self, task_id: str = "", task: Any = None, retval: Any = None, state: str | None = None, **_: Any
    ) -> None:
        run = getattr(task.request, RUN, None)
        if task.app is not self._app or not isinstance(run, Run) or run.task_id != task_id:
            return
        if self.runs.get(task_id) is run:
            del self.runs[task_id]
        if state is None and not run.unwanted:
            # Its process or greenlet is being ended. Whoever does that says why (task_revoked,
            # task_failure), or the lease runs out.
            run.cut_off = True
            self.recorder.put(run)
            return
        try:
            run.outcome = outcome_of(run, state, retval, self._redaction)
        except Exception:
            logger.exception("headway: the outcome of task %s is not shown as it is", task_id)
            run.outcome = Outcome(State.SUCCEEDED if state == states.SUCCESS else State.FAILED)
        self.recorder.put(run)
        if run.ends_for is not None and run.outcome.state in (State.FAILED, State.CANCELED):
            self.recorder.put(Abandoned(self._job_id(run.ends_for), self._owner, run.outcome))
        self.recorder.relieve(run)
        if state == states.IGNORED and run.unwanted:
            # Celery keeps no state of a task that ends by its own wish.
            task.backend.mark_as_revoked(task_id, "its job ended in Headway", request=task.request)

    def _failed(
        self,
        sender: Any = None,
        task_id: str = "",
        exception: Any = None,
        args: Any = None,
        kwargs: Any = None,
        **_: Any,
    ) -> None:
        """In a worker's main process: the process of the task could not say it itself."""
        if self._runs_here(task_id) or exception is None:
            return
        make_job, request = None, getattr(sender, "request", None)
        # Not every version of Celery has it there, and not for every failure.
        if request is not None and request.id == task_id:
            message = TaskMessage.started(task_id, sender.name, args, kwargs, request)
            if self._selection.takes(message.name, message.root_id):
                make_job = functools.partial(self._job, message)
        self._abandon(sender, task_id, failure(_name(sender), exception, self._redaction), make_job)

    def _retried(self, sender: Any = None, request: Any = None, reason: Any = None, **_: Any) -> None:
        """In a worker's main process, which sends a task again whose process was lost, if the project says
        so (`retry_on_worker_lost`)."""
        if not self._runs_here(request.id):
            self._abandon(sender, request.id, retrying(_name(sender), reason, self._redaction))

    def _revoked(self, sender: Any = None, request: Any = None, terminated: Any = False, **_: Any) -> None:
        if not terminated or not self._runs_here(request.id):
            self._abandon(sender, request.id, Outcome(State.CANCELED))

    def _abandon(
        self, task: Any, task_id: str, outcome: Outcome, make_job: Callable[[], NewJob] | None = None
    ) -> None:
        if getattr(task, "app", self._app) is self._app and self._selection.takes_type(_name(task)):
            self.recorder.put(Abandoned(self._job_id(task_id), self._owner, outcome, make_job))

    # -- the worker's own process ------------------------------------------------------------------

    def _worker_ready(self, sender: Any = None, **_: Any) -> None:
        if sender is None or sender.app is self._app:
            self._agent.start(sender)

    def _worker_stops(self, **_: Any) -> None:
        self._agent.stop()

    def _process_ends(self) -> None:
        # Also of a worker that ends by an error: nobody has told the agent.
        self._agent.stop()
        self._agent.join()
        self._flush()

    def _flush(self, **_: Any) -> None:
        self.recorder.flush(FLUSH_S)


def _has(app: Celery, queue: Queue) -> bool:
    """Whether a queue is this app's own. An app that has sent nothing yet has none, and is not made to read
    its configuration."""
    amqp = vars(app).get("amqp")
    return amqp is not None and vars(amqp).get("queues", {}).get(queue.name) is queue


def _name(task: Any) -> str:
    return str(getattr(task, "name", task))
