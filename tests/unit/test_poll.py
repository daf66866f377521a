"""The poll of a web process: it looks at once, and waits as gevent's does."""

from __future__ import annotations

import select
import socket

import gevent

from service.process.poll import Poll


def test_a_look_needs_no_turn_of_the_loop() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        poll = Poll()
        poll.register(ours, select.POLLIN)
        other = gevent.spawn(lambda: None)
        assert poll.poll(0) == []
        theirs.send(b"x")
        assert poll.poll(0) == [(ours.fileno(), select.POLLIN)]
        assert not other.ready()
        poll.unregister(ours)
        assert poll.poll(0) == []


def test_a_closed_connection_is_seen_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        poll = Poll()
        poll.register(ours, select.POLLIN)
        theirs.close()
        assert poll.poll(0)


def test_others_go_on_while_it_waits() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        poll = Poll()
        poll.register(ours, select.POLLIN)
        gevent.spawn(theirs.send, b"x")
        assert poll.poll(5_000)
