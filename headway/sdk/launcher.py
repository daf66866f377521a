"""Start a program that dies with its parent and, if asked, may touch little else:
`python -I -S launcher.py SPEC program arguments…`

SPEC is a dict, as `marshal` writes it, in hexadecimal: `parent`, the process to die with; `signal`, which
it is sent then (KILL); and optionally `sandbox`, what `Sandbox.spec` made. It needs no privilege and no
container feature, only the kernel; what the kernel lacks is left out, or with `require` ends the launcher
with status 126. With `trial` it starts nothing and prints what is missing, a line each.

A program of its own, because this must happen between fork and exec, and running Python code in the
fork of a process with threads may hang. It imports nothing of ours and as little as possible, since this
is the start of every encoder and prober: `json`, `signal` and `typing` alone would double its time.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import ctypes
import marshal
import os
import resource
import stat
import struct
import sys
from collections.abc import Sequence

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
CAP_DAC_OVERRIDE = 1
LAST_CAP = 63

# -- Landlock ----------------------------------------------------------------------------------------

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << n for n in range(6))
MAKE_DIR, MAKE_REG, REFER, TRUNCATE, IOCTL_DEV = 1 << 7, 1 << 8, 1 << 13, 1 << 14, 1 << 15
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
READ = READ_FILE | READ_DIR
# Neither links nor devices, fifos or sockets.
WRITE = READ | WRITE_FILE | TRUNCATE | REFER | MAKE_DIR | MAKE_REG | REMOVE_DIR | REMOVE_FILE
RUN = READ_FILE | EXECUTE
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446


def landlock_abi() -> int:
    """The version of the kernel's Landlock; below 1 there is none."""
    abi: int = _libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    return abi


def restrict_files(paths: Sequence[tuple[str, int]]) -> None:
    """From here on only what `paths` names, as (path, rights) pairs, can be opened; no TCP (Linux 6.7)
    and no signal to a process outside (6.12). Raises OSError."""
    abi = landlock_abi()
    if abi < 1:
        raise OSError("Landlock is not available")
    handled = (1 << 13) - 1
    handled |= REFER if abi >= 2 else 0
    handled |= TRUNCATE if abi >= 3 else 0
    handled |= IOCTL_DEV if abi >= 5 else 0
    ruleset = struct.pack("QQQ", handled, 3, 3)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset_fd = _syscall(CREATE_RULESET, ruleset, ctypes.c_size_t(len(ruleset)), 0)
    for path, rights in paths:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # what is not there cannot be opened
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= OF_A_FILE
        _syscall(ADD_RULE, ruleset_fd, 1, struct.pack("=Qi", rights & handled, fd), 0)
        os.close(fd)
    _syscall(RESTRICT_SELF, ruleset_fd, 0)
    os.close(ruleset_fd)


# -- seccomp -----------------------------------------------------------------------------------------

# Every denied call, with its number on x86_64 and on aarch64 (None: it is not there).
DENIED: dict[str, tuple[int, int | None]] = {
    # network
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200),
    "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206),
    "sendmsg": (46, 211), "sendmmsg": (307, 269),
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "process_madvise": (440, 440), "kcmp": (312, 272), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "setpriority": (141, 140), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274), "ioprio_set": (251, 30),
    # namespaces and mounts
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    # who owns a file, and what may be done with it: Landlock does not guard these
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "mknod": (133, None), "mknodat": (259, 33),
    "truncate": (76, 45),
    # parts of the kernel that no encoder needs, and in which vulnerabilities are found
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443), "syslog": (103, 116),
    "personality": (135, 92), "iopl": (172, None), "ioperm": (173, None), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "sethostname": (170, 161), "setdomainname": (171, 162), "execveat": (322, 281),
    "inotify_add_watch": (254, 27), "fanotify_init": (300, 262),
}  # fmt: skip
FORKS: dict[str, tuple[int, int | None]] = {"fork": (57, None), "vfork": (58, None)}
KILLS = {"kill": (62, 129), "tgkill": (234, 131)}
PRLIMIT = (302, 261)
CLONE = (56, 220)
CLONE3 = 435
NEWEST = 462
"""The last call that is known here (mseal, Linux 6.10). To a program newer ones look as if there were
none."""
CLONE_THREAD = 0x00010000
CLONE_NEW_ANYTHING = 0x7E020000
MACHINES = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}
"""Machine → place in the pairs above, what the kernel calls it, the number of seccomp(2)."""

LOAD, EQUAL, GREATER_EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS = 1, 38
Step = tuple[int, int, int, int]
"""Of a filter: code, jump if true, jump if false, value."""


