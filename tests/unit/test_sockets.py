"""Where readers are, and what they are written, without a server."""

from __future__ import annotations

import socket
import threading

import pytest

from headway.contract.events import ZERO, EventId
from service.streaming.catchup import JobGone
from service.streaming.poller import Epoll, Poller, Selector
from service.streaming.reader import Place
from tests.support.engine import Engine, Viewer


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_a_caught_up_reader_of_one_job_is_live_and_of_several_settled(engine: Engine) -> None:
    one, two = engine.store.create(), engine.store.create()
    job, jobs = engine.join(engine.job(one)), engine.join(engine.jobs(one, two))
    engine.settle()
    assert (engine.place(job), engine.place(jobs)) == (Place.LIVE, Place.SETTLED)
    engine.store.emit(one, "end")
    engine.settle()
    assert [e.event for e in job.events] == ["snapshot", "end"]
    assert [e.event for e in jobs.events] == ["snapshot", "snapshot", "end"]
    assert (engine.place(job), engine.place(jobs)) == (Place.GONE, Place.SETTLED)


def test_two_readers_of_a_quiet_group_do_not_spin_whatever_their_cursors(engine: Engine) -> None:
    """One has a cursor that is newer than the group's last event: it came from another group."""
    engine.store.create("g")
    elsewhere = engine.store.create("h")
    engine.store.emit(elsewhere, "log")
    engine.join(engine.feed("g"), engine.store.clock)
    engine.settle()
    engine.join(engine.feed("g"))
    engine.settle()
    before = engine.store.reads
    engine.settle()
    assert engine.store.reads == before
    assert not engine.sockets.catching_up


def test_a_group_whose_feed_has_expired_does_not_make_its_readers_spin(engine: Engine) -> None:
    engine.store.create("g")
    early = engine.join(engine.feed("g"))
    engine.settle()
    engine.store.expire_feed("g")
    late = engine.join(engine.feed("g"))
    engine.settle()
    before = engine.store.reads
    engine.settle()
    assert engine.store.reads == before
    engine.store.create("g")
    engine.settle()
    assert [e.event for e in early.events] == [e.event for e in late.events] == ["snapshot", "state"]


def test_a_reader_that_a_page_gets_nowhere_waits_before_it_reads_again(engine: Engine) -> None:
    job_id = engine.store.create()
    client = engine.join(engine.job(job_id))
    engine.settle()
    engine.hub.topic(engine.store.keys.events(job_id)).skip_to(EventId(9_000_000_000_000, 0))
    engine.reader_of(client).move_to(Place.BEHIND)
    before = engine.store.reads
    for _ in range(5):
        engine.sockets.catch_up()
    assert engine.store.reads == before + 1, "hub and store disagree: more reads would not help"
    assert engine.sockets.catching_up == 1


def test_a_heartbeat_that_blocks_a_reader_while_its_page_is_read_mixes_no_bytes(engine: Engine) -> None:
    job_id = engine.store.create()
    client = engine.join(engine.job(job_id), visible=True)
    engine.settle()
    engine.lose_connection()
    engine.store.emit(job_id, "log")
    engine.connect()
    engine.link.send_outbox()
    engine.deliver()

    def meanwhile() -> None:
        client.room = 30
        engine.beat()

    engine.store.during_read = meanwhile
    engine.sockets.catch_up()
    assert engine.place(client) is Place.BLOCKED
    engine.beat()
    client.room = None
    engine.settle()
    engine.store.emit(job_id, "log")
    engine.settle()
    assert [e.event for e in client.events] == ["snapshot", "log", "log"]


def test_a_reader_is_asked_once_however_many_of_its_topics_have_news(engine: Engine) -> None:
    jobs = [engine.store.create() for _ in range(50)]
    engine.join(engine.jobs(*jobs))
    engine.settle()
    asked = 0
    collect = engine.hub.collect

    def counted(*asking):  # type: ignore[no-untyped-def]
        nonlocal asked
        asked += 1
        return collect(*asking)

    engine.hub.collect = counted  # type: ignore[method-assign]
    for job_id in jobs:
        engine.store.emit(job_id, "log")
    engine.deliver()
    assert asked == 1


def lose_next_of(engine: Engine, job_id: str, event: str = "log") -> EventId:
    """A job's event that its topic never hears of."""
    written = engine.store.emit(job_id, event)
    assert engine.lose_message() == written.id
    return written.id


@pytest.mark.parametrize("found_by", ["audit", "gap", "reconnection"])
def test_a_list_that_another_job_led_past_a_lost_event_is_reset(engine: Engine, found_by: str) -> None:
    one, two = engine.store.create(), engine.store.create()
    client = engine.join(engine.jobs(one, two))
    engine.settle()
    lose_next_of(engine, one)
    engine.store.emit(two, "log")
    engine.settle()
    assert [e.event for e in client.events] == ["snapshot", "snapshot", "log"]
    if found_by == "audit":
        engine.audit()
    elif found_by == "gap":
        engine.store.emit(one, "log")
    else:
        engine.lose_connection()
        engine.connect()
    engine.settle()
    last = client.events[-1]
    assert (last.event, last.data["reason"]) == ("reset", "events_missed")
    assert last.id == str(engine.store.clock)
    engine.store.emit(one, "log")
    engine.settle()
    assert [e.event for e in client.events][-2:] == ["reset", "log"], "and then it goes on"


