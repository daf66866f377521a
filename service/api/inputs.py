"""What the inputs of a job may be, for a credential that does not open all that its owner has.

Workers look at the owner alone: which credential a job came with they do not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from headway.contract.encoding import pointer
from headway.contract.uploads import Upload, find_upload
from service.api.context import Context, caller, context, opens_job
from service.api.problems import Problem

_REFERENCE = re.compile(
    r"(?:upload:([A-Za-z0-9_-]{22})|artifact:([A-Za-z0-9_-]+)/.+)", re.ASCII | re.DOTALL
)


def visible_upload(here: Context, upload_id: str) -> Upload | None:
    """Return a complete upload that the caller may see, or None."""
    found = find_upload(here.files, upload_id, caller().sees_only)
    return found if found is not None and caller().opens(found.groups) else None


def check_inputs(params: dict[str, Any]) -> None:
    """Check that a restricted caller may read all uploads and artifacts that the parameters name. Raises
    Problem (422), the same for what it may not see as for what is not there."""
    if not caller().restricted:
        return
    seen: set[str] = set()
    for where, text in _texts(params, "/params"):
        reference = None if text in seen else _REFERENCE.fullmatch(text)
        if reference is not None and not _opens(*reference.groups()):
            detail = f"there is no {text[:200]!r}"
            raise Problem(422, f"{where}: {detail}", errors=[(where, detail)])
        seen.add(text)


def _opens(upload_id: str | None, job_id: str | None) -> bool:
    if upload_id is not None:
        return visible_upload(context(), upload_id) is not None
    return job_id is not None and opens_job(job_id)


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Yield every string in a JSON value, with a pointer to it."""
    left = [(value, where)]
    while left:
        value, where = left.pop()
        if isinstance(value, str):
            yield where, value
        elif isinstance(value, dict | list):
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            left += [(part, where + pointer(name)) for name, part in parts]
