"""The outermost WSGI layer: which requests are let in, and the headers that every answer carries.

Listening on loopback keeps out other machines, not the web pages in this machine's browsers. A page of
another origin may send requests here (cross-site requests), or have its own name resolve to 127.0.0.1 and
be of the same origin then (DNS rebinding). The gate refuses both. Programs such as curl send neither
`Origin` nor `Sec-Fetch-Site` and are let in.

It stands before everything else: service/api/socket_handover.py answers streams without Flask.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from headway.contract.settings import Settings
from service import metrics
from service.api.auth import audit
from service.api.probes import PROBES
from service.api.problems import Problem
from service.api.trusted_proxies import TrustedProxies

HEADERS = "headway.headers"
"""In the environ: headers for answers that do not pass through start_response."""
LOOPBACK = frozenset({"127.0.0.1", "[::1]", "localhost"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PREFLIGHT_S = 7200
"""How long a browser may keep the answer to a preflight; Chromium keeps none longer."""

Headers = tuple[tuple[str, str], ...]

ALWAYS: Headers = (
    # Pages have one of their own. This is for what a browser shows although it is none.
    (
        "Content-Security-Policy",
        "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
EXPOSED = (
    "Location, Retry-After, Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, Tus-Resumable, "
    "Tus-Version, Upload-Expires, Upload-Length, Upload-Metadata, Upload-Offset"
)
_PREFLIGHT: Headers = (
    ("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE"),
    (
        "Access-Control-Allow-Headers",
        "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Traceparent, Tracestate, "
        "Tus-Resumable, Upload-Checksum, Upload-Length, Upload-Metadata, Upload-Offset, "
        "X-HTTP-Method-Override",
    ),
    ("Access-Control-Max-Age", str(PREFLIGHT_S)),
)


class Gate:
    """WSGI middleware around everything."""

    def __init__(self, app: WSGIApplication, settings: Settings) -> None:
        self._app = app
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._hosts = LOOPBACK | {host} | settings.allowed_hosts
        self._origins = settings.cors_origins
        self._audited = settings.auth != "none"
        self._proxies = TrustedProxies(settings.trusted_proxies)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        origin = environ.get("HTTP_ORIGIN", "")
        headers = self._headers(origin)
        environ[HEADERS] = headers
        said_host = self._proxies.apply(environ)

        def start(status: str, given: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
            return start_response(status, merged(given, headers), exc_info)

        try:
            self._check_host(environ, environ.get("HTTP_HOST", ""))
            target: str = environ.get("RAW_URI", "")
            if not target.startswith("/") and "://" in target:
                # A target with a host of its own, which overrules the Host (RFC 9112, 3.2.2).
                self._check_host(environ, target.partition("://")[2].partition("/")[0])
            if said_host is not None:
                # Beside the Host, never instead: a page can send this header, too.
                self._check_host(environ, said_host)
                environ["HTTP_HOST"] = said_host
            self._check_origin(environ, origin)
        except Problem as problem:
            metrics.REQUESTS_REFUSED.labels("host" if problem.status == 421 else "site").inc()
            if self._audited:
                audit.record(environ, environ["REQUEST_METHOD"], problem.status, reason=problem.detail)
            return problem.response()(environ, start)
        is_preflight = "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ and origin in self._origins
        if is_preflight and environ["REQUEST_METHOD"] == "OPTIONS":
            start("204 No Content", list(_PREFLIGHT))
            return []
        return self._app(environ, start)

    def _headers(self, origin: str) -> Headers:
        if not self._origins:
            return ALWAYS
        if origin not in self._origins:
            return (*ALWAYS, ("Vary", "Origin"))
        return (
            *ALWAYS,
            ("Vary", "Origin"),
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Expose-Headers", EXPOSED),
        )

    def _check_host(self, environ: WSGIEnvironment, host: str) -> None:
        """Check that the request's Host is ours. Raises Problem."""
        if not self._is_ours(host.lower()) and environ.get("PATH_INFO") not in PROBES:
            raise Problem(
                421,
                f"this service does not answer to the host {host[:200]!r}; "
                "if that is its name, add it to ALLOWED_HOSTS",
            )

    def _check_origin(self, environ: WSGIEnvironment, origin: str) -> None:
        """Check that the page which sends the request may do so. Raises Problem."""
        if origin in self._origins or not _is_cross_site(environ, origin, environ.get("HTTP_HOST", "")):
            return
        if _is_navigation(environ):
            return
        raise Problem(
            403,
            "the request comes from a web page of another origin"
            + (f" ({origin[:200]})" if origin else "")
            + "; if that page may use this service, add its origin to CORS_ORIGINS",
        )

    def _is_ours(self, host: str) -> bool:
        name, _, port = host.rpartition(":")
        return host in self._hosts or (port.isascii() and port.isdigit() and name in self._hosts)


def _is_cross_site(environ: WSGIEnvironment, origin: str, host: str) -> bool:
    """Whether a browser says that a page of another origin sends this; the rule of Go's
    http.CrossOriginProtection. Other ports of this host are other origins."""
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site is not None:
        return site not in ("same-origin", "none")
    # An old browser, or a page that came over plain HTTP; or no browser at all.
    return bool(origin) and origin.partition("://")[2] != host


def _is_navigation(environ: WSGIEnvironment) -> bool:
    """Whether somebody follows a link from another site, which cannot read what is shown then."""
    return (
        environ["REQUEST_METHOD"] in ("GET", "HEAD")
        and environ.get("HTTP_SEC_FETCH_MODE") == "navigate"
        and environ.get("HTTP_SEC_FETCH_DEST") == "document"
    )


def merged(given: list[tuple[str, str]], headers: Headers) -> list[tuple[str, str]]:
    """The headers of an answer with those of the gate that it does not set itself; Vary is both's."""
    found = {name.lower(): value for name, value in given}
    if "vary" in found and any(name == "Vary" for name, _ in headers):
        given = [(n, f"{v}, Origin" if n.lower() == "vary" else v) for n, v in given]
    return [*given, *((name, value) for name, value in headers if name.lower() not in found)]
