"""A topic: what its ring can tell, and when it must say that it cannot."""

from __future__ import annotations

from headway.contract.events import EventId, Published
from service.streaming.topic import RING, RING_MS, Topic


def message(prev: int, n: int) -> Published:
    return Published(EventId(prev, 0), EventId(n, 0), b"log", b"id: %d-0\n\n" % n)


def after(topic: Topic, n: int) -> list[int] | None:
    found = topic.after(EventId(n, 0))
    return None if found is None else [m.id.ms for m in reversed(found)]


def test_a_topic_that_knows_nothing_has_nothing_for_anyone() -> None:
    assert after(Topic(), 5) == []


def test_the_ring_gives_what_follows_a_cursor_and_nothing_twice() -> None:
    topic = Topic()
    for prev, n in ((1, 2), (2, 3), (3, 4), (2, 3)):
        topic.add(message(prev, n))
    assert after(topic, 1) == [2, 3, 4]
    assert after(topic, 3) == [4]
    assert after(topic, 4) == after(topic, 9) == []
    assert after(topic, 0) is None, "what came before the first message is not known"


def test_a_gap_empties_the_ring() -> None:
    topic = Topic()
    topic.add(message(1, 2))
    assert topic.gap_before(message(3, 4))
    topic.add(message(3, 4))
    assert after(topic, 2) is None
    assert after(topic, 3) == [4]


def test_an_anchored_topic_knows_its_last_id_until_it_loses_it() -> None:
    topic = Topic()
    topic.anchor(EventId(5, 0))
    topic.anchor(EventId(9, 0))
    assert topic.last == (5, 0), "what is known is not overwritten"
    assert topic.gap_before(message(6, 7))
    assert after(topic, 4) is None
    topic.lose()
    assert topic.last is None


def test_what_was_never_heard_sends_readers_to_the_store() -> None:
    topic = Topic()
    topic.add(message(1, 2))
    topic.skip_to(EventId(4, 0))
    assert after(topic, 2) is None
    assert after(topic, 4) == []
    topic.add(message(2, 3))
    assert topic.last == (4, 0), "it came late: the store has given it"


def test_the_ring_is_bounded_in_number_and_in_age() -> None:
    topic = Topic()
    for n in range(1, RING + 11):
        topic.add(message(n - 1, n))
    assert after(topic, 9) is None
    assert len(after(topic, 10) or ()) == RING
    topic.add(message(RING + 10, RING + 11 + RING_MS))
    assert after(topic, RING + 10) == [RING + 11 + RING_MS]
    assert after(topic, RING + 8) is None
