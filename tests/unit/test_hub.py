"""The hub's bookkeeping of subscriptions, without a Redis."""

from __future__ import annotations

import threading

from headway.contract.events import IDS_PER_MS, EventId
from service.streaming.reader import Place
from tests.support.engine import Engine


def test_an_older_confirmation_does_not_make_a_new_topic_ready() -> None:
    engine = Engine()
    job_id = engine.store.create()
    first = engine.stream(engine.job(job_id))
    engine.link.send_outbox()
    first.close()
    engine.link.send_outbox()
    second = engine.stream(engine.job(job_id))
    engine.link.send_outbox()
    engine.deliver(2)
    assert engine.hub.ready(second) is None, "what is confirmed was unsubscribed since"
    engine.deliver()
    assert engine.hub.ready(second) == engine.link.generation
    second.close()


def test_who_comes_back_before_the_unsubscribe_was_sent_needs_no_command() -> None:
    engine = Engine()
    job_id = engine.store.create()
    first = engine.stream(engine.job(job_id))
    engine.link.send_outbox()
    engine.deliver()
    first.close()
    second = engine.stream(engine.job(job_id))
    assert engine.hub.ready(second) is not None
    engine.link.send_outbox()
    assert [command for command, *_ in engine.store.wire.commands] == ["SSUBSCRIBE"]
    second.close()


def test_readers_that_come_and_go_together_share_their_commands() -> None:
    engine = Engine()
    streams = [engine.stream(engine.job(engine.store.create())) for _ in range(20)]
    engine.link.send_outbox()
    for stream in streams:
        stream.close()
    engine.link.send_outbox()
    assert [(command, len(names)) for command, *names in engine.store.wire.commands] == [
        ("SSUBSCRIBE", 20),
        ("SUNSUBSCRIBE", 20),
    ]
    assert not engine.store.wire.channels


def test_a_send_that_blocks_holds_no_lock() -> None:
    """A Redis that was paused does not read: nobody else may wait for it."""
    engine = Engine()
    stream = engine.stream(engine.job(engine.store.create()))
    sending, go_on = threading.Event(), threading.Event()

    def stuck(command: str, *names: str) -> None:
        sending.set()
        assert go_on.wait(10)

    engine.store.wire.send_command = stuck  # type: ignore[method-assign]
    outbox = threading.Thread(target=engine.link.send_outbox)
    outbox.start()
    try:
        assert sending.wait(10)
        assert engine.hub.lock.acquire(timeout=10)
        engine.hub.lock.release()
        stream.close()
    finally:
        go_on.set()
        outbox.join()


def test_after_a_new_connection_everything_is_subscribed_again() -> None:
    engine = Engine()
    job_id = engine.store.create()
    client = engine.join(engine.job(job_id))
    engine.settle()
    engine.lose_connection()
    engine.store.emit(job_id, "log")
    engine.connect()
    engine.settle()
    engine.store.emit(job_id, "log")
    engine.settle()
    assert [e.event for e in client.events] == ["snapshot", "log", "log"]


def test_a_topic_that_redis_lets_go_by_itself_is_behind_until_it_is_found_again() -> None:
    """The slot has moved to another server, which here is the same one."""
    engine = Engine()
    job_id = engine.store.create()
    client = engine.join(engine.job(job_id))
    engine.settle()
    assert engine.place(client) is Place.LIVE
    (name,) = engine.store.wire.channels
    engine.store.wire.channels.discard(name)
    engine.store.wire.replies.append([b"sunsubscribe", name.encode(), 0])
    engine.deliver()
    assert engine.place(client) is Place.BEHIND
    engine.store.emit(job_id, "log")
    engine.hub.arrange()
    engine.settle()
    engine.store.emit(job_id, "log")
    engine.settle()
    assert engine.place(client) is Place.LIVE
    assert [seen.event for seen in client.events] == ["snapshot", "log", "log"]


def test_readers_who_were_caught_up_by_a_former_primary_are_read_for_again_at_the_new_one() -> None:
    """The hub hears the new primary already; what was read last came from the old one, which took writes a
    moment longer."""
    engine = Engine()
    job_id = engine.store.create()
    client = engine.join(engine.feed())
    engine.settle()
    (name,) = engine.store.wire.channels
    before = engine.store.clock
    engine.store.emit(job_id, "log")
    engine.settle()
    assert engine.place(client) is Place.LIVE
    there = EventId(before.ms + 1000, 7 * IDS_PER_MS)
    frame = f"id: {there}\nevent: log\ndata: {{}}\n\n".encode()
    engine.store.wire.publish(name, before, "log", frame)
    engine.deliver()
    assert [seen.event for seen in client.events] == ["snapshot", "log"]
    assert not engine.store.wire.channels, "the link has let go of its connection"
    assert engine.link.pool.connection_kwargs["home"].era == 1, "nothing more is read from the old one"


def test_a_lineage_that_goes_on_where_the_one_before_ended_disturbs_nobody() -> None:
    engine = Engine()
    job_id = engine.store.create()
    client = engine.join(engine.job(job_id))
    engine.settle()
    at = engine.store.clock
    engine.store.emit(job_id, "log", EventId(at.ms + 1, 7 * IDS_PER_MS))
    engine.settle()
    assert [seen.event for seen in client.events] == ["snapshot", "log"]
    assert engine.place(client) is Place.LIVE
