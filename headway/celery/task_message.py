"""TaskMessage: what is known of a task when it is sent, and when it is started."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery._state import get_current_task

from headway.celery.run import Run
from headway.contract.foreign import task_id_of
from headway.tracing import carried

GROUP_HEADER = "headway_group"
"""A header of ours, on tasks of chains and bodies of chords: Celery's own say no group of these."""
PARENT_HEADER = "headway_parent"
"""Another: the id of the task whose child this one is. Celery's `parent_id` may name a task that is no job,
and by it the tasks of a chain are each other's children."""
_UNLOCK = "celery.chord_unlock"
CONTINUES = "celery.accumulate"
"""What Celery puts behind a group that takes the place of a task: it has that task's id, and its result."""


@dataclass(frozen=True, slots=True)
class TaskMessage:
    id: str
    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    root_id: str
    parent_id: str | None = None
    """Of the task whose child it is."""
    group: str | None = None
    chain: Sequence[Any] = ()
    """The tasks that follow it, serialized, the next one last."""
    chord: Mapping[str, Any] | None = None
    """The body of the chord that it is in, serialized."""
    eta: str | None = None
    """ISO 8601."""
    trace: str = ""
    """The context of the span that sent it, if the project traces its tasks (headway.tracing)."""

    @classmethod
    def sent(cls, headers: Mapping[str, Any] | None, body: Any) -> TaskMessage | None:
        """Return the task that a message sends, or None if it is not understood."""
        facts: Mapping[str, Any]
        embedded: Mapping[str, Any]
        if isinstance(body, Mapping):  # protocol 1
            args, kwargs, facts = body.get("args"), body.get("kwargs"), {**body, **(headers or {})}
            embedded = {}
        elif isinstance(body, tuple | list) and len(body) == 3 and headers:
            args, kwargs, facts, embedded = body[0], body[1], headers, body[2] or {}
        else:
            return None
        task_id, name = facts.get("id"), facts.get("task")
        if not isinstance(task_id, str) or not isinstance(name, str):
            return None
        return cls._of(task_id, name, args, kwargs, facts, embedded)

    @classmethod
    def started(cls, task_id: str, name: str, args: Any, kwargs: Any, request: Any) -> TaskMessage:
        """Return the task that a worker begins."""
        return cls._of(
            task_id, name, args, kwargs, request, {"chain": request.chain, "chord": request.chord}
        )

    @classmethod
    def _of(
        cls, task_id: str, name: str, args: Any, kwargs: Any, facts: Any, embedded: Mapping[str, Any]
    ) -> TaskMessage:
        group = facts.get(GROUP_HEADER) or facts.get("group") or facts.get("taskset")
        eta = facts.get("eta")
        return cls(
            task_id,
            name,
            tuple(args or ()),
            dict(kwargs or {}),
            facts.get("root_id") or task_id,
            facts.get(PARENT_HEADER),
            str(group) if group else None,
            embedded.get("chain") or (),
            embedded.get("chord"),
            eta if isinstance(eta, str) else None,
            carried(facts.get("traceparent"), facts.get("tracestate")),
        )

    def followers(self) -> tuple[dict[str, int], dict[str, int], str | None]:
        """Return how many tasks of which group are not sent unless this one succeeds: first the rest of its
        chain, then the body of the chord that the chain's last is in, which is the same for all tasks of
        that chord; and the group of that last one."""
        each: dict[str, int] = {}
        once: dict[str, int] = {}
        group, chord = _follow(self.group, self._until_replaced(reversed(self.chain)), each)
        if not self.chain:
            chord = self.chord
        if chord:
            _follow(group, self._until_replaced(_steps(chord)), once)
        return each, once, group

    def _until_replaced(self, steps: Iterable[Any]) -> Iterator[Any]:
        """Without the task that put these in its place and comes back behind them, and what follows that:
        they are counted already."""
        return itertools.takewhile(lambda step: not self._is_parent(step), steps)

    def _is_parent(self, signature: Any) -> bool:
        return self.parent_id is not None and _option(signature, "task_id") == self.parent_id

    @property
    def ends_for(self) -> str | None:
        """The id of the task that put this one and others in its place, if it comes back behind them."""
        chord = next((c for s in self.chain if (c := _option(s, "chord"))), self.chord)
        steps = [*self.chain, *(_steps(chord) if chord else ())]
        return self.parent_id if any(map(self._is_parent, steps)) else None

    def eta_ms(self, now_ms: float) -> int:
        """When it is to be started, in ms since 1970; 0 if at once."""
        if self.eta is None:
            return 0
        try:
            eta = datetime.datetime.fromisoformat(self.eta)
        except ValueError:
            return 0
        at = (eta if eta.tzinfo else eta.replace(tzinfo=datetime.UTC)).timestamp() * 1000
        return round(at) if at > now_ms else 0


_ONE_TASK = (None, "", "xmap", "xstarmap")
"""Types of signatures that become one message."""


