"""Bars: the progress that tasks report without knowing of Headway: update_state, tqdm, rich.progress.

celery-progress's ProgressRecorder calls update_state. Each hook calls the original first, and does nothing
outside of a task that is a job.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.abc import MetaPathFinder
from typing import Any

from celery.app.task import Task

from headway.celery.run import RUN, Canceled, Run, current_run

CURRENT = ("current", "done", "completed", "processed", "n")
TOTAL = ("total", "count")
SHARE = ("percent", "percentage", "progress")
"""Of 100; `progress` beside a `total` is of that."""
MESSAGE = ("description", "message", "status", "desc")
UNIT = ("unit", "units")

_HOOKED = "__headway__"
_COUNTED = "_headway_counted"
"""The attribute of a bar that is moved by what is iterated."""
_CLOSED = "_headway_closed"
"""That of one that is closed: what is told of it later by another thread is no more of it."""


def note_state(run: Run, meta: Any) -> bool:
    """Note what `update_state(meta=…)` says. Returns whether it is the run's first."""
    if not isinstance(meta, Mapping):
        return False
    current, total = _number(meta, CURRENT), _number(meta, TOTAL)
    if current is None and "total" in meta:
        current = _number(meta, ("progress",))
    if current is None:
        current, total = _number(meta, SHARE), 100.0
    if current is None:
        return False
    message, unit = _text(meta, MESSAGE), _text(meta, UNIT)
    return run.note("state", current, total, unit=unit, message=message, leads=True)


def _number(meta: Mapping[Any, Any], names: tuple[str, ...]) -> float | None:
    for name in names:
        value = meta.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        # Decimals, and numbers of numpy.
        if value is not None and not isinstance(value, str | bool):
            try:
                return float(value)
            except (TypeError, ValueError):
                continue
    return None


def _text(meta: Mapping[Any, Any], names: tuple[str, ...]) -> str | None:
    return next((meta[name] for name in names if isinstance(meta.get(name), str)), None)


def hook_all(run_of: Callable[[Any, str | None], Run | None]) -> None:
    """Hook everything that reports progress: what is imported by now at once, the rest when it is.

    `run_of` finds the run whose state a task updates. The hooks stay for the life of the process; hooking
    again changes nothing.
    """
    _hook_update_state(run_of)
    _LateHooks.install({"tqdm.std": _hook_tqdm, "rich.progress": _hook_rich})


def _note(run: Run, first: bool) -> None:
    if first:
        run.begin_bar(run)


