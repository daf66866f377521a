"""A Headway seen from outside, over HTTP and the event stream; needs nothing but the standard library.

from headway.client import Client

client = Client("http://127.0.0.1:8000")
job = client.submit("simulate", {"duration_s": 5})
for event in client.watch(job["id"]):
    print(event.event, event.data)

`headway.AsyncClient` is the same for event loops, and needs httpx.
"""

from headway.client.attempt import AsyncAttempt, Attempt
from headway.client.client import Client
from headway.client.errors import (
    BadAnswer,
    ClientError,
    Conflict,
    DownloadFailed,
    Invalid,
    NotFound,
    Problem,
    Unavailable,
    Unreachable,
    WaitTimeout,
)
from headway.client.job import (
    Artifact,
    Delivery,
    Event,
    Group,
    Job,
    JobType,
    Upload,
    Webhook,
    WebhookSecret,
    is_live,
    newer,
    reduce,
)
from headway.client.watch import Watch

__all__ = [
    "Artifact",
    "AsyncAttempt",
    "Attempt",
    "BadAnswer",
    "Client",
    "ClientError",
    "Conflict",
    "Delivery",
    "DownloadFailed",
    "Event",
    "Group",
    "Invalid",
    "Job",
    "JobType",
    "NotFound",
    "Problem",
    "Unavailable",
    "Unreachable",
    "Upload",
    "WaitTimeout",
    "Watch",
    "Webhook",
    "WebhookSecret",
    "is_live",
    "newer",
    "reduce",
]
