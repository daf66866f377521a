"""What one web process shares among its requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from headway.contract.settings import Settings
from headway.contract.store import JobStore
from service.scheduling.dispatch import Dispatch
from service.scheduling.fleet import Fleet
from service.scheduling.job_types import JobTypes
from service.streaming.hub import Hub
from service.streaming.sockets import Sockets
from service.streaming.store_reader import StoreReader
from service.streaming.stream_limits import StreamLimits

OWNER = "local"
"""Who every caller is, until there is authentication."""


@dataclass(frozen=True, slots=True)
class Context:
    settings: Settings
    store: JobStore
    hub: Hub
    dispatch: Dispatch
    types: JobTypes
    fleet: Fleet
    reader: StoreReader
    limits: StreamLimits
    sockets: Sockets


def context() -> Context:
    """The Context of the app that serves this request."""
    return cast(Context, current_app.extensions["headway"])
