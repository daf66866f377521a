"""NewJob: a submission, checked, and what the store keeps of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from headway.contract.encoding import dumps, rfc3339
from headway.contract.foreign import Foreign, task_id_of
from headway.contract.keys import JobRef
from headway.contract.records import MAX_PARAMS_BYTES, USUAL_PRIORITY, Links, Unique
from headway.contract.webhooks import Target


def links_of(job_id: str) -> Links:
    return Links(self=f"/jobs/{job_id}", events=f"/jobs/{job_id}/events")


@dataclass(frozen=True, slots=True)
class NewJob:
    """A submission, checked. `queue` is where workers of its type listen."""

    owner: str
    type: str
    params: dict[str, Any]
    queue: str
    max_attempts: int
    group: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    retry_of: str | None = None
    checkpoint: str = ""
    size: float = 1
    """How large it is beside the other jobs of its group."""
    parent: str | None = None
    parent_fence: str = ""
    """It is a child of the job `parent`, as long as that has this fence."""
    webhook: Target | None = None
    priority: int = USUAL_PRIORITY
    run_at_ms: int | None = None
    expires_s: float | None = None
    """It fails if it has not begun so long after `run_at_ms`, or after it was submitted."""
    unique: Unique | None = None
    foreign: Foreign | None = None
    """If another system sends its messages."""
    trace: str = ""
    """The context of the span that submitted it (headway.tracing); empty for none."""

    def ref(self, job_id: str, once: str = "") -> JobRef:
        """Return the ref of the job, if it has this id."""
        return JobRef(job_id, self.owner, self.queue, self.group, once, self.parent)

    @property
    def kind(self) -> tuple[Any, ...]:
        """Jobs of a kind have the same `shared_fields`, and differ in the keys of their ids alone."""
        return (
            *(self.type, self.owner, self.queue, self.group, self.parent, self.max_attempts),
            *(self.timeout_s, self.size, self.priority, self.run_at_ms, self.checkpoint),
        )

    def without_params(self) -> NewJob:
        """Return the job without its parameters."""
        foreign = None if self.foreign is None else replace(self.foreign, partial=bool(self.params))
        return replace(self, params={}, foreign=foreign)

    def fields(self, ref: JobRef) -> dict[str, Any]:
        """Return the fields of the job's hash that are known before it is made. Raises RecordError."""
        return {**self.shared_fields(), **self.own_fields(ref)}

    def shared_fields(self) -> Mapping[str, str]:
        """Return the fields that follow from the job's kind, and those that few jobs have as they are
        without: the job's own fields come after them."""
        *kind, checkpoint = self.kind
        return {**_shared_fields(*kind), "_checkpoint": checkpoint}

    def own_fields(self, ref: JobRef) -> dict[str, Any]:
        """Return the job's own fields. Raises RecordError."""
        fields = {
            "id": f'"{ref.id}"',
            # Encoded: as text, one emoji makes each character take four bytes.
            "labels": dumps(self.labels).encode(),
            "params": dumps(self.params, MAX_PARAMS_BYTES, "params").encode(),
            "links": links_of(ref.id).model_dump_json(),
            **(self.webhook.fields(self.owner) if self.webhook else {}),
        }
        if self.retry_of is not None:
            fields["retry_of"] = dumps(self.retry_of)
        if ref.once:
            fields["_once"] = ref.once
        if self.trace:
            fields["_trace"] = self.trace
        if self.run_at_ms is not None:
            fields["_not_before"] = str(self.run_at_ms)
        if self.unique is not None:
            fields["unique"] = dumps(self.unique.model_dump(by_alias=True))
            fields["_unique"] = hashlib.blake2b(self.unique.key.encode(), digest_size=16).hexdigest()
            fields["_while"] = self.unique.while_
        if self.foreign is not None:
            fields["_foreign"] = self.foreign.task_id or task_id_of(ref.id)
            if self.foreign.not_before_ms and self.run_at_ms is None:
                fields["_not_before"] = str(self.foreign.not_before_ms)
            if self.foreign.followers:
                fields["_followers"] = self.foreign.followers
            if self.foreign.partial:
                fields["_partial"] = "1"
            if self.foreign.sent:
                fields["_sent"] = "1"
        return fields


@lru_cache(256, typed=True)
def _shared_fields(
    type: str,
    owner: str,
    queue: str,
    group: str | None,
    parent: str | None,
    max_attempts: int,
    timeout_s: float | None,
    size: float,
    priority: int,
    run_at_ms: int | None,
) -> Mapping[str, str]:
    return {
        "type": dumps(type),
        "owner": dumps(owner),
        "group": dumps(group),
        "parent": dumps(parent),
        "max_attempts": dumps(max_attempts),
        "timeout_s": dumps(timeout_s),
        "size": dumps(size),
        "priority": dumps(priority),
        "run_at": "null" if run_at_ms is None else f'"{rfc3339(run_at_ms)}"',
        "retry_of": "null",
        "_once": "",
        "_queue": queue,
    }
