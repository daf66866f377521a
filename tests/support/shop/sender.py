"""Sends tasks of the shop: evaluates a line of Python, and answers with the id of what it returned."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from celery import chain, chord, group
from kombu.exceptions import OperationalError

from tests.support.shop import tasks


def patient(task: Any, args: Any, task_id: str) -> tuple[str, float]:
    """Send it until the broker has it. Returns its id, and the seconds that the last try took."""
    while True:
        began = time.perf_counter()
        try:
            task.apply_async(args, task_id=task_id)
        except OperationalError:
            time.sleep(0.2)
        else:
            return task_id, time.perf_counter() - began


SCOPE = {**vars(tasks), "patient": patient, "chain": chain, "chord": chord, "group": group}


def main() -> None:
    for line in sys.stdin:
        result: Any = eval(line, SCOPE)
        print(json.dumps(getattr(result, "id", result)), flush=True)


if __name__ == "__main__":
    main()
