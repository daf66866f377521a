"""Hostile media: what the encoder opened, what it took, and what the job says."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.contract.new_job import NewJob
from headway.contract.records import Job as JobRecord
from headway.contract.settings import load
from headway.contract.states import ErrorCode, State
from headway.sdk import sandbox
from headway.sdk.runtime import Runtime
from tests.support.checkout import ROOT
from tests.support.programs import missing
from tests.support.wait import until
from tests.support.worker_stack import WorkerStack
from worker.media import ffmpeg
from worker.process import prepare_sandbox
from worker.tasks.video_encode import encode

MIB = 1 << 20
FAST = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
SECRET = "/etc/hostname"
QUIET = ("/dev/null", "/dev/urandom")
_OPENED = re.compile(r"open(?:at2?)?\((?:AT_FDCWD, )?\"(?P<path>[^\"]*)\".*\) = \d+")
_CALLED = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(?P<call>socket|socketpair|connect|bind|execve)\(")


@pytest.fixture(autouse=True)
def _whole_sandbox() -> None:
    if sandbox.missing():
        missing("Landlock or seccomp in this kernel")


Do = Callable[..., JobRecord]


@pytest.fixture
def do(worker_stack: WorkerStack, tmp_path: Path) -> Iterator[Do]:
    """Encodes in this process, as a worker would; returns the job."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}

    def do(policy: sandbox.Policy | None = None, **params: Any) -> JobRecord:
        store = worker_stack.store
        runtime = Runtime(store, worker="test", data_dir=tmp_path, lease_s=12, sandbox=policy)
        job_id, *_ = store.create(
            NewJob(owner="owner", type="video.encode", params=params, queue="none", max_attempts=3)
        )
        runtime.run(encode, job_id)
        return worker_stack.job(job_id)

    yield do
    for number, handler in before.items():
        signal.signal(number, handler)


# -- what it opens -------------------------------------------------------------------------------------


