"""Sends tasks of the shop: evaluates a line of Python, and answers with the id of what it returned."""

from __future__ import annotations

import json
import sys
from typing import Any

from celery import chain, chord, group

from tests.support.shop import tasks

SCOPE = {**vars(tasks), "chain": chain, "chord": chord, "group": group}


def main() -> None:
    for line in sys.stdin:
        result: Any = eval(line, SCOPE)
        print(json.dumps(getattr(result, "id", result)), flush=True)


if __name__ == "__main__":
    main()
