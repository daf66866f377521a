"""`make bench`: what the parts cost here, as a table and then as JSON.

Figures of one machine in one run: compare them with nothing but another run beside this one.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path

import redis

from service import valkey
from tests.bench.appends import appends
from tests.bench.updates import updates


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as directory:
        server = valkey.start(Path(directory) / "valkey")
        try:
            figures = [*appends(server), *updates(server, Path(directory))]
            version = redis.Redis.from_url(server.url, protocol=2).info("server")["valkey_version"]
        finally:
            server.stop()
    width = max(len(figure.what) for figure in figures)
    for figure in figures:
        print(f"{figure.what:<{width}}  {figure.value:>12,.1f} {figure.unit}")
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "valkey": version}
    print(json.dumps({"machine": machine, "figures": [asdict(figure) for figure in figures]}))


if __name__ == "__main__":
    main()
