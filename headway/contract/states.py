"""The states of a job and the one table of its transitions.

The Lua scripts have no table of their own: each is handed the states it may start from.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.FAILED, State.CANCELED}),
    State.RUNNING: frozenset(
        {State.RETRYING, State.WAITING, State.SUCCEEDED, State.FAILED, State.CANCELED}
    ),
    State.RETRYING: frozenset({State.RUNNING, State.FAILED, State.CANCELED}),
    State.WAITING: frozenset({State.QUEUED, State.FAILED, State.CANCELED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELED: frozenset(),
}

LIVE = tuple(state for state in State if TRANSITIONS[state])


def sources(target: State) -> tuple[State, ...]:
    """The states from which a job may go to `target`, in the table's order."""
    return tuple(state for state, targets in TRANSITIONS.items() if target in targets)


class ErrorCode(StrEnum):
    """Why a job failed, for programs; `error.message` says it for people."""

    ERROR = "error"
    TIMEOUT = "timeout"
    WORKER_LOST = "worker_lost"
    CANCELED = "canceled"
    INVALID_INPUT = "invalid_input"
    NO_SPACE = "no_space"
