"""HAProxy before several web services: the configuration of deploy/compose, with their addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests.support.checkout import ROOT
from tests.support.programs import program

PORT = 8000
"""Where it listens, and where the services do."""


def command(config: Path, servers: Mapping[str, str]) -> tuple[str, ...]:
    """Write the configuration for these servers, addresses by name; return what starts HAProxy with it."""
    text = (ROOT / "deploy/compose/haproxy.cfg").read_text()
    # There, the servers are found by Docker's names.
    text = re.sub(r"^resolvers docker\n(?: .*\n)*", "", text, flags=re.MULTILINE)
    text = text.replace(" resolvers docker init-addr none", "")
    lines = "".join(f"    server {name} {address}:{PORT}\n" for name, address in servers.items())
    text = re.sub(r"^    server-template .*\n?", lines, text, flags=re.MULTILINE)
    # Each takes two of the files that a process may have open.
    text = text.replace("maxconn 32768", "maxconn 2000")
    config.write_text(text)
    return program("haproxy"), "-f", str(config)
