"""Every Redis key, in one catalogue.

A partition's keys carry its hash tag, so all that one script touches lies in one slot of a
Redis Cluster. With `P` for the prefix and `{p}` for the partition's tag (headway/contract/layout.py):

    P{p}:clock                   hash    ms, n: the last id handed out; lineage: whose it is; forks: how far
                                         those before came (lua/clock.lua)
    P{p}:alarms                  zset    job id -> ms when to look at it next (every live job, once)
    P{p}:expiring                zset    job id -> ms when an ended job may be swept away
    P{p}:job:<id>                hash    the job; a field is the JSON text of the document's field,
                                         fields that begin with _ are not part of the document
    P{p}:events:<id>             stream  the job's events (also the name of its channel): e type, p the one
                                         before, d data, k the kept one before (events.py)
    P{p}:unread:<id>             stream  messages to the job that its task has not read; ids are the events'
    P{p}:watch                   hash    when an alarm loop last reached the store, and until when leases
                                         have a grace because none did (lua/look.lua)
    P{p}:ready                   string  nothing: written to see whether the server takes writes
    P{p}:waiting:<queue>         zset    the jobs that wait for a worker; from 1e15 on, before their time
    P{p}:line:<queue>            zset    owner -> the place of its next turn (lua/line.lua)
    P{p}:line:<queue>:<owner>    zset    job id -> its place in its owner's line, by priority and group
    P{p}:turns:<queue>           hash    owner -> the place of its next turn, in the line or not; '' -> that
                                         of the last turn; ' new' -> that of the newest who came;
                                         ' n' -> how many jobs have come
    P{p}:turns:<queue>:<owner>   zset    "<class><group in JSON>" -> the place of its next turn in its
                                         owner's line; "<class> " -> that of the last turn; "<class> n" ->
                                         that of the newest who came
    P{p}:taken:<worker>          string  token of the last job that a worker's process took, and the job;
                                         lives as long as a lease
    P{p}:unique:<owner>:<key>    string  unique key (hashed) -> the job that holds it, or held it last
    P{p}:outcomes                hash    what became of jobs, counted by type (lua/outcomes.lua)
    P{p}:paused                  hash    "queue:<name>", "type:<name>" or "worker:<name>" -> since when
                                         nothing is claimed there, and by whose request, in JSON
                                         (pauses.py)
    P{p}:jobs:<owner>            zset    all jobs of an owner, by time of creation
    P{p}:jobs:<owner>:<state>    zset    those in one state
    P{p}:counts:<owner>          hash    "<state> <type in JSON>" -> how many of the owner's jobs
    P{p}:group:<owner>:<group>   zset    those of one group: a job is in its own, and in the one that
                                         has its parent's id for a name
    P{p}:tally:<owner>:<group>   hash    a group's jobs by state, and how much is done (lua/tally.lua)
    P{p}:orphans                 zset    job id -> ms when it ended, though its children may live
    P{p}:groups                  zset    key of a tally -> ms when its feed is to be told of it
    P{p}:feed:owner:<owner>      stream  events of many jobs, without progress (also a channel)
    P{p}:feed:group:<owner>:<g>  stream  the same for one group
    P{p}:last:<feed>             hash    any, stored: the feed's last ids, with and without progress
    P{p}:rate:<owner>            hash    tokens, at: the owner's bucket of submissions; expires when full
    P{p}:revoked                 zset    id of a foreign task that is not to be started -> when it was
                                         canceled, in ms
    P{p}:once:<owner>:<key>      string  idempotency key -> hash of the body and job id; lives
                                         as long as its job; of a message: hash, event id, attempt
    P{p}:batch:<owner>:<key>     string  idempotency key -> hash of the body, and a batch's jobs; expires
    P{p}:webhooks:<owner>        hash    name of a webhook -> 1 if it is told of all jobs, 0 if of those
                                         whose submissions name its host
    P{p}:webhooks_due            zset    "<owner>:<name>" of a webhook -> ms when to look at what it is owed
    P{p}:webhook:<owner>:<name>  hash    the webhook (headway/contract/webhooks.py)
    P{p}:lanes:<owner>:<name>    zset    job id -> ms when to deliver the first that is owed of that job
    P{p}:lane:<owner>:<name>:<j> list    what is owed of a job: "id event queued_ms url", newline, data
    P{p}:tries:<owner>:<name>    hash    job id -> how often its first was tried in vain
    P{p}:sent:<owner>:<name>     list    the log of deliveries in JSON, newest first
    P{types}:seen                zset    name of a job type -> when a worker last registered it, in s
    P{p}:upload:<owner>:<id>     hash    an upload that comes in parts: length, offset, groups, token of its
                                         writer; expires some time after its last byte
    P{p}:upload:<owner>:<id>:pieces list  names of the pieces that count
    P{p}:uploading:<owner>       zset    "<id> <length>" of these -> ms when it expires
    P{meta}:layout               hash    partitions, tags, version (headway/contract/layout.py)
    P{meta}:owners               hash    owner -> the partition of all that is the owner's
    P{meta}:keepers              zset    web process -> ms until which it keeps its share of the partitions
    P{types}:types               hash    name of a job type -> its description in JSON
    P{types}:alive               zset    "<type> <worker>" -> seconds until which it counts as alive
    P{types}:workers             hash    name of a worker -> what it says of itself, in JSON
    P{types}:own:<owner>         hash    the types that an owner declared over HTTP -> description in JSON
    P{types}:claiming:<owner>    zset    "<type> <worker>" -> seconds until which it counts as alive;
                                         "<type> " -> until when the type is known without one
    P{types}:files               string  the id of the store of files (files_identity.py)
    P{access}:keys               hash    id of an API key -> the key without its secret, in JSON
    P{access}:revoked            zset    id of a session that was ended -> when it would have expired
    P{access}:jobs:<name>        string  ids of the jobs of a ticket, in JSON; lives as long as the ticket
    P{access}:version            string  counts the changes of these two

Names that people choose (owners, groups, queues) are percent-encoded: a colon or a brace in one would
make it the name of another key.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field, replace
from functools import lru_cache
from urllib.parse import quote, unquote

from headway.contract.layout import MAX_PARTITIONS, Layout
from headway.contract.states import State

JOB_ID = re.compile(r"(0|[1-9]\d{0,3})-[A-Za-z0-9_-]{22}")


_OWN_QUEUE = "http:"


def own_queue(owner: str, type: str) -> str:
    """Return the queue of an owner's type that is served over HTTP; no message is ever sent to it."""
    return f"{_OWN_QUEUE}{encoded(owner)}:{type}"


