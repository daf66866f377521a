"""The machine and the versions that a result belongs to."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

from service.process import valkey


def facts() -> dict[str, str]:
    found = {
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "valkey": _said([valkey.binary(), "--version"], r"v=(\S+)"),
        "nginx": _said(["nginx", "-v"], r"nginx/(\S+)"),
        "nchan": _said(["dpkg-query", "-W", "-f=${Version}", "libnginx-mod-nchan"], r"(\S+)"),
        "cc": _said(["cc", "--version"], r"(.+)"),
        "headway": _said(["git", "describe", "--always", "--dirty"], r"(\S+)"),
    }
    for package in ("gunicorn", "gevent", "flask", "redis", "hiredis"):
        found[package] = metadata.version(package)
    return {name: value for name, value in found.items() if value}


def line(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())


def _said(command: list[str], pattern: str) -> str:
    """What a program says of its version, or nothing if there is no such program."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return ""
    match = re.search(pattern, done.stdout or done.stderr)
    return match[1] if match and done.returncode == 0 else ""


def _cpu() -> str:
    match = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1].strip() if match else platform.machine()


def _memory() -> str:
    match = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return f"{int(match[1]) / 2**20:.0f} GiB" if match else ""
