"""Where a server of a test runs: on this machine, or on one of the hosts that tests/hosts makes of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Host:
    """`address` is where the others reach it, `enter` what a command begins with to run there."""

    address: str = "127.0.0.1"
    enter: tuple[str, ...] = ()


HERE = Host()
