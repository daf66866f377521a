"""Feeds: the events of many jobs, of an owner or of one of the owner's groups."""

from __future__ import annotations

from collections.abc import Sequence

from headway.contract.database import Database
from headway.contract.events import ZERO, Event, EventId
from headway.contract.pages import UNBOUNDED, FeedPage, FeedSnapshot, JobPage
from headway.contract.records import DOCUMENT
from headway.contract.states import LIVE, State

CHUNK = 200
"""Jobs read in one round trip."""
_FIELDS = [name.encode() for name in DOCUMENT]


class Feeds:
    """Reads feeds. Every method raises redis.RedisError when the store cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def read(
        self, owner: str, group: str | None, cursor: EventId, limit: int, most_bytes: int = UNBOUNDED
    ) -> FeedPage:
        """Return the events that the feed keeps after `cursor`: up to `limit` of them, fewer if they reach
        `most_bytes`, but at least one.

        An `end` has the job's whole document as long as the job is kept; after that, `params` and `result`
        are empty.
        """
        keys = self._db.keys
        clock, now_ms, last, stored, begun, entries, told, more = self._db.run(
            "read_feed",
            [
                keys.clock(keys.partition(owner)),
                keys.feed(owner, group),
                keys.feed_last(owner, group),
                keys.feed_jobs(owner, group),
                keys.jobs(owner, State.RUNNING),
                keys.jobs(owner, State.RETRYING),
                keys.jobs(owner, State.WAITING),
                *([] if group is None else [keys.tally(owner, group)]),
            ],
            [cursor.start, limit, keys.job_head(keys.partition(owner)), most_bytes],
        )
        return FeedPage(
            EventId.of(clock),
            int(now_ms),
            EventId.of(last),
            EventId.of(stored),
            [job_id.decode() for job_id in begun],
            [Event.of(entry) for entry in entries],
            bool(more),
            _told(told),
        )

    def snapshot(self, owner: str, group: str | None) -> FeedSnapshot:
        """Return the feed's jobs that lived at one moment and live still, each as it is at a later moment.
        What happened since the first is to be read from `clock` on."""
        keys = self._db.keys
        clock, last, told, *ids = self._db.run(
            "snapshot_feed",
            [
                keys.clock(keys.partition(owner)),
                keys.feed_last(owner, group),
                keys.feed_jobs(owner, group),
                keys.feed_jobs(owner, group) if group is None else keys.tally(owner, group),
                *(keys.jobs(owner, state) for state in LIVE),
            ],
            ["" if group is None else "group"],
        )
        at = EventId.of(clock)
        jobs = [keys.job(job_id.decode()) for job_id in ids]
        pages = []
        for start in range(0, len(jobs), CHUNK):
            rows = self._db.each([(job, ("HMGET", job, *DOCUMENT)) for job in jobs[start : start + CHUNK]])
            for row in rows:
                fields = {
                    name: value for name, value in zip(_FIELDS, row, strict=True) if value is not None
                }
                page = JobPage(at, fields, [])
                if fields and not page.ended:
                    pages.append(page)
        return FeedSnapshot(at, EventId.of(last), sorted(pages, key=lambda page: page.last), _told(told))

    def latest_progress(self, job_ids: Sequence[str], after: EventId = ZERO) -> list[Event]:
        """Return the newest progress event of each of these jobs, if that is later than `after`."""
        keys = self._db.keys
        jobs = [keys.job(job_id) for job_id in job_ids]
        known = self._db.each([(job, ("HGET", job, "_progress_id")) for job in jobs])
        found = self._db.each(
            [
                (stream, ("XRANGE", stream, progress_id, progress_id))
                for job_id, progress_id in zip(job_ids, known, strict=True)
                if progress_id and EventId.of(progress_id) > after
                for stream in [keys.events(job_id)]
            ]
        )
        return [Event.decoded(*entry) for entries in found for entry in entries]

    def last_ids(self, topics: Sequence[str]) -> list[EventId]:
        """Return the last id of each stream of events or feed, ZERO where there is none."""
        lasts = [self._db.keys.last_of(topic) for topic in topics]
        found = self._db.each([(key, ("HGET", key, field)) for key, field in lasts])
        return [EventId.of(raw.strip(b'"')) if raw else ZERO for raw in found]


def _told(found: list[bytes | None]) -> Event | None:
    """The last event about a group itself, as a script returns it: nothing came before it that matters."""
    if not found or found[0] is None or found[1] is None or found[2] is None:
        return None
    at = EventId.of(found[1])
    return Event(at, at, found[0].decode(), found[2])
