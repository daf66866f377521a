"""dramatiq: `dramatiq tests.bench.queue_projects.dramatiq_project`. It has no progress."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.bench.queue_projects import measuring

dramatiq.set_broker(RedisBroker(url=measuring.BROKER))


@dramatiq.actor
def noop() -> None:
    pass


@dramatiq.actor
def begin() -> None:
    measuring.note_begin()


if __name__ == "__main__":
    measuring.send(lambda name: globals()[name].send())