def test_a_list_that_read_the_lost_event_from_the_store_is_not_reset(engine: Engine) -> None:
    one, two = engine.store.create(), engine.store.create()
    watching = engine.join(engine.job(one))
    engine.settle()
    lose_next_of(engine, one)
    late = engine.join(engine.jobs(one, two))
    engine.settle()
    engine.store.emit(two, "log")
    engine.settle()
    engine.audit()
    engine.settle()
    assert [e.event for e in watching.events] == ["snapshot", "log"]
    assert [e.event for e in late.events] == ["snapshot", "snapshot", "log"]


def test_a_list_whose_cursor_is_before_the_lost_event_reads_it(engine: Engine) -> None:
    """The same is true of a message that comes late: the audit must not cost a list its state."""
    one, two = engine.store.create(), engine.store.create()
    client = engine.join(engine.jobs(one, two))
    engine.settle()
    engine.store.emit(two, "log")
    engine.settle()
    lose_next_of(engine, one)
    engine.audit()
    engine.settle()
    assert [e.event for e in client.events] == ["snapshot", "snapshot", "log", "log"]


@pytest.mark.parametrize("left", list(Place))
@pytest.mark.parametrize("entered", list(Place))
def test_only_moves_that_make_sense_are_possible(engine: Engine, left: Place, entered: Place) -> None:
    job_id = engine.store.create()
    client = engine.join(engine.job(job_id))
    reader = engine.reader_of(client)
    engine.settle()
    ways = {
        Place.LIVE: (),
        Place.BLOCKED: (Place.BLOCKED,),
        Place.BEHIND: (Place.BEHIND,),
        Place.SETTLED: (Place.BEHIND, Place.SETTLED),
        Place.GONE: (Place.GONE,),
    }
    for place in ways[left]:
        reader.move_to(place)
    possible = {
        Place.LIVE: {Place.BLOCKED, Place.BEHIND, Place.GONE},
        Place.SETTLED: {Place.LIVE, Place.BLOCKED, Place.BEHIND, Place.GONE},
        Place.BLOCKED: {Place.BEHIND, Place.GONE},
        Place.BEHIND: {Place.SETTLED, Place.BLOCKED, Place.GONE},
        Place.GONE: set(),
    }
    if entered in possible[left]:
        reader.move_to(entered)
        assert reader.place is entered
        engine.check()
    else:
        with pytest.raises(RuntimeError, match=f"{left.value} cannot be {entered.value}"):
            reader.move_to(entered)
        assert reader.place is left


@pytest.mark.parametrize("kind", [Epoll, Selector])
def test_a_poller_tells_of_closed_and_of_writable_sockets(kind: type[Poller]) -> None:
    poller = kind()
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            fd = poller.add(theirs)
        poller.watch_writable(fd, True)
        poller.wait()
        assert list(poller.ready()) == [(fd, False)]
        poller.watch_writable(fd, False)
        waiting = threading.Thread(target=poller.wait)
        waiting.start()
        ours.close()
        waiting.join(10)
        assert not waiting.is_alive()
        if not (ready := list(poller.ready())):
            poller.wait()
            ready = list(poller.ready())
        assert ready == [(fd, True)]
        poller.remove(fd)


def test_a_reader_whose_credential_is_no_longer_valid_is_sent_away() -> None:
    engine = Engine()
    job_id = engine.store.create()
    ours, blocked = engine.join(engine.job(job_id)), engine.join(engine.job(job_id))
    engine.viewer = other = Viewer()
    theirs = engine.join(engine.job(job_id))
    engine.settle()
    blocked.room = 0
    engine.store.emit(job_id, "log")
    engine.settle()
    engine.sockets.dismiss_invalid()
    assert not any(client.closed for client in (ours, blocked, theirs))
    engine.reader_of(ours).catchup.viewer.is_valid = False  # type: ignore[attr-defined]
    assert other.valid()
    engine.sockets.dismiss_invalid()
    assert ours.events[-1].event == "shutdown"
    assert ours.closed
    assert blocked.closed
    assert not theirs.closed


def test_what_the_viewer_does_not_see_is_absent() -> None:
    engine = Engine()
    job_id = engine.store.create()
    engine.viewer.owner = "bob"
    for catchup in (engine.job(job_id), engine.jobs(job_id)):
        for read in (
            catchup.start,
            lambda c=catchup: c.after(ZERO),
            lambda c=catchup: c.reset("cursor_ahead"),
        ):
            with pytest.raises(JobGone):
                read()