def here_queue(owner: str) -> str:
    """Return the queue of jobs that the caller does itself: nobody claims from it."""
    return own_queue(owner, "")


SERVICE_QUEUE = f"{_OWN_QUEUE}:service"
"""The queue of jobs that the web processes do themselves."""


def is_own_queue(queue: str) -> bool:
    return queue.startswith(_OWN_QUEUE)


@dataclass(frozen=True, slots=True)
class JobRef:
    """A job and the unchanging facts that name its keys."""

    id: str
    owner: str
    queue: str
    group: str | None = None
    once: str = ""
    """The idempotency key it was made with, if any (hashed)."""
    parent: str | None = None
    """The job whose child it is. The children are a group of that name."""


def partition_of(job_id: str) -> int:
    """Returns the partition that an id names."""
    return int(job_id.partition("-")[0])


@dataclass(frozen=True, slots=True)
class Keys:
    """With a StoredLayout, every method may raise redis.RedisError."""

    prefix: str = "headway:"
    layout: Layout = field(default_factory=Layout)

    @property
    def partitions(self) -> int:
        return self.layout.partitions

    def partition(self, owner: str) -> int:
        """The partition that holds everything an owner can see."""
        return self.layout.partition(owner)

    def beside(self, job_id: str) -> Keys:
        """The keys of a job's owner: of one who is where the job is, whatever the layout says."""
        return _beside(self, partition_of(job_id))

    def new_job_id(self, owner: str) -> str:
        """128 random bits, URL-safe, led by the partition."""
        return f"{self.partition(owner)}-{secrets.token_urlsafe(16)}"

    def holds(self, job_id: str) -> bool:
        """Whether this could be the id of a job here. Ask before any other use of a foreign id."""
        return JOB_ID.fullmatch(job_id) is not None and partition_of(job_id) < MAX_PARTITIONS

    def _in(self, partition: int) -> str:
        return f"{self.prefix}{{{self.layout.tag(partition)}}}:"

    def _of(self, job_id: str) -> str:
        return self._in(partition_of(job_id))

    def clock(self, partition: int) -> str:
        return self._in(partition) + "clock"

    def clock_of(self, job_id: str) -> str:
        return self._of(job_id) + "clock"

    def alarms(self, partition: int) -> str:
        return self._in(partition) + "alarms"

    def outcomes(self, partition: int) -> str:
        return self._in(partition) + "outcomes"

    def watch(self, partition: int) -> str:
        return self._in(partition) + "watch"

    def ready(self, partition: int) -> str:
        return self._in(partition) + "ready"

    def expiring(self, partition: int) -> str:
        return self._in(partition) + "expiring"

    def job(self, job_id: str) -> str:
        return f"{self._of(job_id)}job:{job_id}"

    def job_head(self, partition: int) -> str:
        """What comes before the id in the key of each of a partition's jobs."""
        return self._in(partition) + "job:"

    def events(self, job_id: str) -> str:
        return f"{self._of(job_id)}events:{job_id}"

    def unread(self, job_id: str) -> str:
        return f"{self._of(job_id)}unread:{job_id}"

    def jobs(self, owner: str, state: State | None = None) -> str:
        suffix = f":{state}" if state else ""
        return f"{self._in(self.partition(owner))}jobs:{encoded(owner)}{suffix}"

    def counts(self, owner: str) -> str:
        return f"{self._in(self.partition(owner))}counts:{encoded(owner)}"

    def group(self, owner: str, group: str) -> str:
        return f"{self._in(self.partition(owner))}group:{encoded(owner)}:{encoded(group)}"

    def tally(self, owner: str, group: str) -> str:
        return f"{self._in(self.partition(owner))}tally:{encoded(owner)}:{encoded(group)}"

    def group_of(self, tally: str) -> tuple[str, str]:
        """The owner and the group of a tally."""
        owner, group = tally.rpartition("}:tally:")[2].split(":")
        return unquote(owner), unquote(group)

    def orphans(self, partition: int) -> str:
        return self._in(partition) + "orphans"

    def groups(self, partition: int) -> str:
        return self._in(partition) + "groups"

    def feed_jobs(self, owner: str, group: str | None) -> str:
        """The index of a feed's jobs."""
        return self.jobs(owner) if group is None else self.group(owner, group)

    def waiting(self, partition: int, queue: str) -> str:
        return f"{self._in(partition)}waiting:{encoded(queue)}"

    def line(self, partition: int, queue: str) -> str:
        return f"{self._in(partition)}line:{encoded(queue)}"

    def turns(self, partition: int, queue: str) -> str:
        return f"{self._in(partition)}turns:{encoded(queue)}"

    def taken(self, partition: int, worker: str) -> str:
        return f"{self._in(partition)}taken:{encoded(worker)}"

    def paused(self, partition: int) -> str:
        return self._in(partition) + "paused"

    def rate(self, owner: str) -> str:
        return f"{self._in(self.partition(owner))}rate:{encoded(owner)}"

    def upload(self, owner: str, upload_id: str) -> str:
        return f"{self._in(self.partition(owner))}upload:{encoded(owner)}:{upload_id}"

    def uploading(self, owner: str) -> str:
        return f"{self._in(self.partition(owner))}uploading:{encoded(owner)}"

    def webhooks(self, owner: str) -> str:
        return f"{self._in(self.partition(owner))}webhooks:{encoded(owner)}"

    def webhooks_due(self, partition: int) -> str:
        return self._in(partition) + "webhooks_due"

    def webhook(self, owner: str, name: str) -> str:
        return f"{self._in(self.partition(owner))}webhook:{webhook_member(owner, name)}"

    def webhook_lanes(self, owner: str, name: str) -> str:
        return f"{self._in(self.partition(owner))}lanes:{webhook_member(owner, name)}"

    def webhook_sent(self, owner: str, name: str) -> str:
        return f"{self._in(self.partition(owner))}sent:{webhook_member(owner, name)}"

    def feed(self, owner: str, group: str | None = None) -> str:
        return f"{self._in(self.partition(owner))}{_feed(owner, group)}"

    def feed_last(self, owner: str, group: str | None = None) -> str:
        return f"{self._in(self.partition(owner))}last:{_feed(owner, group)}"

    def once(self, owner: str, key: str) -> str:
        return f"{self._in(self.partition(owner))}once:{encoded(owner)}:{key}"

    def last_of(self, topic: str) -> tuple[str, str]:
        """The hash, and its field, that holds the last id of a stream of events or of a feed."""
        head, _, name = topic.rpartition("}:")
        if name.startswith("events:"):
            return f"{head}}}:job:{name.removeprefix('events:')}", "last_event_id"
        return f"{head}}}:last:{name}", "any"

    @property
    def layout_key(self) -> str:
        return f"{self.prefix}{{meta}}:layout"

    @property
    def keepers(self) -> str:
        return f"{self.prefix}{{meta}}:keepers"

    @property
    def types(self) -> str:
        return f"{self.prefix}{{types}}:types"

    @property
    def seen(self) -> str:
        return f"{self.prefix}{{types}}:seen"

    @property
    def alive(self) -> str:
        return f"{self.prefix}{{types}}:alive"

    @property
    def workers(self) -> str:
        return f"{self.prefix}{{types}}:workers"

    def own_types(self, owner: str) -> str:
        return f"{self.prefix}{{types}}:own:{encoded(owner)}"

    def claiming(self, owner: str) -> str:
        return f"{self.prefix}{{types}}:claiming:{encoded(owner)}"

    @property
    def files_id(self) -> str:
        return f"{self.prefix}{{types}}:files"

    @property
    def api_keys(self) -> str:
        return f"{self.prefix}{{access}}:keys"

    @property
    def revoked_sessions(self) -> str:
        return f"{self.prefix}{{access}}:revoked"

    @property
    def access_version(self) -> str:
        return f"{self.prefix}{{access}}:version"

    def revoked(self, partition: int) -> str:
        return self._in(partition) + "revoked"

    @property
    def access_log(self) -> str:
        return f"{self.prefix}{{access}}:log"

    def job_list(self, name: str) -> str:
        return f"{self.prefix}{{access}}:jobs:{name}"

    def batch(self, owner: str, key: str) -> str:
        return f"{self._in(self.partition(owner))}batch:{encoded(owner)}:{key}"

    def write_set(self, ref: JobRef) -> list[str]:
        """The keys of every script that changes a job, in the order of lua/prelude.lua."""
        before, after = _around(self, partition_of(ref.id), ref.owner, ref.queue, ref.group, ref.parent)
        return [*before, self.job(ref.id), self.events(ref.id), self.unread(ref.id), *after]


