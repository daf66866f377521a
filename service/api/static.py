"""The files of `web/`: the dashboard, and what other pages load from here."""

from __future__ import annotations

import gzip
import hashlib
from functools import lru_cache
from pathlib import Path

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound
from werkzeug.security import safe_join

from service.api.context import context

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


def dashboard_csp(files_origin: str = "") -> str:
    """The policy of the dashboard. `files_origin` is where artifacts may be redirected to: a policy holds
    for the address that a redirect leads to, too."""
    elsewhere = f" {files_origin}" if files_origin else ""
    return (
        f"default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:{elsewhere}; "
        f"media-src 'self' blob:{elsewhere}; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


bp = Blueprint("pages", __name__)


@bp.get("/")
def dashboard() -> Response:
    response = _file("index.html")
    response.headers["Content-Security-Policy"] = _csp()
    return response


@bp.get("/web/<path:name>")
def web(name: str) -> Response:
    response = _file(name)
    if response.mimetype == "text/html":
        # The dashboard again, or a page of the operator's own, which may have scripts in it.
        response.headers["Content-Security-Policy"] = (
            _csp() if name == "index.html" else "frame-ancestors 'none'; base-uri 'none'"
        )
    return response


def _csp() -> str:
    settings = context().settings
    return dashboard_csp(settings.files.public_origin if settings.files_redirect else "")


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
