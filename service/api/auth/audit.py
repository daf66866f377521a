"""The audit log, `headway.audit`: a line of JSON for every change, download and refusal, and for every
change of an API key. With AUTH=none nothing is recorded.

It names a key's id or a token's subject, never a credential, and no query, which may hold a ticket.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import threading
import time
from wsgiref.types import WSGIEnvironment

from flask import Flask, Response, request

from headway.contract.access import REFRESH_S, Access
from headway.contract.encoding import clip, dumps, rfc3339
from headway.loops import forever
from service.api.auth.authentication import CALLER
from service.api.auth.caller import Caller
from service.api.problems import MEDIA_TYPE

log = logging.getLogger("headway.audit")

REFUSALS_PER_S = 20
"""Lines in one second about refusals and about those without a credential; more are counted. A stranger
must not fill the disk."""
DOWNLOAD = "artifacts.get_artifact"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def start() -> None:
    """Send the lines to stderr as they are, whatever LOG_LEVEL and LOG_FORMAT say."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def watch_keys(access: Access) -> None:
    """Record from now on what `headway keys` changes; of several web processes, one records each change."""

    def record_changes() -> None:
        for change in access.take_changes():
            at, roles = rfc3339(change["at"] * 1000), ",".join(change["roles"])
            line = {"at": at, "logger": log.name, "request": None, "who": change["who"]}
            line |= {"owner": change["owner"], "ip": None, "action": change["action"]}
            line |= {"object": change["key"], "status": None, "outcome": "done", "reason": f"roles {roles}"}
            log.info("%s", dumps(line))

    forever("changes of API keys", record_changes, pause_s=REFRESH_S)


class Refusals:
    """How many lines of strangers and refusals there still may be in this second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._second = 0
        self._logged = self._left_out = 0

    def admit(self) -> int | None:
        """Return how many were left out before this one, or None if this one is left out, too."""
        with self._lock:
            second = int(time.monotonic())
            if second != self._second:
                self._second, self._logged = second, 0
            if self._logged >= REFUSALS_PER_S:
                self._left_out += 1
                return None
            self._logged += 1
            left_out, self._left_out = self._left_out, 0
            return left_out


_refusals = Refusals()


def record(
    environ: WSGIEnvironment,
    action: str,
    status: int,
    *,
    target: str | None = None,
    reason: str | None = None,
) -> None:
    """Write a line, unless it is one refusal too many."""
    caller: Caller | None = environ.get(CALLER)
    line = {
        "at": rfc3339(time.time() * 1000),
        "logger": log.name,
        "request": _request_id(environ),
        "who": caller.name if caller else None,
        "owner": caller.owner if caller else None,
        "ip": environ.get("REMOTE_ADDR", ""),
        "action": action,
        "object": target,
        "status": status,
        "outcome": "done" if status < 400 else "refused" if status in (401, 403, 421, 429) else "failed",
        "reason": reason,
    }
    if caller is None or line["outcome"] == "refused":
        left_out = _refusals.admit()
        if left_out is None:
            return
        if left_out:
            line["left_out"] = left_out
    log.info("%s", dumps(line))


def watch(app: Flask) -> None:
    """Record the app's requests."""

    @app.after_request
    def after(response: Response) -> Response:
        status = response.status_code
        unsafe = request.method not in ("GET", "HEAD", "OPTIONS")
        if unsafe or status in (401, 403) or request.endpoint == DOWNLOAD:
            names = (request.view_args or {}).values()
            action = (request.endpoint or request.method).rpartition(".")[2]
            # What was made; elsewhere than here it is an address of the storage that opens a file.
            made = response.headers.get("Location") if status < 300 else None
            target = made or clip("/".join(names), 200) or None
            record(request.environ, action, status, target=target, reason=_reason(response))
        return response


def _reason(response: Response) -> str | None:
    if response.mimetype != MEDIA_TYPE:
        return None
    return str(json.loads(response.get_data())["detail"])


def _request_id(environ: WSGIEnvironment) -> str:
    """The id that a proxy gave the request, else a random one."""
    given = environ.get("HTTP_X_REQUEST_ID", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