def playlist(of: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9.0,\n{of}\n#EXT-X-ENDLIST\n".encode()


def avi_with_a_playlist_as_subtitles(of: str) -> bytes:
    """The classic of 2016: a GAB2 block in a subtitle stream of an AVI, whose text is a playlist."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    def entries(name: bytes, data: bytes) -> bytes:
        return chunk(b"LIST", name + data)

    text = playlist(of)
    gab2 = b"GAB2\0\2\0\0\0\0\0\0\0\0\0\4\0" + struct.pack("<I", len(text)) + text
    head = struct.pack("<14I", 40000, 0, 0, 0, 1, 0, 2, 0, 16, 16, 0, 0, 0, 0)
    video = b"vidsMJPG" + struct.pack("<12I", 0, 0, 0, 1, 25, 0, 1, 0, 0, 0, 0, 0)
    texts = b"txts\0\0\0\0" + struct.pack("<12I", 0, 0, 0, 1, 25, 0, 1, 0, 0, 0, 0, 0)
    picture = struct.pack("<IiiHH4sIiiII", 40, 16, 16, 1, 24, b"MJPG", 768, 0, 0, 0, 0)
    headers = entries(
        b"hdrl",
        chunk(b"avih", head)
        + entries(b"strl", chunk(b"strh", video) + chunk(b"strf", picture))
        + entries(b"strl", chunk(b"strh", texts) + chunk(b"strf", b"")),
    )
    return chunk(
        b"RIFF",
        b"AVI " + headers + entries(b"movi", chunk(b"01tx", gab2) + chunk(b"00dc", b"\xff\xd8\xff\xd9")),
    )


def atom(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + name + data


def movie_of_another_file(of: str) -> bytes:
    """A MOV whose track says that its pictures are in another file."""
    elsewhere = atom(b"url ", b"\0\0\0\0file://" + of.encode() + b"\0")
    minf = atom(b"dinf", atom(b"dref", struct.pack(">II", 0, 1) + elsewhere))
    entry = atom(b"jpeg", struct.pack(">6xH16xHHII4xH32xHh", 1, 16, 16, 0x480000, 0x480000, 1, 24, -1))
    tables = atom(b"stsd", struct.pack(">II", 0, 1) + entry) + atom(
        b"stts", struct.pack(">4I", 0, 1, 1, 40)
    )
    tables += atom(b"stsc", struct.pack(">5I", 0, 1, 1, 1, 1)) + atom(b"stsz", struct.pack(">3I", 0, 9, 1))
    minf = (
        atom(b"vmhd", bytes(12)) + minf + atom(b"stbl", tables + atom(b"stco", struct.pack(">3I", 0, 1, 0)))
    )
    mdia = atom(b"mdhd", struct.pack(">5I2H", 0, 0, 0, 1000, 40, 0, 0))
    mdia += atom(b"hdlr", b"\0\0\0\0mhlrvide" + bytes(13)) + atom(b"minf", minf)
    header = atom(b"tkhd", struct.pack(">I76x2I", 1, 16 << 16, 16 << 16)) + atom(b"mdia", mdia)
    return atom(b"ftyp", b"qt  \0\0\0\0qt  ") + atom(
        b"moov", atom(b"mvhd", struct.pack(">5I80x", 0, 0, 0, 1000, 40)) + atom(b"trak", header)
    )


DASH = (
    b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>'
    b'<Representation id="0"><BaseURL>/etc/hostname</BaseURL></Representation>'
    b"</AdaptationSet></Period></MPD>"
)
CONTENTS = {
    "playlist": playlist(SECRET),
    "playlist of the network": playlist("http://127.0.0.1:9/x.ts"),
    "playlist of a list": playlist(f"concat:{SECRET}|{SECRET}"),
    "playlist with a mark": b"\xef\xbb\xbf" + playlist(SECRET),
    "playlist with a key": b'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="file:///etc/hostname"\n'
    + playlist(SECRET)[8:],
    "playlist with a map": playlist(SECRET).replace(b"#EXTINF", b'#EXT-X-MAP:URI="/etc/hostname"\n#EXTINF'),
    "playlist after a tag": b"ID3\4\0\0\0\0\0\0" + playlist(SECRET),
    "concat": f"ffconcat version 1.0\nfile {SECRET}\n".encode(),
    "dash": DASH,
    "cut dash": DASH[:120],
    "composition": b'<?xml version="1.0"?><CompositionPlaylist><Id>x</Id></CompositionPlaylist>',
    "smooth": b'<?xml version="1.0"?><SmoothStreamingMedia><StreamIndex Url="/x"/></SmoothStreamingMedia>',
    "session": (
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"
        b"a=rtpmap:96 H264/90000\n"
    ),
    "redirection": b"[Reference]\nRef1=http://127.0.0.1:9/x.asf?MSWMExt=.asf\n",
    "real": b"rtsp://127.0.0.1:9/x.rm\n",
    "drawing": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/hostname"/></svg>',
    "subtitles": avi_with_a_playlist_as_subtitles(SECRET),
    "index": b"# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:00:000, filepos: 000000000\n",
    "text": b"[Script Info]\n[Events]\nDialogue: 0,0:00:00.00,0:00:01.00,,,,0,0,,x\n",
    "another file": movie_of_another_file(SECRET),
    "filter": b"movie=/etc/hostname [out0]\n",
    "script": b'AviSource("/etc/hostname")\n',
    "tracks": b'FILE "/etc/hostname" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
}
"""What makes some program open another file, or a connection."""
NATURAL = {"playlist": "m3u8", "concat": "ffconcat", "dash": "mpd", "session": "sdp", "subtitles": "avi"}
NAMES = [
    *(
        f"{content}.{ending}"
        for content in CONTENTS
        for ending in ("mp4", NATURAL.get(content.split()[0], "ts"))
    ),
    # A name that is a command, a pattern, or an address of another kind.
    *(
        f"{name} playlist.mp4"
        for name in ("-i", "http:127.0.0.1", "concat:a|b", "pipe:0", "data:,x", "|id", "$(id)")
    ),
    *(
        f"{name} playlist.jpg"
        for name in ("%03d", "*", "subfile,,start,0,end,9,,:", "crypto:x", "fd:1", "async:a")
    ),
    "tee:a|b playlist.ts",
]


def content_of(name: str) -> bytes:
    stem = name.rpartition(".")[0]
    return CONTENTS[stem if stem in CONTENTS else "playlist"]


@pytest.fixture
def traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that programs in a sandbox open and call is written to this file."""
    strace = shutil.which("strace")
    if strace is None:
        missing("strace")
    log = tmp_path / "trace"
    launch = sandbox.launch

    def launch_traced(*args: Any) -> list[str]:
        # -D: it is the program, not strace, that is our child and whose parent we are.
        calls = "trace=open,openat,openat2,socket,socketpair,connect,bind,execve"
        return [strace, "-D", "-f", "-qq", "-s", "4096", "-A", "-o", str(log), "-e", calls, *launch(*args)]

    monkeypatch.setattr("headway.sdk.subprocesses.launch", launch_traced)
    return log


def what_was_opened(log: Path) -> tuple[set[str], list[str]]:
    """What the programs opened after the launcher had become them, and their other calls."""
    opened: set[str] = set()
    others: list[str] = []
    programs: set[str] = set()
    for line in log.read_text(errors="replace").splitlines():
        pid = line.split()[0]
        call = line.partition(" ")[2].strip()
        if call.startswith("execve(") and call.endswith("= 0") and "launcher.py" not in call:
            programs.add(pid)
        elif found := _OPENED.match(call):
            if pid in programs:
                opened.add(found["path"])
        elif pid in programs and _CALLED.match(call):
            others.append(call)
    assert programs
    return opened, others


@pytest.mark.parametrize("name", NAMES)
def test_hostile_media_make_the_encoder_open_nothing_but_itself(
    do: Do, tmp_path: Path, traced: Path, name: str
) -> None:
    path = tmp_path / "in" / name
    path.parent.mkdir()
    path.write_bytes(content_of(name))
    job = do(input=f"file:in/{name}", preset="mp4")
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.code is ErrorCode.INVALID_INPUT
    opened, others = what_was_opened(traced)
    assert opened <= {str(path), f"{tmp_path}/work/{job.id}/1/video.mp4"}
    assert others == []


def test_an_encode_opens_its_input_and_its_outputs(do: Do, tmp_path: Path, traced: Path) -> None:
    path = clip(tmp_path, "320x180")
    job = do(input=f"file:{path.relative_to(tmp_path)}", preset="hls", duration_s=0.2)
    assert job.error is None
    opened, others = what_was_opened(traced)
    work = f"{tmp_path}/work/{job.id}/1/"
    # What is relative lies in the working directory, where it runs.
    assert {p for p in opened if p.startswith("/") and not p.startswith(work)} <= {str(path)}
    assert any(p.endswith(".ts") for p in opened)
    assert others == []


# -- what it takes -------------------------------------------------------------------------------------


def clip(directory: Path, size: str, frames: int = 10) -> Path:
    path = directory / "in" / f"{size}.mp4"
    path.parent.mkdir(exist_ok=True)
    source = f"color=size={size}:rate=25:color=red"
    subprocess.run(
        [
            *(ffmpeg.locate("ffmpeg"), "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", source),
            *("-frames:v", str(frames), *FAST, str(path)),
        ],
        check=True,
    )
    return path


def peak_of_subprocesses() -> int:
    """The most memory that one of this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


@pytest.mark.parametrize(
    ("preset", "of", "to"),
    [
        ("mp4", "320x180", (7680, 4320)),
        ("webm", "320x180", (7680, 4320)),
        ("av1", "320x180", (7680, 4320)),
        ("mp4", "8192x8192", (None, None)),
    ],
)
def test_an_encoder_that_needs_more_memory_than_it_may_take_ends_and_the_job_says_so(
    do: Do, tmp_path: Path, preset: str, of: str, to: tuple[int | None, int | None]
) -> None:
    path = clip(tmp_path, of, frames=4)
    before = peak_of_subprocesses()
    job = do(
        sandbox.Policy("require", memory_bytes=1024 * MIB),
        input=f"file:{path.relative_to(tmp_path)}",
        preset=preset,
        width=to[0],
        height=to[1],
        poster=False,
    )
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.code is ErrorCode.ERROR
    assert "memory" in job.error.message
    assert peak_of_subprocesses() <= max(before, 1024 * MIB)


def gif(path: Path, side: int, frames: int) -> str:
    """An animation of that canvas, of which each frame is a pixel: 24 bytes. Returns the reference."""
    head = b"GIF89a" + struct.pack("<HH3B", side, side, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    shown = b"\x21\xf9\4" + struct.pack("<BHB", 4, 4, 0) + b"\0"
    pixel = b"," + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(head + (shown + pixel) * frames + b";")
    return f"file:in/{path.name}"


@pytest.mark.parametrize(
    ("side", "code", "words"),
    [(65535, ErrorCode.INVALID_INPUT, "larger than"), (8000, ErrorCode.ERROR, "memory")],
)
def test_an_animation_of_a_huge_canvas_ends_at_once_and_takes_no_more_than_it_may(
    do: Do, tmp_path: Path, side: int, code: ErrorCode, words: str
) -> None:
    reference = gif(tmp_path / "in" / "huge.gif", side, frames=3)
    before = peak_of_subprocesses()
    job = do(sandbox.Policy("require", memory_bytes=600 * MIB), input=reference, preset="mp4")
    assert (job.state, job.attempt) == (State.FAILED, 1)
    assert job.error is not None
    assert job.error.code is code, job.error
    assert words in job.error.message
    assert peak_of_subprocesses() <= max(before, 600 * MIB)


def test_an_animation_of_very_many_pictures_takes_as_long_as_its_job_may(worker_stack: WorkerStack) -> None:
    # 48 kB, of which each picture is one of 256 MB.
    reference = gif(worker_stack.directory / "in" / "many.gif", 8000, frames=2000)
    queue = worker_stack.store.registry.types()["video.encode"][0]["queue"]
    params = {"input": reference, "width": 64, "poster": False}
    job_id, *_ = worker_stack.store.create(
        NewJob("owner", "video.encode", params, queue, max_attempts=3, timeout_s=5)
    )
    worker_stack.send("video.encode", job_id, queue)
    job = worker_stack.ended(job_id)
    assert job.error is not None
    assert (job.error.code, job.attempt) == (ErrorCode.TIMEOUT, 1), job.error
    until(lambda: not worker_stack.encoders(), what="the encoder to end")
    until(lambda: not worker_stack.work_files(), what="its files to go")


# -- what the worker says ------------------------------------------------------------------------------


def test_a_worker_tells_what_its_kernel_lacks_for_the_sandbox(worker_stack: WorkerStack) -> None:
    (worker,) = worker_stack.store.registry.workers()
    assert worker.sandbox == {"mode": "auto", "missing": []}


@pytest.mark.parametrize("mode", ["auto", "require"])
def test_a_kernel_without_seccomp_is_said_once_or_refused(
    worker_stack: WorkerStack, tmp_path: Path, mode: str
) -> None:
    # The worker of a machine whose system calls the filter does not know.
    code = (
        "import sys\n"
        "from headway.sdk import sandbox\n"
        "launcher = sys.argv.pop()\n"
        "sandbox.LAUNCHER = launcher\n"
        "from worker import process as worker\n"
        "from headway.contract.settings import load\n"
        "print(worker.prepare_sandbox(load()))\n"
    )
    old = tmp_path / "launcher.py"
    text = Path(sandbox.LAUNCHER).read_text()
    old.write_text(text.replace('"x86_64"', '"m68k"').replace('"aarch64"', '"vax"'))
    ran = subprocess.run(
        [sys.executable, "-c", code, str(old)],
        cwd=ROOT,
        env={**os.environ, "REDIS_URL": worker_stack.valkey.url, "SANDBOX": mode},
        capture_output=True,
        text=True,
        check=False,
    )
    if mode == "require":
        assert (ran.returncode, ran.stderr.count("\n")) == (2, 1), ran.stderr
        assert "no seccomp" in ran.stderr
    else:
        assert ran.stdout == "{'mode': 'auto', 'missing': ['seccomp']}\n"
        assert ran.stderr.count("without seccomp") == 1


def test_a_worker_warns_of_an_ffmpeg_older_than_the_last_known_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    old = tmp_path / "ffmpeg"
    old.write_text("#!/bin/sh\necho ffmpeg version 7.1.4 Copyright\n")
    old.chmod(0o700)
    monkeypatch.setenv("FFMPEG", str(old))
    prepare_sandbox(load({"REDIS_URL": "redis://127.0.0.1:1"}))
    assert "7.1.5" in caplog.text
