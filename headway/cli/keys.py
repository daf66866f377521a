"""`headway keys`: makes, lists, rotates and revokes API keys, in the store itself.

It needs no key and no running service, but the right to reach Redis, as an operator has it.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

USAGE = 2
REVOKED_S = 2.5
"""Seconds within which every web process refuses a revoked key: it looks at the keys twice in them."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_ADDRESS = re.compile(r"^# (unix://\S+)$", re.MULTILINE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="action", required=True)

    def action(name: str, does: Callable[..., int], help: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = actions.add_parser(name, help=help, description=help)
        added.add_argument("--json", action="store_true", help="one JSON object per line")
        added.set_defaults(command=run, does=does)
        return added

    added = action("create", create, "make a key and print it; it is not shown again")
    added.add_argument("--owner", required=True, help="whose jobs it opens: 1 to 64 of A-Z a-z 0-9 . _ ~ -")
    added.add_argument("--roles", required=True, help="of read, submit, cancel, work, ops, ops:all; commas")
    added.add_argument(
        "--expires", metavar="TIME", type=duration, help="such as 90d or 12h; default: never"
    )
    added.add_argument("--label", default="", help="what it is for")
    action("list", list_keys, "list the keys, without their secrets")
    added = action("rotate", rotate, "make a new key like an old one, which works on for a while")
    added.add_argument("key", metavar="ID")
    added.add_argument("--grace", metavar="TIME", type=duration, default=86_400.0, help="default: 1d")
    added = action("revoke", revoke, "end a key at once; its open streams close within a minute")
    added.add_argument("key", metavar="ID")


def duration(text: str) -> float:
    """Return the seconds of a text such as `90d`, `12h`, `30m` or `45s`."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and unit in _UNITS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90d, 12h, 30m or 45s")
    return float(int(number) * _UNITS[unit])


def run(args: argparse.Namespace) -> int:
    """Run an action; an error becomes one line on stderr."""
    try:
        import redis

        from headway.contract.access import UnknownKey
        from headway.contract.settings import ConfigError, load
        from headway.contract.store import JobStore
    except ImportError as error:
        return _fail(f"this needs {error.name}: pip install 'headway[worker]'")
    try:
        url = os.environ.get("REDIS_URL", "").strip() or _embedded() or ""
        store = JobStore.of(load({**os.environ, "REDIS_URL": url}, broker=False), connections=2)
        status: int = args.does(args, store.access)
    except UnknownKey as error:
        return _fail(f"there is no key {error}; see `headway keys list`")
    except (ConfigError, ValueError) as error:
        return _fail(str(error))
    except redis.RedisError as error:
        return _fail(f"Redis cannot be reached: {error}")
    return status


def create(args: argparse.Namespace, access: Any) -> int:
    roles = [role.strip() for role in args.roles.split(",") if role.strip()]
    return _made(
        args, *access.create(args.owner, roles, expires_s=args.expires, label=args.label, by=_who())
    )


def list_keys(args: argparse.Namespace, access: Any) -> int:
    for key in sorted(access.snapshot().keys.values(), key=lambda key: key.created_at):
        _show(args, key)
    return 0


def rotate(args: argparse.Namespace, access: Any) -> int:
    return _made(args, *access.rotate(args.key, grace_s=args.grace, by=_who()))


def revoke(args: argparse.Namespace, access: Any) -> int:
    access.revoke(args.key, by=_who())
    # Every web process looks for changes so often.
    time.sleep(REVOKED_S)
    return 0


def _who() -> str:
    """Who types this, for the audit log."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _made(args: argparse.Namespace, key: Any, text: str) -> int:
    if args.json:
        _show(args, key, token=text)
    else:
        print(text)
        print("headway: the key is not shown again; keep it like a password", file=sys.stderr)
    return 0


def _show(args: argparse.Namespace, key: Any, **more: str) -> None:
    from headway.contract.encoding import rfc3339

    expires = None if key.expires_at is None else rfc3339(key.expires_at * 1000)
    shown = {"id": key.id, "owner": key.owner, "roles": list(key.roles), "label": key.label}
    shown |= {"created_at": rfc3339(key.created_at * 1000), "expires_at": expires, **more}
    if args.json:
        print(json.dumps(shown))
    else:
        label = f"  {key.label}" if key.label else ""
        print(f"{key.id}  {key.owner}  {','.join(key.roles)}  expires {expires or 'never'}{label}")


def _embedded() -> str | None:
    """The address of the Valkey that `make run` started in DATA_DIR."""
    config = Path(os.environ.get("DATA_DIR") or "var") / "valkey" / "valkey.conf"
    try:
        found = _ADDRESS.search(config.read_text())
    except OSError:
        return None
    return found[1] if found else None


def _fail(words: str) -> int:
    print(f"headway: {' '.join(words.split())}", file=sys.stderr)
    return USAGE
