"""What /metrics shows, right over all processes of one web service.

prometheus_client decides at its import whether it counts for many processes, by
PROMETHEUS_MULTIPROC_DIR: service/process/gunicorn_conf.py sets that before any worker imports this.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

CONTENT_TYPE = CONTENT_TYPE_LATEST
OTHER = "other"
"""Types that are counted together."""
MAX_TYPES = 1000
"""That this process counts one by one: people name the jobs that they do themselves as they like."""

STREAMS_OPEN = Gauge("headway_streams_open", "Event streams held now.", multiprocess_mode="livesum")
STREAMS_BEHIND = Gauge(
    "headway_streams_behind", "Event streams that wait to catch up now.", multiprocess_mode="livesum"
)
STREAMS_OPENED = Counter("headway_streams_opened", "Event streams opened.")
STREAMS_RESUMED = Counter("headway_streams_resumed", "Those of them that came with a cursor.")
STREAMS_REFUSED = Counter("headway_streams_refused", "Event streams over the limit, told to come back.")
STREAMS_RESET = Counter("headway_streams_reset", "Readers that were sent a reset.", ["reason"])
EVENTS_DELIVERED = Counter("headway_events_delivered", "Events written to readers, live.")
APPEND_TO_WRITE = Histogram(
    "headway_append_to_write_seconds",
    "From the append of an event in the store to its write to the live readers of a topic.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
HUB_RECONNECTIONS = Counter("headway_hub_reconnections", "Connections to Redis that the hub lost.")
STORE_FAILOVERS = Counter(
    "headway_store_failovers", "Times another primary was found in the place of one, or it restarted."
)
HUB_DISTRUSTED = Counter("headway_hub_distrusted", "Topics that the audit found behind the store.")
REQUESTS_REFUSED = Counter(
    "headway_requests_refused", "Requests refused before their operation began.", ["reason"]
)
JOBS_SUBMITTED = Counter("headway_jobs_submitted", "Jobs made.", ["type"])
ALARMS_ANSWERED = Counter("headway_alarms_answered", "Alarms that had a message sent again.")
WEBHOOK_DELIVERIES = Counter("headway_webhook_deliveries", "Tries to deliver to webhooks.", ["outcome"])
WEBHOOKS_DISABLED = Counter("headway_webhooks_disabled", "Webhooks that were disabled.")


_counted: set[str] = set()


def count_submission(type: str) -> None:
    if len(_counted) < MAX_TYPES:
        _counted.add(type)
    JOBS_SUBMITTED.labels(type if type in _counted else OTHER).inc()


class _Merged(Collector):
    """Metrics in which the types that somebody may not see are counted together."""

    def __init__(self, inner: Collector, types: Collection[str]) -> None:
        self._inner = inner
        self._types = types

    def collect(self) -> Iterator[Metric]:
        for family in self._inner.collect():
            merged: dict[tuple[object, ...], Sample] = {}
            for sample in family.samples:
                labels = dict(sample.labels)
                if "type" in labels and labels["type"] not in self._types:
                    labels["type"] = OTHER
                key = (sample.name, *sorted(labels.items()))
                before = merged[key].value if key in merged else 0
                merged[key] = sample._replace(labels=labels, value=before + sample.value)
            family.samples = list(merged.values())
            yield family


def exposition(*more: Collector, types: Collection[str] | None = None) -> bytes:
    """The text of /metrics: of all processes where there are many, else of this one; and of `more`. Only
    `types` are told apart; None: all."""
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(REGISTRY)
    for collector in more:
        registry.register(collector)
    return generate_latest(registry if types is None else _Merged(registry, types))
