"""What one web process shares among its requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app, request

from headway.contract.events import EventId
from headway.contract.files import Files
from headway.contract.pages import PAGE_BYTES, JobPage
from headway.contract.settings import Settings
from headway.contract.store import JobStore
from service.api.auth.authentication import CALLER, Authentication
from service.api.auth.caller import Caller
from service.api.files_check import FilesCheck
from service.api.problems import Problem, job_not_found
from service.api.upload_quota import UploadQuota
from service.scheduling.dispatch import Dispatch
from service.scheduling.fleet import Fleet
from service.scheduling.job_types import JobTypes
from service.scheduling.keeper import Keeper
from service.scheduling.store_memory import StoreMemory
from service.streaming.hub import Hub
from service.streaming.sockets import Sockets
from service.streaming.store_reader import StoreReader
from service.streaming.stream_limits import StreamLimits


@dataclass(frozen=True, slots=True)
class Context:
    settings: Settings
    store: JobStore
    files: Files
    files_check: FilesCheck
    authentication: Authentication
    hub: Hub
    dispatch: Dispatch
    keeper: Keeper
    types: JobTypes
    fleet: Fleet
    reader: StoreReader
    upload_quota: UploadQuota
    limits: StreamLimits
    sockets: Sockets
    memory: StoreMemory


def context() -> Context:
    """The Context of the app that serves this request."""
    return cast(Context, current_app.extensions["headway"])


def caller() -> Caller:
    """Who sends this request."""
    return cast(Caller, request.environ[CALLER])


def find_job(job_id: str, cursor: EventId | None = None, limit: int = 0) -> JobPage:
    """Return a job of the caller's and up to `limit` events after `cursor`, fewer if they are large. Raises
    Problem (404)."""
    page = context().store.read(job_id, cursor, limit, caller().sees_only, PAGE_BYTES)
    if page is None or not caller().sees(page):
        raise job_not_found(job_id)
    return page


def opens_job(job_id: str) -> bool:
    """Return whether the caller may see a job of its owner."""
    if caller().restricted:
        try:
            find_job(job_id)
        except Problem:
            return False
    return True
