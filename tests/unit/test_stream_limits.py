"""How many streams a process admits."""

from __future__ import annotations

from service.process.paced_worker import ConnectionLimit
from service.streaming.stream_limits import Holder, StreamLimits

A1, A2, B1 = Holder("10.0.0.1", "a"), Holder("10.0.0.2", "a"), Holder("10.0.0.1", "b")


def test_without_limits_everybody_is_admitted() -> None:
    limits = StreamLimits(0, 0, 0)
    assert all(limits.admit(A1) for _ in range(1000))
    assert limits.open == 1000


def test_a_limit_counts_all_addresses_of_an_owner_and_all_owners_of_an_address() -> None:
    limits = StreamLimits(0, 2, 3)
    assert [limits.admit(h) for h in (A1, B1, A1)] == [True, True, False]
    assert [limits.admit(h) for h in (A2, A2, A2)] == [True, True, False]
    assert limits.open == 4


def test_what_was_refused_holds_nothing_and_what_was_given_back_is_free() -> None:
    limits = StreamLimits(2, 0, 1)
    assert [limits.admit(h) for h in (A1, A2, B1)] == [True, False, True]
    limits.release(A1)
    assert [limits.admit(h) for h in (B1, A2)] == [False, True]
    limits.release(A2)
    limits.release(B1)
    assert limits.open == 0


def test_programs_of_this_machine_may_be_spared_the_limit_of_an_address() -> None:
    limits = StreamLimits(0, 1, spare_local=True)
    for address in ("127.0.0.1", "::1"):
        assert [limits.admit(Holder(address, "ann")) for _ in range(3)] == [True] * 3
    assert [limits.admit(Holder("198.51.100.7", "ann")) for _ in range(2)] == [True, False]


def test_addresses_that_one_client_of_ipv6_has_are_counted_together() -> None:
    # The last is another's; and of two IPv4 addresses each is one, however it is written.
    one, other = ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9"), "2001:db8:0:2::1"
    limits = StreamLimits(0, 2)
    admitted = [limits.admit(Holder(address, "a")) for address in (*one, one[0], other, "::ffff:10.0.0.1")]
    assert admitted == [True, True, False, True, True]
    assert [limits.admit(Holder("10.0.0.1", "a")) for _ in range(2)] == [True, False]
    limits.release(Holder(one[1], "a"))
    assert limits.admit(Holder(one[0], "a"))
    connections = ConnectionLimit(1, lambda peer: peer == "2001:db8:0:3::1")
    assert [connections.take(address) for address in (*one, other)] == [True, False, True]
    connections.give_back(one[0])
    assert connections.take(one[1])
    assert all(connections.take("2001:db8:0:3::1") for _ in range(3)), "a proxy"
    assert [connections.take(address) for address in ("not an address: but two", "")] == [True, True]
