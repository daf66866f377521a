"""What a failure of ffmpeg or ffprobe means, in words for people: whose fault it is and what would work."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from headway.sdk.stopping import InvalidInput, NoSpace
from worker.media.ffmpeg import FFmpegFailed
from worker.media.said import last_words, plain
from worker.media.sandbox import MAX_STREAMS, OutOfMemory, ran_out_of_memory

READ_HERE = "MP4, MOV, MKV, WebM, AVI, MPEG-TS, MPEG, FLV, Ogg, MXF, GIF, MP3, AAC, FLAC, WAV and others"
_NAMES = {
    "image2": "a still picture",
    "webp_pipe": "a WebP picture",
    "svg_pipe": "an SVG drawing",
    "apng": "an animated PNG",
    "ico": "an icon",
    "wv": "WavPack sound",
    "au": "AU sound",
    "ape": "Monkey's Audio",
    "h264": "raw H.264 without a container",
    "hevc": "raw HEVC without a container",
    "m4v": "raw MPEG-4 video without a container",
    "mpegvideo": "raw MPEG video without a container",
    "obu": "raw AV1 without a container",
    "yuv4mpegpipe": "uncompressed video without a container",
    "rm": "RealMedia",
    "sdp": "a description of a stream, which is elsewhere",
    "hls": "a playlist",
    "dash": "a playlist",
    "concat": "a list of other files",
    "srt": "a file of subtitles",
    "webvtt": "a file of subtitles",
    "ass": "a file of subtitles",
    "tty": "a text",
    "pdf_pipe": "a PDF document",
}
_FORBIDDEN = re.compile(r"\[(?P<format>[^@\]]+?) @ 0x[0-9a-f]+\].* Format not on whitelist")
_UNKNOWN_CODEC = re.compile(r"Codec \((?P<codec>[^)]+)\) not on whitelist")
_STILL = {
    b"heic": "a HEIC picture",
    b"heix": "a HEIC picture",
    b"mif1": "a HEIF picture",
    b"avif": "an AVIF picture",
}
"""What files of MP4's family hold that begin with these brands. ffmpeg takes each of the tiles that such a
picture is made of for a video."""
_PLAYLISTS = (b"#EXTM3U", b"<MPD")
_FULL = ("No space left on device", "Disk quota exceeded", "Error code: -28", "error code: -28")
_NO_ROOM_BYTES = 1 << 20
"""With less free space the disk counts as full: a failed write may leave some."""
_MACHINE = {
    # Sizes and rates are checked before. x264 does not always say which of its allocations failed.
    "Error while opening encoder": (
        "the encoder could not be opened, most likely for want of memory (MAX_MEMORY_BYTES); "
        "a smaller width would need less"
    ),
    "Too many open files": "the worker has too many open files",
    "Input/output error": "the disk of the worker could not be read or written",
    "Permission denied": "the worker is not allowed to read or write a file that it needs",
    "Unknown encoder": "the ffmpeg on the worker has no encoder for this preset",
    "No such filter": "the ffmpeg on the worker is built without a filter that this file needs",
    "Option not found": "the ffmpeg on the worker is too old: it does not know an option",
}
TOO_LARGE = "its pictures are larger than what can be handled; give a file with smaller ones"
TOO_MANY = "max_streams"
_INPUT = {
    TOO_MANY: f"it has more than {MAX_STREAMS} tracks; export it with fewer",
    "moov atom not found": "it is not a video, or its end is missing; export it or upload it again",
    "ended prematurely": "its end is missing; export it or upload it again",
    "Invalid data found": "it is damaged, cut off, or no media file",
    "End of file": "it is damaged, cut off, or no media file",
    "Picture size": TOO_LARGE,
    "maximum allowed frame rate": "it has more pictures per second than this preset can hold",
    "width": "its pictures are too large or too small for this preset; give a width and a height",
}
"""What lines of ffmpeg mean for whoever made the file."""


_DEADLY = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)


class EncoderCrashed(RuntimeError):
    """ffmpeg ended by a fault of its own, or by a limit of the worker: another attempt would end alike."""


class EncoderKilled(RuntimeError):
    """Somebody else ended ffmpeg, as the system does when memory runs out: another attempt may succeed."""


class RareCodec(InvalidInput):
    """A track is of a codec whose decoder is not allowed."""

    def __init__(self, name: str, codec: str) -> None:
        self.codec = codec
        super().__init__(
            f"{name} cannot be decoded here: the format of its picture or sound is {codec!r}, "
            f"which is rare. A copy exported as MP4 with H.264 and AAC would work"
        )


def explain(error: FFmpegFailed, name: str, path: Path | None, work: Path) -> Exception:
    """Return what to raise for a failed ffmpeg that read the input called `name` at `path` and wrote below
    `work`."""
    words = error.words
    if is_full(words, work):
        return NoSpace(full(name))
    if ran_out_of_memory(error.status, words):
        return OutOfMemory(
            f"encoding {name} needs more memory than this worker allows (MAX_MEMORY_BYTES); "
            f"a smaller width would need less"
        )
    # A launcher tells of a signal with a status.
    ended_by = -error.status if error.status < 0 else error.status - 128
    if error.status < 0 or ended_by in _DEADLY:
        return _ended_by_signal(ended_by, name)
    if error.status == 127:
        return FileNotFoundError(f"{error.program} cannot be started on the worker")
    for text, meaning in _MACHINE.items():
        if any(text in line for line in words):
            return EncoderCrashed(f"{name} could not be encoded: {meaning} ({_detail(words, name, path)})")
    return InvalidInput(f"{name} cannot be encoded: {_reason(words)} ({_detail(words, name, path)})")


def unreadable(error: FFmpegFailed, name: str, path: Path) -> Exception:
    """Return what to raise for an ffprobe that could not read an input."""
    if error.status < 0 or error.status == 127:
        return explain(error, name, path, path.parent)
    if path.stat().st_size == 0:
        return InvalidInput(f"{name} cannot be read as media: it is empty. Upload it again")
    for line in error.words:
        if found := _FORBIDDEN.search(line):
            return not_media(name, _kind(found["format"]))
        if found := _UNKNOWN_CODEC.search(line):
            return RareCodec(name, found["codec"])
    if _is_playlist(path):
        return not_media(name, "a playlist, which only names other files")
    return InvalidInput(
        f"{name} cannot be read as media: {_reason(error.words)} ({_detail(error.words, name, path)})"
    )


def not_media(name: str, kind: str) -> InvalidInput:
    return InvalidInput(f"{name} cannot be read as media: it is {kind}. What can be read: {READ_HERE}")


def still(path: Path) -> str | None:
    """Return what a file is that is a picture, though ffmpeg reads it as media; None if it is none."""
    with path.open("rb") as file:
        head = file.read(12)
    return _STILL.get(head[8:]) if head[4:8] == b"ftyp" else None


def _kind(format: str) -> str:
    """Return what people call a file of this format (ffmpeg's name)."""
    picture, pipe, _ = format.partition("_pipe")
    return _NAMES.get(format) or (f"a {picture.upper()} picture" if pipe else f"of the format {format!r}")


def _is_playlist(path: Path) -> bool:
    """Whether a file is a playlist, which ffmpeg does not say of all: it is not allowed to read any."""
    with path.open("rb") as file:
        head = file.read(512)
    return any(mark in head for mark in _PLAYLISTS)


def full(name: str) -> str:
    return f"the worker's disk is full, so {name} could not be encoded: try again when there is room"


def is_full(words: Sequence[str], work: Path) -> bool:
    """Return whether a program failed because it had no room: it says so, or there is none."""
    return (
        any(text in line for line in words for text in _FULL)
        or shutil.disk_usage(work).free < _NO_ROOM_BYTES
    )


def _ended_by_signal(number: int, name: str) -> Exception:
    try:
        called = signal.Signals(number).name
    except ValueError:
        called = f"signal {number}"
    if number in (signal.SIGKILL, signal.SIGTERM):
        return EncoderKilled(
            f"the encoder was killed ({called}) while it worked on {name}; memory may have run out"
        )
    if number == signal.SIGXCPU:
        return EncoderCrashed(f"encoding {name} took more than this worker allows ({called})")
    return EncoderCrashed(
        f"the encoder crashed ({called}) while it worked on {name}: that is a fault of its ffmpeg, "
        f"which another file, or the same one exported anew, may avoid"
    )


def _reason(words: Sequence[str]) -> str:
    for text, meaning in _INPUT.items():
        if any(text in line for line in words):
            return meaning
    return "ffmpeg does not manage it; a copy exported as MP4 with H.264 may work"


def _detail(words: Sequence[str], name: str, path: Path | None) -> str:
    """Return ffmpeg's own words, for those who can use them, without the places where files are kept."""
    said = [hide(plain(line), path, name) for line in words]
    telling = [line for line in said if not line.startswith(("Error opening output", "Conversion failed"))]
    return f"ffmpeg: {last_words(telling or said)}"


def hide(text: str, path: Path | None, name: str) -> str:
    """Return a message without the place where we keep the file."""
    if path is not None:
        text = text.replace(f"file:{path}", name).replace(str(path), name)
    return text
