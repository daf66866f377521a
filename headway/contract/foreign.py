"""Foreign jobs: those whose messages another system sends, such as the tasks of a project's own Celery.

Headway does not dispatch them. It learns of each execution when the other system's worker reports it, so
it cannot refuse one: an execution takes a job over that is held by an earlier one (lua/execute.lua). Their
alarms send nothing; they end a job whose worker is lost, or that nobody starts.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from headway.contract.keys import JOB_ID, Keys, encoded

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

QUEUE = "celery:"
"""What the queues of such jobs begin with: no queue of the broker's, but the line where jobs that were
submitted here wait for an agent."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """What a new job has because it is foreign."""

    sent: bool
    """Whether the other system has the task already; else an agent hands it over (Executions)."""
    task_id: str = ""
    """The other system's id of it; without one it is made from the job's id."""
    partial: bool = False
    """Whether `params` lack some of the task's arguments, so that it cannot be submitted again."""
    wait_ms: int = 0
    """For how long, beside the retention, it may wait for a start."""
    not_before_ms: int = 0
    """When it is to be started at the earliest (ms since 1970)."""
    followers: str = ""
    """Which groups expect how many jobs that will not come unless it succeeds (`followers`)."""


def followers(each: Mapping[str, int], once: Mapping[str, int]) -> str:
    """Return `Foreign.followers`: how many jobs each job that says so takes away from a group, and how
    many are taken away `once`, however many jobs say so."""
    return " ".join(
        [f"{encoded(group)} {count}" for group, count in each.items()]
        + [f"{encoded(group)}/once {count}" for group, count in once.items()]
    )


def job_id_of(owner: str, task_id: str) -> str:
    """Return the id of the job of a task, without its partition: the task's own 128 bits, or of any other
    id a hash."""
    if _UUID.fullmatch(task_id):
        bits = bytes.fromhex(task_id.replace("-", ""))
    else:
        bits = hashlib.blake2b(f"{owner}\0{task_id}".encode("utf-8", "replace"), digest_size=16).digest()
    return base64.urlsafe_b64encode(bits).decode().rstrip("=")


def placed(keys: Keys, owner: str, job_id: str) -> str:
    """Return a job's whole id, given it with or without the partition. May raise redis.RedisError."""
    return job_id if JOB_ID.fullmatch(job_id) else f"{keys.partition(owner)}-{job_id}"


def task_id_of(job_id: str) -> str:
    """Return the id of a task that is to have a job with this id."""
    return str(uuid.UUID(bytes=base64.urlsafe_b64decode(job_id.partition("-")[2] + "==")))
