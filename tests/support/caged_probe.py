"""Run in a sandbox: tries what a program that was taken over would, and prints what became of it.

`python caged_probe.py WRITABLE FORBIDDEN`: a directory that it may write, a file that it may not touch.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

writable, forbidden = Path(sys.argv[1]), Path(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
results: dict[str, Any] = {}


def attempt(name: str, act: Any) -> None:
    try:
        act()
    except OSError as error:
        results[name] = errno_name(error)
    except ValueError:  # resource says so of a limit that may not be raised
        results[name] = "EPERM"
    except MemoryError:
        results[name] = "ENOMEM"
    else:
        results[name] = "done"


def errno_name(error: OSError) -> str:
    import errno

    return errno.errorcode.get(error.errno or 0, str(error.errno))


def call(number: int, *arguments: Any) -> None:
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)
    os.wait()


def thread() -> None:
    worker = threading.Thread(target=lambda: None)
    worker.start()
    worker.join()


def fill() -> None:
    with (writable / "large").open("wb") as file:
        file.truncate(1 << 40)


signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
mine = writable / "mine"
for name, act in {
    "write where it may": lambda: mine.write_text("x"),
    "make a directory there": lambda: (writable / "directory").mkdir(),
    "rename there": lambda: mine.rename(writable / "mine too"),
    "start a thread": thread,
    "read a file": lambda: forbidden.read_text(),
    "write a file": lambda: forbidden.write_text("x"),
    "remove a file": lambda: forbidden.unlink(),
    "make a file beside it": lambda: (forbidden.parent / "new").touch(),
    "rename a file": lambda: forbidden.rename(writable / "stolen"),
    "link a file": lambda: (writable / "link").hardlink_to(forbidden),
    "link symbolically": lambda: (writable / "symlink").symlink_to(forbidden),
    "list a directory": lambda: list(forbidden.parent.iterdir()),
    "truncate a file": lambda: os.truncate(forbidden, 0),
    "change a mode": lambda: forbidden.chmod(0o777),
    "set the setuid bit where it may write": lambda: (writable / "mine too").chmod(0o4777),
    "change an owner": lambda: os.chown(forbidden, 65534, 65534),
    "change times": lambda: os.utime(forbidden),
    "set an attribute": lambda: os.setxattr(forbidden, "user.x", b"x"),
    "make a device": lambda: os.mknod(writable / "null", 0o20666, os.makedev(1, 3)),
    "make a fifo": lambda: os.mkfifo(writable / "fifo"),
    "read the parent's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "list processes": lambda: list(Path("/proc").iterdir()),
    "read users": lambda: Path("/etc/passwd").read_text(),
    "run a shell": lambda: os.execv("/bin/sh", ["sh", "-c", "exit 0"]),
    "fork": fork,
    "signal the parent": lambda: os.kill(os.getppid(), signal.SIGCONT),
    "limit another process": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0)),
    "raise its own limit": lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)),
    "TCP": lambda: socket.create_connection(("127.0.0.1", 9)),
    "UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "a Unix socket": lambda: socket.socket(socket.AF_UNIX),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "a pair of sockets": socket.socketpair,
    "ptrace": lambda: call(101 if os.uname().machine == "x86_64" else 117, 0, 0, 0, 0),
    "io_uring": lambda: call(425, 1, 0),
    "a user namespace": lambda: call(272 if os.uname().machine == "x86_64" else 97, 0x10000000),
    "mount": lambda: call(165 if os.uname().machine == "x86_64" else 40, b"x", b"/mnt", b"tmpfs", 0, None),
    "a call that is not there yet": lambda: call(9999),
    "take more memory than it may": lambda: bytearray(1 << 30),
    "a file larger than it may": fill,
}.items():
    attempt(name, act)
results["environment"] = sorted(os.environ)
print(json.dumps(results))