def seccomp_filter(machine: str, pid: int, *, processes: bool) -> list[Step]:
    """The filter for a program that runs as `pid`. Without `processes` it may start threads only, and
    signal nobody but itself."""
    column, architecture, _ = MACHINES[machine]
    program: list[Step] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        # Also closes x86's second set of numbers, "x32".
        (GREATER_EQUAL, 0, 1, NEWEST + 1),
        (RETURN, 0, 0, ERRNO | ENOSYS),
        # Its flags are behind a pointer, where a filter cannot look; the C libraries then take clone.
        (EQUAL, 0, 1, CLONE3),
        (RETURN, 0, 0, ERRNO | ENOSYS),
    ]

    def deny(number: int) -> None:
        program.extend([(EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | EPERM)])

    def deny_if(number: int, test: int, value: int, *, true: bool) -> None:
        """Deny the call if the test of its first argument says so."""
        program.extend(
            [
                (EQUAL, 0, 4, number),
                (LOAD, 0, 0, FIRST_ARGUMENT),
                (test, 0, 1, value) if true else (test, 1, 0, value),
                (RETURN, 0, 0, ERRNO | EPERM),
                (LOAD, 0, 0, NUMBER),
            ]
        )

    for numbers in (*DENIED.values(), *(() if processes else FORKS.values())):
        if (number := numbers[column]) is not None:
            deny(number)
    deny_if(CLONE[column], ANY_BIT, CLONE_NEW_ANYTHING, true=True)
    deny_if(PRLIMIT[column], EQUAL, 0, true=False)
    if not processes:
        deny_if(CLONE[column], ANY_BIT, CLONE_THREAD, true=False)
        for kill in KILLS.values():
            deny_if(kill[column], EQUAL, pid, true=False)
    program.append((RETURN, 0, 0, ALLOW))
    return program


def restrict_calls(*, processes: bool) -> None:
    """From here on the kernel answers the calls of DENIED with "not permitted". Raises OSError."""
    machine = os.uname().machine
    if machine not in MACHINES:
        raise OSError(f"no filter for {machine}")
    program = seccomp_filter(machine, os.getpid(), processes=processes)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    head = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
    _syscall(MACHINES[machine][2], 1, 0, head)


# -- all together ------------------------------------------------------------------------------------


def _syscall(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def confine(
    limits: dict[str, int], read: list[str], write: list[str], run: list[str], *, processes: bool
) -> list[str]:
    """Close this process in, as far as the kernel can; what it cannot, by name."""
    missing = []
    if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return ["no_new_privs", "landlock", "seccomp"]
    if os.geteuid() == 0:
        # Root keeps only its way past file modes; Landlock says which files that means.
        for capability in range(LAST_CAP + 1):
            if capability != CAP_DAC_OVERRIDE:
                _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    _prefer_as_victim()
    for name, value in limits.items():
        limit = getattr(resource, name)
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    paths = [
        *((path, READ) for path in read),
        *((path, WRITE) for path in write),
        *((path, RUN) for path in run),
    ]
    try:
        restrict_files(paths)
    except OSError:
        missing.append("landlock")
    try:
        restrict_calls(processes=processes)
    except OSError:
        missing.append("seccomp")
    return missing


def _prefer_as_victim() -> None:
    """When the machine runs out of memory, this rather than the service."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(fd, b"800")
        os.close(fd)
    except OSError:
        pass


def main() -> None:
    spec, program = marshal.loads(bytes.fromhex(sys.argv[1])), sys.argv[2:]  # noqa: S302  # our parent's
    if sys.platform == "linux":
        _libc.prctl(PR_SET_PDEATHSIG, spec.get("signal", signal.SIGKILL))
    # It may have died before the line above, and then no signal comes.
    if os.getppid() != spec["parent"]:
        os._exit(1)
    # Python ignores these two, and what is ignored stays so over exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    sandbox = spec.get("sandbox")
    if sandbox is not None:
        required, trial = sandbox.pop("require"), sandbox.pop("trial", False)
        missing = confine(**sandbox)
        if trial:
            sys.stdout.write("\n".join(missing))
            return
        if missing and required:
            sys.stderr.write(f"{program[0]}: not started, as the kernel has no {', '.join(missing)}\n")
            os._exit(126)
    try:
        os.execvp(program[0], program)
    except OSError as error:
        sys.stderr.write(f"{program[0]}: {error.strerror}\n")
        os._exit(127)


if __name__ == "__main__":
    main()
