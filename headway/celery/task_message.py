"""TaskMessage: what is known of a task when it is sent, and when it is started."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery._state import get_current_task

from headway.celery.run import Run

GROUP_HEADER = "headway_group"
"""A header of ours, on tasks of chains and bodies of chords: Celery's own say no group of these."""
_UNLOCK = "celery.chord_unlock"


@dataclass(frozen=True, slots=True)
class TaskMessage:
    id: str
    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    root_id: str
    parent_id: str | None = None
    group: str | None = None
    eta: str | None = None
    """ISO 8601."""

    @classmethod
    def sent(cls, headers: Mapping[str, Any] | None, body: Any) -> TaskMessage | None:
        """Return the task that a message sends, or None if it is not understood."""
        if isinstance(body, Mapping):  # protocol 1
            args, kwargs, facts = body.get("args"), body.get("kwargs"), {**body, **(headers or {})}
        elif isinstance(body, tuple | list) and len(body) == 3 and headers:
            args, kwargs, facts = body[0], body[1], dict(headers)
        else:
            return None
        task_id, name = facts.get("id"), facts.get("task")
        if not isinstance(task_id, str) or not isinstance(name, str):
            return None
        return cls._of(task_id, name, args, kwargs, facts)

    @classmethod
    def started(cls, task_id: str, name: str, args: Any, kwargs: Any, request: Any) -> TaskMessage:
        """Return the task that a worker begins."""
        return cls._of(task_id, name, args, kwargs, request)

    @classmethod
    def _of(cls, task_id: str, name: str, args: Any, kwargs: Any, facts: Any) -> TaskMessage:
        group = facts.get("group") or facts.get("taskset") or facts.get(GROUP_HEADER)
        eta = facts.get("eta")
        return cls(
            task_id,
            name,
            args or (),
            kwargs or {},
            facts.get("root_id") or task_id,
            facts.get("parent_id"),
            str(group) if group else None,
            eta if isinstance(eta, str) else None,
        )

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


def following(request: Any) -> frozenset[str]:
    """Return the ids of the tasks that Celery sends when this one has succeeded: the next of its chain, the
    body of its chord. Asked at its start, as older versions take the chain apart later."""
    found = [*(request.chain or ())[-1:], *([request.chord] if request.chord else ())]
    ids = [(signature.get("options") or {}).get("task_id") for signature in found]
    return frozenset(task_id for task_id in ids if task_id)


def group_of(headers: Mapping[str, Any], body: Any, run: Run | None) -> str | None:
    """Return the group of a task that is about to be sent and that Celery says no group of: the first task
    of a chain begins one, named by its id; the others, and the body of a chord, belong to that of the `run`
    that sends them."""
    if headers.get("group"):
        return None
    current = get_current_task()
    if current is not None and current.name == _UNLOCK and current.request.args:
        return str(current.request.args[0])
    if run is not None and headers.get("id") in run.following:
        return run.ref.group
    embedded = body[2] if isinstance(body, tuple | list) and len(body) == 3 else {}
    if embedded and embedded.get("chain"):
        return str(headers.get(GROUP_HEADER) or headers.get("id"))
    return None
