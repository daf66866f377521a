"""The files of `web/`: the dashboard, and what other pages load from here."""

from __future__ import annotations

import gzip
import hashlib
from functools import lru_cache
from pathlib import Path

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound
from werkzeug.security import safe_join

WEB = Path(__file__).parents[2] / "web"
MEDIA_TYPES = {
    "": "text/plain",
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".md": "text/plain",
    ".svg": "image/svg+xml",
    ".ts": "text/plain",
}
"""All of it is text. The machine's own table may say else, of `.ts` that it is a film."""

GZIP = b"\x1f\x8b"

DASHBOARD_CSP = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

bp = Blueprint("pages", __name__)


@bp.get("/")
def dashboard() -> Response:
    response = _file("index.html")
    response.headers["Content-Security-Policy"] = DASHBOARD_CSP
    return response


@bp.get("/web/<path:name>")
def web(name: str) -> Response:
    response = _file(name)
    if response.mimetype == "text/html":
        # The dashboard again, or a page of the operator's own, which may have scripts in it.
        response.headers["Content-Security-Policy"] = (
            DASHBOARD_CSP if name == "index.html" else "frame-ancestors 'none'; base-uri 'none'"
        )
    return response


def _file(name: str) -> Response:
    """A file of `web/` as it is now, compressed for those who take that. Browsers ask each time whether
    theirs is the newest."""
    path = safe_join(str(WEB), name)
    try:
        changed = Path(path or "").stat().st_mtime_ns
        body, tag = _read(Path(path or ""), changed, request.accept_encodings["gzip"] > 0)
    except (OSError, ValueError):
        raise NotFound from None
    response = Response(body, mimetype=MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream"))
    response.vary.add("Accept-Encoding")
    response.cache_control.no_cache = True
    response.set_etag(tag)
    if body[:2] == GZIP:
        response.content_encoding = "gzip"
    response.make_conditional(request)
    return response


@lru_cache(maxsize=256)
def _read(path: Path, changed: int, gzipped: bool) -> tuple[bytes, str]:  # noqa: ARG001
    """Its bytes, and a name for just these: read and compressed once for each version of the file."""
    body = path.read_bytes()
    if gzipped:
        body = gzip.compress(body, mtime=0)
    return body, hashlib.sha256(body).hexdigest()[:16]
