"""Headers that lie: files of many containers whose headers tell another length than they have."""

from __future__ import annotations

import struct

from tests.media.inputs import AAC, H264, Studio

LENGTH_S, FLASH_S = 5.0, 3.0
LIES = {"100 h": 360_000.0, "1 s": 1.0}
RATE, SOUND_RATE = 25, 48_000
_ASF = bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365")
_ASF_DATA = bytes.fromhex("3626B2758E66CF11A6D900AA0062CE6C")
_MOV = [(b"mvhd", 20, ">I", 1000), (b"tkhd", 24, ">I", 1000), (b"mdhd", 20, ">I", SOUND_RATE)]
_MATROSKA = [(b"\x44\x89\x88", 3, ">d", 1000)]
_ONE_TIMESCALE = ("-video_track_timescale", str(SOUND_RATE))
_VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus")

LIARS: dict[str, tuple[tuple[str, ...], list[tuple[bytes, int, str, float]]]] = {
    "lie.mp4": ((*H264, *AAC, *_ONE_TIMESCALE), _MOV),
    "lie.mov": ((*H264, "-c:a", "pcm_s16le", *_ONE_TIMESCALE), _MOV),
    "fragments.mp4": (
        (*H264, *AAC, *_ONE_TIMESCALE, "-movflags", "frag_keyframe+empty_moov+default_base_moof"),
        _MOV,
    ),
    "lie.mkv": ((*H264, *AAC), _MATROSKA),
    "lie.webm": (_VP8, _MATROSKA),
    "lie.avi": (
        ("-c:v", "mpeg4", "-c:a", "libmp3lame"),
        [(b"avih", 24, "<I", RATE), (b"strh", 40, "<I", RATE)],
    ),
    "lie.flv": (("-c:v", "flv", "-an"), [(b"duration\0", 9, ">d", 1)]),
    "lie.wmv": (("-c:v", "wmv2", "-c:a", "wmav2"), [(_ASF, 64, "<Q", 1e7), (_ASF, 72, "<Q", 1e7)]),
    "short.wmv": (("-c:v", "wmv2", "-c:a", "wmav2"), [(_ASF_DATA, 16, "<Q", 32_000)]),
    "lie.mxf": (("-c:v", "mpeg2video", "-c:a", "pcm_s16le"), [(b"\x02\x02\0\x08", 4, ">Q", RATE)]),
    "lie.wav": (("-vn",), [(b"RIFF", 4, "<I", SOUND_RATE * 2), (b"data", 4, "<I", SOUND_RATE * 2)]),
    "rf64.wav": (("-vn", "-rf64", "always"), [(b"ds64", 16, "<Q", SOUND_RATE * 2)]),
    "lie.w64": (("-vn",), [(b"data\xf3\xac", 16, "<Q", SOUND_RATE * 2)]),
    "lie.aiff": (("-vn",), [(b"SSND", 4, ">I", SOUND_RATE * 2), (b"COMM", 10, ">I", SOUND_RATE)]),
    "lie.caf": (("-vn",), [(b"data", 4, ">Q", SOUND_RATE * 2)]),
    "lie.mp3": (("-vn", "-c:a", "libmp3lame"), [(b"Info", 8, ">I", SOUND_RATE / 1152)]),
    "lie.flac": (("-vn",), [(b"fLaC", 22, ">I", SOUND_RATE)]),
}
"""By name: how ffmpeg makes it, and each field of its header with the length: what comes before it, how far
from there it is, how it is written, and its units in a second."""


def has_picture(name: str) -> bool:
    return "-vn" not in LIARS[name][0]


def lie(studio: Studio, claimed_s: float) -> None:
    """Make the file of this name, which says that it lasts so long."""
    options, fields = LIARS[studio.path.name]
    studio.clip(*options, to=f"true{studio.path.suffix}", length_s=LENGTH_S, flash=FLASH_S)
    data = bytearray(studio.part(f"true{studio.path.suffix}"))
    for mark, offset, form, per_s in fields:
        claimed = claimed_s * per_s
        value = claimed if form[1] == "d" else min(round(claimed), 2 ** (8 * struct.calcsize(form) - 1) - 2)
        at = data.find(mark)
        assert at >= 0, mark
        while at >= 0:
            struct.pack_into(form, data, at + offset, value)
            at = data.find(mark, at + 1)
    studio.write(bytes(data))
