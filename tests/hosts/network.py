"""Hosts on one machine: network namespaces, each with a cable (a veth pair) to one switch (a bridge).

The switch is in the namespace of this process, which is the clients' host. That namespace is its own, and
so are its processes and mounts (`tests.hosts.__main__`): when it has gone, the kernel removes all of them.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.support.host import Host
from tests.support.programs import program

NET = "10.77.0"
CLIENTS = f"{NET}.1"
FLOATING = f"{NET}.100"
"""An address that may be given to one host, and moved to another."""
NAMES = Path("/run/netns")
_RULES = """
table inet cut {
    set from { type ipv4_addr; }
    chain arrives { type filter hook input priority 0; ip saddr @from drop; }
}
"""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Network:
    """The hosts, by name. What is `cut` or pulled stays so until it is mended."""

    def __init__(self, *names: str) -> None:
        NAMES.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "names", str(NAMES)], check=True)
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "switch", "type", "bridge")
        _ip("addr", "add", f"{CLIENTS}/24", "dev", "switch")
        _ip("link", "set", "switch", "up")
        self.hosts = {name: self._add(name, f"{NET}.{n}") for n, name in enumerate(names, 10)}
        self._dropped: Counter[tuple[str, str]] = Counter()
        self._floats_at: str | None = None

    def _add(self, name: str, address: str) -> Host:
        _ip("netns", "add", name)
        _ip("link", "add", f"v-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", f"v-{name}", "master", "switch", "up")
        for command in ("link set lo up", f"addr add {address}/24 dev eth0", "link set eth0 up"):
            _ip("-n", name, *command.split())
        host = Host(address, ("nsenter", f"--net={NAMES / name}"))
        self._filter(host, _RULES)
        return host

    @staticmethod
    def _filter(host: Host, rules: str) -> None:
        nft = [*host.enter, program("nft"), "-f", "-"]
        subprocess.run(nft, input=rules, check=True, capture_output=True, text=True)

    def plug(self, name: str, *, up: bool) -> None:
        """Pull a host's cable out, or put it back."""
        _ip("link", "set", f"v-{name}", "up" if up else "down")

    def cut(self, pairs: Iterable[tuple[str, str]], *, mend: bool = False) -> None:
        """Drop without a word what the first of each pair sends to the second. What was cut twice is to be
        mended twice."""
        pairs = list(pairs)
        for pair in pairs:
            self._dropped[pair] += -1 if mend else 1
        for name in {to for _, to in pairs}:
            senders = [f for (f, to), times in self._dropped.items() if to == name and times > 0]
            addresses = ", ".join(self.hosts[sender].address for sender in senders)
            element = f"add element inet cut from {{ {addresses} }}\n" if addresses else ""
            self._filter(self.hosts[name], "flush set inet cut from\n" + element)

    def deaf(self, name: str) -> list[tuple[str, str]]:
        """The pairs of a host that hears no other."""
        return [(other, name) for other in self.hosts if other != name]

    def mute(self, name: str) -> list[tuple[str, str]]:
        """The pairs of a host that no other hears."""
        return [(name, other) for other in self.hosts if other != name]

    def split(self, island: Iterable[str]) -> list[tuple[str, str]]:
        """The pairs of a network in two: these hosts hear each other, and so do all others."""
        here = set(island)
        there = self.hosts.keys() - here
        return [pair for a in here for b in there for pair in ((a, b), (b, a))]

    def float_to(self, name: str) -> None:
        """Give the floating address to a host, and take it from the one that has it."""
        if self._floats_at is not None:
            _ip("-n", self._floats_at, "addr", "del", f"{FLOATING}/32", "dev", "eth0")
        _ip("-n", name, "addr", "add", f"{FLOATING}/32", "dev", "eth0")
        self._floats_at = name
        # What a gratuitous ARP does.
        _ip("neigh", "flush", "dev", "switch")
        for other in self.hosts:
            _ip("-n", other, "neigh", "flush", "dev", "eth0")
