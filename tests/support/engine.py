"""The streaming engine without a server: a store in memory, sockets that a test fills, steps by hand."""

from __future__ import annotations

from typing import Any, cast

from headway.contract.events import EventId, Published
from headway.contract.pages import JobPage
from service.streaming.catchup import CatchUp, FeedCatchUp, JobCatchUp, JobListCatchUp
from service.streaming.heartbeat import COMMENT, VisibleHeartbeat
from service.streaming.hub import Hub
from service.streaming.opening import EventStream
from service.streaming.reader import Place, Reader
from service.streaming.sockets import BEAT_SLOTS, Sockets
from service.streaming.stream_limits import Holder, StreamLimits
from tests.support.memory_store import OWNER, InlineReader, MemoryStore
from tests.support.sse import Parser, Seen

HEARTBEAT_S = 15.0


class Client:
    """The other end of a reader's socket. It takes `room` more bytes, any number if that is None."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.room: int | None = None
        self.closed = False
        self.data = b""

    @property
    def events(self) -> list[Seen]:
        return [seen for seen in Parser().feed(self.data) if seen.event != "heartbeat"]


class Sides:
    """All clients; the poller and the `write` of Sockets."""

    def __init__(self) -> None:
        self.clients: dict[int, Client] = {}
        self.waiting: set[int] = set()

    def new(self) -> Client:
        client = Client(len(self.clients) + 1)
        self.clients[client.fd] = client
        return client

    def write(self, fd: int, chunk: bytes | memoryview) -> int:
        client = self.clients[fd]
        assert not client.closed, "nothing is written to a descriptor that was closed"
        taken = len(chunk) if client.room is None else min(client.room, len(chunk))
        if not taken:
            raise BlockingIOError
        if client.room is not None:
            client.room -= taken
        client.data += bytes(chunk[:taken])
        return taken

    def add(self, sock: Any) -> int:
        return cast(int, sock.fd)

    def watch_writable(self, fd: int, wanted: bool) -> None:
        assert wanted != (fd in self.waiting)
        (self.waiting.add if wanted else self.waiting.discard)(fd)

    def remove(self, fd: int) -> None:
        assert not self.clients[fd].closed
        self.clients[fd].closed = True
        self.waiting.discard(fd)

    def wait(self) -> None:
        pass

    def ready(self) -> list[tuple[int, bool]]:
        return [(fd, False) for fd in sorted(self.waiting) if self.clients[fd].room != 0]


class Viewer:
    """Sees the jobs of its owner, as long as it is told."""

    owner = sees_only = OWNER

    def __init__(self) -> None:
        self.is_valid = True

    def sees(self, page: JobPage) -> bool:
        return page.owner == self.owner

    def valid(self) -> bool:
        return self.is_valid


class Engine:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.reader = InlineReader(self.store)
        self.sides = Sides()
        self.viewer = Viewer()
        self.hub = Hub(cast(Any, self.store))
        (self.link,) = self.hub.links.values()
        self.limits = StreamLimits(0, 0)
        self.sockets = Sockets(self.hub, self.limits, HEARTBEAT_S, self.sides, self.sides.write)
        self.hub.writer = self.sockets
        self.now = 0.0
        self.sockets.beat(self.now)
        self.connect()

    # -- the connection to Redis -------------------------------------------------------------------

    def connect(self) -> None:
        self.link.connect(cast(Any, self.store.wire))

    def lose_connection(self) -> None:
        self.store.wire.disconnect()
        self.store.wire.replies.clear()
        self.link.lose()

    def deliver(self, count: int = 1_000_000) -> None:
        """Hand on the oldest replies of Redis, in one batch."""
        replies = self.store.wire.replies
        batch = [replies.popleft() for _ in range(min(count, len(replies)))]
        if batch:
            self.link.receive(batch)

    def lose_message(self, n: int = 0) -> EventId | None:
        """Lose one published message that is on its way, if there is one; returns its id."""
        replies = self.store.wire.replies
        messages = [reply for reply in replies if reply[0] == b"smessage"]
        if not messages:
            return None
        lost = messages[n % len(messages)]
        replies.remove(lost)
        return Published.of(lost[2]).id

    def late(self) -> dict[str, EventId]:
        """The topics that have not heard of the store's last id."""
        names = list(self.hub._topics)
        return self.hub.late(dict(zip(names, self.store.last_ids(names), strict=True)))

    def audit(self) -> None:
        self.hub.distrust(self.late())

    # -- readers -----------------------------------------------------------------------------------

    def job(self, job_id: str) -> JobCatchUp:
        return JobCatchUp(cast(Any, self.reader), self.viewer, job_id)

    def jobs(self, *job_ids: str) -> JobListCatchUp:
        return JobListCatchUp(cast(Any, self.reader), self.viewer, job_ids)

    def feed(self, group: str | None = None) -> FeedCatchUp:
        return FeedCatchUp(cast(Any, self.reader), self.viewer, self.viewer.owner, group)

    def stream(
        self,
        catchup: CatchUp,
        cursor: EventId | None = None,
        fault: str | None = None,
        visible: bool = False,
    ) -> EventStream:
        """A stream that is asked for, and has no socket yet."""
        holder = Holder("198.51.100.7", "someone")
        assert self.limits.admit(holder)
        heartbeat = VisibleHeartbeat(HEARTBEAT_S) if visible else COMMENT
        return EventStream(self.sockets, holder, catchup, heartbeat, cursor, fault)

    def hand_over(self, stream: EventStream) -> Client:
        client = self.sides.new()
        stream.hand_over(cast(Any, client))
        stream.close()
        return client

    def join(self, catchup: CatchUp, cursor: EventId | None = None, **more: Any) -> Client:
        """A client whose stream opens as behind."""
        return self.hand_over(self.stream(catchup, cursor, **more))

    def reader_of(self, client: Client) -> Reader:
        return self.sockets._readers[client.fd]

    def place(self, client: Client) -> Place:
        return Place.GONE if client.closed else self.reader_of(client).place

    def beat(self) -> None:
        """One heartbeat for every reader."""
        self.now += HEARTBEAT_S * (1 + 1 / BEAT_SLOTS)
        self.sockets.beat(self.now)

    # -- all that is due ---------------------------------------------------------------------------

    def settle(self, rounds: int = 12) -> None:
        """Do all that the loops would, until nothing is left to do. Fails if there is no end to it."""
        for _ in range(rounds):
            self.link.send_outbox()
            self.deliver()
            self.sockets.watch()
            for _ in range(1000):
                self.sockets.catch_up()
                if not self.sockets._behind:
                    break
            self.sockets.unpark()
            if not (self.sockets.catching_up or self.store.wire.replies or self.link._to_subscribe):
                return
        raise AssertionError(f"{self.sockets.catching_up} readers never settle")

    def check(self) -> None:
        """Every reader is where its place says, and nowhere else."""
        for reader in self.sockets._readers.values():
            topics = [self.hub.topic(name) for name in reader.topics]
            live = [topic for topic in topics if topic.live.get(reader.fd) is reader]
            watching = [topic for topic in topics if reader in topic.watchers]
            assert len(live) + len(watching) == len(topics)
            assert bool(live) == (reader.place is Place.LIVE)
            assert (reader.fd in self.sides.waiting) == (reader.place is Place.BLOCKED)
            assert reader not in self.sockets._behind or reader.place is Place.BEHIND
            assert reader not in self.sockets.unsettled
            for topic in live:
                assert topic.written == topic.last
                assert not topic.unwritten
