"""What one web process shares among its requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from service.admission import Admission
from service.config import Settings
from service.contract.store import JobStore
from service.dispatch import Dispatch
from service.hub import Hub
from service.jobtypes import JobTypes
from service.reads import Reads
from service.workforce import Workforce

OWNER = "local"
"""Who every caller is, until there is authentication."""


@dataclass(frozen=True, slots=True)
class Context:
    settings: Settings
    store: JobStore
    hub: Hub
    dispatch: Dispatch
    types: JobTypes
    workforce: Workforce
    reads: Reads
    admission: Admission


def context() -> Context:
    """The Context of the app that serves this request."""
    return cast(Context, current_app.extensions["headway"])
