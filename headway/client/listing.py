"""Lists of jobs, page by page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import Any
from urllib.parse import urlencode

from headway.client.job import Job
from headway.client.transport import Transport, path

PAGE = 100
"""Jobs per request."""


async def newest(
    transport: Transport, *, limit: int | None = None, **filters: str | None
) -> AsyncGenerator[Job, None]:
    """Yield jobs, newest first, up to `limit`; all there are without one."""
    query: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
    left = limit
    while left is None or left > 0:
        query["limit"] = PAGE if left is None else min(left, PAGE)
        page = await transport.json("GET", f"/jobs?{urlencode(query, errors='replace')}")
        for job in page["items"]:
            yield job
        left = None if left is None else left - len(page["items"])
        query["cursor"] = page["next"]
        if page["next"] is None:
            return


async def find(transport: Transport, job_ids: Iterable[str]) -> AsyncGenerator[Job, None]:
    """Yield the documents of the jobs, each once, in any order. Raises NotFound for an unknown one.

    Recent jobs stand together on the first pages of the list; only what is not there is asked for by
    itself. The pages are never more than a quarter of the requests that this could save.
    """
    missing = set(job_ids)
    async for job in newest(transport, limit=PAGE * (len(missing) // 4)):
        if job["id"] in missing:
            missing.discard(job["id"])
            yield job
            if not missing:
                return
    for job_id in missing:
        job = await transport.json("GET", path("jobs", job_id))
        yield job