def replace_method(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put what `make` makes of a method in its place, once."""
    original = getattr(owner, name)
    if not hasattr(original, _HOOKED):
        hooked = functools.wraps(original)(make(original))
        setattr(hooked, _HOOKED, True)
        setattr(owner, name, hooked)


def _hook_update_state(run_of: Callable[[Any, str | None], Run | None]) -> None:
    def make(original: Any) -> Any:
        def update_state(
            self: Any, task_id: Any = None, state: Any = None, meta: Any = None, **kwargs: Any
        ) -> Any:
            returned = original(self, task_id, state, meta, **kwargs)
            run = run_of(self, task_id)
            if run is not None:
                run.said = (state, meta)
                _note(run, _harmless(note_state, run, meta))
                run.check()
            return returned

        return update_state

    replace_method(Task, "update_state", make)


def _harmless(note: Callable[..., bool], *args: Any, **kwargs: Any) -> bool:
    """What a project hands to its bars may be anything; nothing of it must fail a task here."""
    try:
        return note(*args, **kwargs)
    except Canceled:
        raise
    except Exception:  # noqa: BLE001
        return False


def _run_of(bar: Any) -> Run | None:
    """The run in which a bar was made: what moves it may be a thread that knows of no task. Of a bar that
    outlives its task, or was made before, the calling thread's. None once it is closed."""
    if vars(bar).get(_CLOSED):
        return None
    run: Run | None = vars(bar).get(RUN)
    return run if run is not None and run.outcome is None else current_run()


def _hook_tqdm(module: Any) -> None:
    def make_init(original: Any) -> Any:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            setattr(self, RUN, current_run())
            original(self, *args, **kwargs)

        return __init__

    def show(bar: Any, n: float) -> None:
        run = _run_of(bar)
        if run is not None:
            unit = bar.unit if getattr(bar, "unit", "it") != "it" else None
            desc = (getattr(bar, "desc", "") or "").rstrip(": ") or None
            name = desc or ""
            total = getattr(bar, "total", None)
            _note(run, _harmless(run.note, id(bar), n, total, unit=unit, message=desc, name=name))

    def make_iter(original: Any) -> Any:
        def __iter__(self: Any) -> Iterator[Any]:  # noqa: N807
            setattr(self, _CLOSED, False)  # iterated once more
            run = _run_of(self)
            return original(self) if run is None else counted(run, self, original(self))

        return __iter__

    def counted(run: Run, bar: Any, items: Iterator[Any]) -> Iterator[Any]:
        n = getattr(bar, "initial", 0) or 0
        if not hasattr(bar, "total"):  # disabled
            bar.total = _length(bar.iterable)
        setattr(bar, _COUNTED, True)
        show(bar, n)
        stage = run.meter.stage
        leads = run.leads(id(bar))
        try:
            for item in items:
                yield item
                n += 1
                if leads and stage is not None:
                    stage.current = n
                    if run.stop.pending:
                        run.check()
        finally:  # also if the loop is left
            run.close(id(bar))

    def make_update(original: Any) -> Any:
        def update(self: Any, n: float | None = 1) -> Any:
            disabled = self.disable and not vars(self).get(_CLOSED)
            returned = original(self, n)
            if disabled:
                # It counts nothing itself.
                self.n = (getattr(self, "n", 0) or 0) + (n or 0)
            show(self, self.n)
            return returned

        return update

    def make_refresh(original: Any) -> Any:
        def refresh(self: Any, *args: Any, **kwargs: Any) -> Any:
            returned = original(self, *args, **kwargs)
            # A bar is refreshed when it is made, too. What is iterated is ahead of what the bar says.
            n = getattr(self, "n", 0) or 0
            if n != (getattr(self, "initial", 0) or 0) and not hasattr(self, _COUNTED):
                show(self, n)
            return returned

        return refresh

    def make_close(original: Any) -> Any:
        def close(self: Any) -> Any:
            run = _run_of(self)
            if run is not None:
                run.close(id(self))
            setattr(self, _CLOSED, True)
            return original(self)

        return close

    replace_method(module.tqdm, "__init__", make_init)
    replace_method(module.tqdm, "__iter__", make_iter)
    replace_method(module.tqdm, "update", make_update)
    replace_method(module.tqdm, "refresh", make_refresh)
    replace_method(module.tqdm, "close", make_close)


def _length(items: Any) -> int | None:
    try:
        return len(items)
    except (TypeError, AttributeError):
        return None


def _hook_rich(module: Any) -> None:
    def show(progress: Any, task_id: Any) -> bool:
        # Its tracker updates from a thread of its own, so the run is that in which the bar was added.
        run = getattr(progress, "_headway", {}).get(task_id)
        task = progress._tasks.get(task_id)
        if run is None or task is None or run.outcome is not None:
            return False
        bar = (id(progress), task_id)
        message = task.description if isinstance(task.description, str) else None
        _note(run, run.note(bar, task.completed, task.total, message=message, name=message or ""))
        if task.finished:
            run.close(bar)
        return True

    def quiet(progress: Any, task_id: Any) -> None:
        _harmless(show, progress, task_id)

    def make_add(original: Any) -> Any:
        def add_task(self: Any, *args: Any, **kwargs: Any) -> Any:
            task_id = original(self, *args, **kwargs)
            run = current_run()
            if run is not None:
                self.__dict__.setdefault("_headway", {})[task_id] = run
                quiet(self, task_id)
            return task_id

        return add_task

    def make_change(original: Any) -> Any:
        def change(self: Any, task_id: Any, *args: Any, **kwargs: Any) -> Any:
            returned = original(self, task_id, *args, **kwargs)
            quiet(self, task_id)
            return returned

        return change

    def leave(progress: Any, *task_ids: Any) -> None:
        """What is left before its end keeps no other bar from being shown."""
        runs = getattr(progress, "_headway", {})
        for task_id in task_ids or tuple(runs):
            if task_id in runs:
                runs.pop(task_id).close((id(progress), task_id))

    def make_stop(original: Any) -> Any:
        def stop(self: Any) -> Any:
            leave(self)
            return original(self)

        return stop

    def make_remove(original: Any) -> Any:
        def remove_task(self: Any, task_id: Any) -> Any:
            leave(self, task_id)
            return original(self, task_id)

        return remove_task

    replace_method(module.Progress, "add_task", make_add)
    for name in ("update", "advance", "reset"):
        replace_method(module.Progress, name, make_change)
    replace_method(module.Progress, "stop", make_stop)
    replace_method(module.Progress, "remove_task", make_remove)


class _LateHooks(MetaPathFinder):
    """Hooks modules when a project imports them; it never imports one by itself."""

    _instance: _LateHooks | None = None

    def __init__(self) -> None:
        self.hooks: dict[str, Callable[[Any], None]] = {}

    @classmethod
    def install(cls, hooks: Mapping[str, Callable[[Any], None]]) -> None:
        for name, hook in hooks.items():
            if name in sys.modules:
                hook(sys.modules[name])
        missing = {name: hook for name, hook in hooks.items() if name not in sys.modules}
        if cls._instance is None:
            cls._instance = cls()
            sys.meta_path.insert(0, cls._instance)
        cls._instance.hooks = missing

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        hook = self.hooks.get(fullname)
        if hook is None:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            hook(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