def _steps(signature: Any) -> list[Any]:
    """Return the signatures that are sent one after another, from the first."""
    if signature.get("subtask_type") == "chain":
        return list(signature["kwargs"]["tasks"])
    return [signature, *reversed(_option(signature, "chain") or ())]


def _option(signature: Any, name: str) -> Any:
    return (signature.get("options") or {}).get(name)


def _group_in(signature: Any) -> str | None:
    """The group that a signature says. Where it was put behind a group, Celery may name that."""
    kept: str | None = (_option(signature, "headers") or {}).get(GROUP_HEADER)
    return kept or _option(signature, "group_id")


def _follow(group: str | None, steps: Iterable[Any], counts: dict[str, int]) -> tuple[str | None, Any]:
    """Count the steps by their groups; `group` is that of those that name none. Returns the group of the
    last, and the body of the chord that it is in."""
    own, chord = group, None
    for signature in steps:
        if signature.get("subtask_type") not in _ONE_TASK:
            return own, None  # what follows is in a group of its own, of which nobody knows here
        own = _group_in(signature) or group
        if own:
            counts[own] = counts.get(own, 0) + 1
        chord = _option(signature, "chord")
    return own, chord


def following(request: Any) -> dict[str, str | None]:
    """Return the tasks that Celery sends when this one has succeeded, by their ids: the next of its chain
    (all tasks of a group or chord that comes next), the body of its chord. With the id of the group if they
    are one then: their messages may not say it. Asked at a task's start, as older versions take the chain
    apart later."""
    found = [*(request.chain or ())[-1:], *([request.chord] if request.chord else ())]
    return dict(pair for signature in found for pair in _first(signature))


def _first(signature: Any, group: str | None = None) -> Iterator[tuple[str, str | None]]:
    """The ids of the tasks that are sent when the signature is applied; the group that they are in then."""
    kind, kwargs = signature.get("subtask_type"), signature.get("kwargs") or {}
    if kind == "group":
        for task in kwargs["tasks"]:
            yield from _first(task, _option(signature, "task_id"))
    elif kind == "chord":
        header = kwargs["header"]  # a list, or a group
        for task in header["kwargs"]["tasks"] if isinstance(header, Mapping) else header:
            yield from _first(task)
    elif kind == "chain":
        yield from _first(_steps(signature)[0])
    elif task_id := _option(signature, "task_id"):
        yield task_id, group


def keep_places(run: Run, chain: Iterable[Any]) -> None:
    """Have the rest of the run's chain stay in its group, though others send it: the run's task is about to
    put these in its place."""
    for signature in chain:
        places = {GROUP_HEADER: _group_in(signature) or run.ref.group, PARENT_HEADER: run.parent_id}
        kept = {name: value for name, value in places.items() if value is not None}
        options = signature.setdefault("options", {})
        options["headers"] = {**(options.get("headers") or {}), **kept}


def place_headers(group: str | None, parent: str | None) -> dict[str, str]:
    """Return the headers that tell whoever runs a submitted job's task where the job belongs: the ids that
    name its keys do not follow from the task's."""
    # Children without a group are one, of their parent's name.
    places = {
        GROUP_HEADER: None if group == parent else group,
        PARENT_HEADER: parent and task_id_of(parent),
    }
    return {name: value for name, value in places.items() if value is not None}


def parent_of(headers: Mapping[str, Any], run: Run | None) -> str | None:
    """Return the id of the task whose child is about to be sent, if the `run` sends it: that of the run, or
    of the run's own parent if it goes on where the run ends."""
    if run is None or headers.get("id") in (run.task_id, run.ends_for):
        return None
    if headers.get("id") in run.following:
        return headers.get(PARENT_HEADER) or run.parent_id
    return run.task_id if headers.get("parent_id") == run.task_id else None


def group_of(headers: Mapping[str, Any], body: Any, run: Run | None) -> str | None:
    """Return the group of a task that is about to be sent and that Celery says no group of: the first task
    of a chain begins one, named by its id; the others, and the body of a chord, belong to that of the `run`
    that sends them. What takes the place of the run's task is in no group; it is the task's child. Of a
    group that is the body of a chord Celery says that it is in the chord's."""
    task_id = str(headers.get("id"))
    current = get_current_task()
    chord: Any = None
    followers = {} if run is None else run.following
    if current is not None and current.name == _UNLOCK and current.request.args:
        chord, followers = current.request.args[0], dict(_first(current.request.args[1]))
    if followers.get(task_id):
        return followers[task_id]
    if headers.get("group"):
        return None
    if run is not None and task_id == run.ends_for:
        return None
    if run is not None and task_id in run.following:
        return headers.get(GROUP_HEADER) or run.ref.group
    if run is not None and task_id == run.task_id:
        return run.ref.group
    if run is not None and (headers.get("replaced_task_nesting") or 0) > run.nesting:
        return None
    if chord is not None:
        return str(chord)
    embedded = body[2] if isinstance(body, tuple | list) and len(body) == 3 else {}
    if embedded and embedded.get("chain"):
        return str(headers.get(GROUP_HEADER) or task_id)
    return None
