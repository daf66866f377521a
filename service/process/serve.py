"""The Procfile's `web`: checks that DATA_DIR, Redis and the port are available (else one line, exit 2),
then execs gunicorn."""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import NoReturn

import redis

from headway.contract.layout import LayoutError
from headway.contract.settings import Settings, protect_data_dir_or_exit, server_of
from headway.contract.store import JobStore
from service.api.auth.signing import Signer


def check(settings: Settings) -> None:
    """Exit with status 2 and one line on stderr if DATA_DIR or Redis cannot be used, the port is taken, or
    a key or secret cannot be used."""
    protect_data_dir_or_exit(settings)
    trouble = _access_trouble(settings) or _redis_trouble(settings) or port_trouble(settings)
    if trouble:
        print(f"headway: {trouble}", file=sys.stderr)
        raise SystemExit(2)


def serve() -> NoReturn:
    """Replace this process by gunicorn, so that signals need not be passed on."""
    gunicorn = [
        "-m",
        "gunicorn",
        "--config",
        "python:service.process.gunicorn_conf",
        "service.process.wsgi:app",
    ]
    os.execv(sys.executable, [sys.executable, *gunicorn])


def _access_trouble(settings: Settings) -> str | None:
    if settings.auth == "none":
        return None
    try:
        Signer(settings.signing_secrets).load()
    except (OSError, ValueError) as error:
        return f"SECRET_FILE {settings.signing_secrets} cannot be used: {error}"
    if "jwt" in settings.auth:
        try:
            from service.api.auth.jwt_verifier import JwtVerifier

            JwtVerifier(settings)
        except ImportError:
            return "AUTH=jwt needs PyJWT: pip install 'PyJWT[crypto]'"
        except (OSError, ValueError) as error:
            return f"JWT_KEY_FILE {settings.jwt_key_file} cannot be used: {error}"
    return None


def _redis_trouble(settings: Settings) -> str | None:
    store = JobStore.of(settings, connections=1)
    try:
        store.database.check_writes()
    except LayoutError as error:
        return str(error)
    except redis.RedisError as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        server = server_of(settings.redis_url)
        return f"Redis at {server} cannot be used: {reason}; start it, or correct REDIS_URL"
    finally:
        store.redis.close()
    return None


def port_trouble(settings: Settings, *, patience_s: float = 0) -> str | None:
    """Returns why HOST and PORT cannot be bound, or None if they can. Retries for `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                settings.host, settings.port, type=socket.SOCK_STREAM
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn does
                probe.bind(address)
        except OSError as error:
            if time.monotonic() >= deadline:
                return f"cannot listen on {settings.base_url}: {error.strerror}; set PORT to another"
        else:
            return None
        time.sleep(0.1)