@lru_cache(4096)
def _around(
    keys: Keys, partition: int, owner: str, queue: str, group: str | None, parent: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What comes before and after a job's own keys in `Keys.write_set`."""
    keys = _beside(keys, partition)
    after = [
        keys.feed(owner),
        keys.feed_last(owner),
        keys.jobs(owner),
        *(keys.jobs(owner, state) for state in State),
        keys.waiting(partition, queue),
        keys.turns(partition, queue),
        keys.orphans(partition),
    ]
    for name in dict.fromkeys((group, parent)):
        if name is None:
            continue
        after += [
            keys.feed(owner, name),
            keys.feed_last(owner, name),
            keys.group(owner, name),
            keys.tally(owner, name),
            keys.groups(partition),
        ]
    return (keys.clock(partition), keys.alarms(partition), keys.expiring(partition)), tuple(after)


class _Beside(Layout):
    """Another layout where everybody is in one partition."""

    def __init__(self, layout: Layout, partition: int) -> None:
        super().__init__(layout.partitions)
        self._layout = layout
        self._partition = partition

    def tag(self, partition: int) -> str:
        return self._layout.tag(partition)

    def partition(self, owner: str) -> int:  # noqa: ARG002
        return self._partition


@lru_cache(4096)
def _beside(keys: Keys, partition: int) -> Keys:
    return replace(keys, layout=_Beside(keys.layout, partition))


def webhook_member(owner: str, name: str) -> str:
    """Return what names a webhook in other keys, and in a job's `_hooks`."""
    return f"{encoded(owner)}:{encoded(name)}"


def owner_and_name(member: str) -> tuple[str, str]:
    """The reverse of `webhook_member`."""
    owner, name = member.split(":")
    return unquote(owner), unquote(name)


@lru_cache(4096)
def encoded(chosen: str) -> str:
    """Return a name that people chose as it is spelled in keys."""
    return quote(chosen, safe="")


def _feed(owner: str, group: str | None) -> str:
    if group is None:
        return f"feed:owner:{encoded(owner)}"
    return f"feed:group:{encoded(owner)}:{encoded(group)}"
