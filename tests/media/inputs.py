"""The corpus: inputs of every kind that people have, made with ffmpeg's own sources, and what is right.

They are made once and kept in the temporary directory, under a name made from what these files hold. Unless
said otherwise, each has a white picture and a tone from 0.6 to 0.8 s, so that sync can be measured.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.media import ffmpeg

WIDTH, HEIGHT, FPS, LENGTH_S = 160, 120, 25, 1.6
Make = Callable[["Studio"], None]
PRESETS = ("mp4", "webm", "av1", "hls", "audio")


@dataclass(frozen=True)
class Expected:
    """What has to come out of an input, whatever the preset."""

    length_s: float | None = LENGTH_S
    """None where it is not looked at."""
    size: tuple[int, int] = (WIDTH, HEIGHT)
    sound: bool = True
    picture: bool = True
    max_fps: float = 60.0
    flash_s: float | None = 0.6
    """When the picture turns white and the tone begins; None where there is no such thing."""
    warns: str | None = None
    """Words of a warning in the result; None where there is to be none."""
    invalid: str | None = None
    """Words of the message with which it is refused, whatever the preset."""
    sound_s: float | None = None
    """How long the sound alone is, where that is not the length of the whole."""
    sound_is_fine: bool = False
    """Whether what is refused for its picture has a sound that is not."""
    logs: str | None = None
    corner: tuple[int, int, int] | None = None
    """The colour of the picture's upper left corner, within 24."""
    levels: tuple[int, int] | None = None
    """Luminance at a quarter and at three quarters of the width, within 12 (of 16 to 235)."""
    bars_s: float | None = None
    """When the picture has black bars, so that its shape is kept."""
    slack_s: float = 0.05
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Input:
    name: str
    make: Make
    expected: Expected


class Studio:
    """Makes files in a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.path = directory / name

    def run(self, *args: str, to: str | None = None, data: bool = False) -> bytes:
        """Run ffmpeg, writing `to`, else the input's own file; with `data` returns what it prints."""
        target = [] if data else [str(self.directory / to if to else self.path)]
        command = [ffmpeg.locate("ffmpeg"), "-nostdin", "-loglevel", "error", "-y", *args, *target]
        made = subprocess.run(command, capture_output=True, cwd=self.directory, check=False)
        assert made.returncode == 0, f"{self.path.name}: {made.stderr.decode()}"
        return made.stdout

    def clip(self, *options: str, to: str | None = None, **source: Any) -> None:
        """The usual clip, with these options for the output."""
        self.run(*clip(**source), *options, to=to)

    def write(self, data: bytes) -> None:
        self.path.write_bytes(data)

    def part(self, name: str) -> bytes:
        return (self.directory / name).read_bytes()


def picture(
    size: str = f"{WIDTH}x{HEIGHT}", rate: object = FPS, length_s: float = LENGTH_S, flash: float = 0.6
) -> list[str]:
    """The arguments of a moving picture that is white for 0.2 s."""
    white = f"drawbox=color=white:t=fill:enable='between(t,{flash - 0.001},{flash + 0.199})'"
    return ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={length_s},{white}"]


def tone(length_s: float = LENGTH_S, flash: float = 0.6, more: str = "") -> list[str]:
    """The arguments of silence with a tone of 0.2 s in it."""
    silent = f"volume=0:enable='not(between(t,{flash},{flash + 0.2}))'"
    return [
        "-f",
        "lavfi",
        "-i",
        f"sine=1000:sample_rate=48000:duration={length_s},asetnsamples=48,volume=6,{silent}{more}",
    ]


def clip(
    *, sound: bool = True, sound_s: float | None = None, flash: float = 0.6, **source: Any
) -> list[str]:
    length_s = sound_s if sound_s is not None else source.get("length_s", LENGTH_S)
    return [*picture(flash=flash, **source), *(tone(length_s, flash) if sound else [])]


H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25")
AAC = ("-c:a", "aac")
INPUTS: list[Input] = []


def add(name: str, make: Make, **expected: Any) -> None:
    INPUTS.append(Input(name, make, Expected(**expected)))


def usual(name: str, *options: str, source: dict[str, Any] | None = None, **expected: Any) -> None:
    """The usual clip in another container, codec or shape."""
    add(name, lambda studio: studio.clip(*options, **(source or {})), **expected)


# -- containers and codecs -----------------------------------------------------------------------------

usual("h264.mp4", *H264, *AAC)
usual("h264.mov", *H264, "-c:a", "pcm_s16le")
usual("h264.mkv", *H264, "-c:a", "ac3")
usual("vp8.webm", "-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus")
usual("vp9.webm", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus")
usual("altref.webm", "-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-c:a", "libopus")
usual("mpeg4.avi", "-c:v", "mpeg4", "-c:a", "libmp3lame")
usual("flv1.flv", "-c:v", "flv", "-c:a", "libmp3lame", "-ar", "44100")
usual("h264.ts", *H264, *AAC)
usual("mpeg2.mpg", "-c:v", "mpeg2video", "-c:a", "mp2")
usual("wmv2.wmv", "-c:v", "wmv2", "-c:a", "wmav2", slack_s=0.1)
usual("prores.mov", "-c:v", "prores_ks", "-c:a", "pcm_s24le")
usual("ffv1.mkv", "-c:v", "ffv1", "-c:a", "flac")
usual("h263.3gp", "-s", "176x144", "-c:v", "h263", *AAC, size=(192, 144))
usual("hevc.mp4", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error", *AAC)
usual("raw.mkv", "-c:v", "rawvideo", "-pix_fmt", "yuv422p", "-c:a", "pcm_f32le")
usual("mpeg2.mxf", "-c:v", "mpeg2video", "-c:a", "pcm_s16le", "-ar", "48000")
usual("fragments.mp4", *H264, *AAC, "-movflags", "frag_keyframe+empty_moov+default_base_moof")
usual("live.mkv", *H264, "-c:a", "libopus", "-f", "matroska", "-live", "1")
usual("bframes.mp4", *("-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuv420p"), *AAC)
usual("plain.gif", source={"sound": False, "rate": 10}, sound=False)
usual("silent.mp4", *H264, source={"sound": False}, sound=False)

# -- sound ---------------------------------------------------------------------------------------------

ONLY_SOUND = {"picture": False}


def sound(name: str, *options: str, more: str = "", **expected: Any) -> None:
    add(name, lambda studio: studio.run(*tone(more=more), *options), **ONLY_SOUND, **expected)


sound("tone.wav")
sound("tone.m4a", *AAC)
sound("tone.flac")
sound("tone.ogg", "-c:a", "libopus")
sound("noxing.mp3", "-c:a", "libmp3lame", "-write_xing", "0", slack_s=0.06)
sound("fast.wav", "-ar", "192000")
sound("slow.wav", "-ar", "8000")
sound("many.wav", "-ac", "10", more=",pan=10c|c0=c0|c1=c0|c2=c0|c3=c0")
# What ffmpeg leaves out when it makes two channels: heights, and what it takes for the low frequencies.
sound("lastchannel.wav", more=",volume=1.3,pan=10c|c9=c0")
sound("fourth.mka", "-c:a", "pcm_s16le", more=",pan=6c|c3=c0")
AMBISONIC = ",pan=ambisonic 1|c0=c0|c1=c0"
sound("ambisonic.mka", "-c:a", "libopus", "-mapping_family", "2", more=AMBISONIC)
usual("surround.mkv", *H264, "-c:a", "ac3", "-ac", "6")


def _streamed_wav(studio: Studio) -> None:
    studio.write(studio.run(*tone(), "-f", "wav", "pipe:1", data=True))


add("streamed.wav", _streamed_wav, **ONLY_SOUND)


def _empty_wav(studio: Studio) -> None:
    studio.run(*tone(), to="whole.wav")
    studio.write(studio.part("whole.wav").partition(b"data")[0] + b"data\0\0\0\0")


add("nothing.wav", _empty_wav, invalid="has no")


def _chained(studio: Studio) -> None:
    """As a recording of internet radio: one stream after the other, each with timestamps of its own."""
    studio.run(*tone(), "-c:a", "libopus", to="a.ogg")
    studio.run(*tone(flash=9), "-c:a", "libopus", to="b.ogg")
    studio.write(studio.part("a.ogg") + studio.part("b.ogg"))


add("chained.ogg", _chained, **ONLY_SOUND, length_s=2 * LENGTH_S, slack_s=0.1)


def _cover(studio: Studio) -> None:
    studio.run(*picture(), "-frames:v", "1", "-update", "1", to="art.jpg")
    studio.run(
        *(*tone(), "-i", "art.jpg", "-map", "0", "-map", "1", "-c:a", "libmp3lame", "-c:v", "copy"),
        *("-disposition:v", "attached_pic"),
    )


add("cover.mp3", _cover, **ONLY_SOUND, slack_s=0.06)

# -- shapes --------------------------------------------------------------------------------------------


def _turned(*display: str) -> Make:
    def make(studio: Studio) -> None:
        studio.clip(*H264, *AAC, to="upright.mp4")
        studio.run(*display, "-i", "upright.mp4", "-c", "copy")

    return make


add("turned90.mp4", _turned("-display_rotation", "90"), size=(HEIGHT, WIDTH))
add("turned180.mp4", _turned("-display_rotation", "180"))
add("tilted.mp4", _turned("-display_rotation", "37.5"), logs="by 37 degrees: its picture is turned by 0")
add("nearly90.mp4", _turned("-display_rotation", "80.5"), size=(HEIGHT, WIDTH), logs="is turned by 90")
add("mirrored.mp4", _turned("-display_hflip"))
usual("anamorphic.mp4", *H264, *AAC, "-vf", "setsar=64/45", size=(228, 120))
usual("narrow.mp4", *H264, *AAC, "-vf", "setsar=1/2", size=(80, 120))
usual("odd.mkv", "-c:v", "ffv1", "-c:a", "flac", source={"size": "161x121"})
usual("tiny.mkv", "-c:v", "ffv1", "-c:a", "flac", source={"size": "16x16"}, size=(16, 16))
usual("sliver.mkv", *H264, *AAC, source={"size": "16x400"}, size=(16, 400))
usual("portrait.mp4", *H264, *AAC, source={"size": "120x212"}, size=(120, 212))
usual(
    "wide.mkv",
    "-c:v",
    "ffv1",
    "-t",
    "0.1",
    source={"size": "20000x16", "rate": 5, "sound": False},
    invalid="give a width",
    sound=False,
)


def _resized(studio: Studio) -> None:
    half = {"length_s": 0.8}
    studio.clip(*H264, *AAC, "-f", "mpegts", to="a.ts", **half)
    studio.clip(
        *H264, *AAC, "-f", "mpegts", "-output_ts_offset", "0.8", to="b.ts", size="80x60", flash=9, **half
    )
    studio.write(studio.part("a.ts") + studio.part("b.ts"))


add("resized.ts", _resized, slack_s=0.1)

# -- rates ---------------------------------------------------------------------------------------------

AT_1000 = {"rate": 1000, "length_s": LENGTH_S}
LIVE_WEBM = ("-fps_mode", "vfr", "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8")


def _recorder(studio: Studio) -> None:
    uneven = "select='not(mod(n,33))+eq(mod(n,71),5)'"
    studio.write(
        studio.run(
            *clip(**AT_1000),
            "-vf",
            uneven,
            *LIVE_WEBM,
            "-c:a",
            "libopus",
            "-f",
            "webm",
            "-live",
            "1",
            "pipe:1",
            data=True,
        )
    )


add("recorder.webm", _recorder)
FIVE = "select='eq(n,0)+eq(n,7)+eq(n,601)+eq(n,801)+eq(n,1590)'"
usual("screen.webm", "-vf", FIVE, *LIVE_WEBM, "-c:a", "libopus", source=AT_1000)
usual("thousand.mkv", *H264, *AAC, source=AT_1000, max_fps=240)
usual("ntsc.mp4", *H264, *AAC, source={"rate": "30000/1001", "length_s": 1.6016}, length_s=1.6016)
usual("sixty.mkv", *H264, *AAC, source={"rate": "60000/1001"})
usual("fast120.mp4", *H264, *AAC, source={"rate": 120}, max_fps=120)
usual("slides.mp4", *H264, *AAC, source={"rate": "1/2", "length_s": 4}, length_s=4, flash_s=None)
# Between two pictures there are more seconds than a segment has.
usual(
    "talk.mkv", *H264, *AAC, source={"rate": "1/7", "length_s": 21}, length_s=21, flash_s=None, slack_s=0.12
)
usual(
    "dropped.mp4", *H264, *AAC, "-vf", "select='not(between(n,5,13)+between(n,24,30))'", "-fps_mode", "vfr"
)
usual("gap.mkv", *H264, *AAC, "-af", "aselect='not(between(t,0.2,0.5))'")


def _delays(studio: Studio) -> None:
    studio.run(*picture(rate=10, length_s=1), "-final_delay", "150")


add("delays.gif", _delays, length_s=2.4, sound=False)


def _still(sound_s: float) -> Make:
    def make(studio: Studio) -> None:
        studio.run(*picture(flash=0), "-frames:v", "1", *H264, to="one.mp4")
        if sound_s:
            studio.run(*tone(sound_s), *AAC, to="tone.m4a")
            studio.run("-i", "one.mp4", "-i", "tone.m4a", "-map", "0:v", "-map", "1:a", "-c", "copy")
        else:
            studio.run("-i", "one.mp4", "-c", "copy")

    return make


add("still.mp4", _still(0), length_s=None, sound=False, flash_s=None)
add("podcast.mp4", _still(2.2), length_s=2.2, flash_s=None)
for length in (0.04, 0.12, 0.4):
    usual(
        f"short{round(length * 1000)}.mp4",
        *H264,
        "-an",
        source={"length_s": length},
        length_s=length,
        sound=False,
        flash_s=None,
    )

# -- interlaced ----------------------------------------------------------------------------------------

FIELDS = (
    "drawbox=color=white:t=fill:enable='between(t,0.599,0.799)',tinterlace=mode=interleave_top,setfield=tff"
)
usual(
    "interlaced.mpg",
    *("-vf", FIELDS, "-c:v", "mpeg2video", "-flags", "+ilme+ildct", "-b:v", "3M", "-c:a", "mp2"),
    source={"rate": 50},
)
usual(
    "interlaced.mov",
    *(
        "-vf",
        FIELDS,
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-flags",
        "+ilme+ildct",
        "-x264-params",
        "tff=1",
        *AAC,
    ),
    source={"rate": 50},
)


def _partly_interlaced(studio: Studio) -> None:
    """Pictures first, then fields: what the first ones say is not true of the others."""
    studio.clip(*H264, *AAC, "-f", "mpegts", to="a.ts", flash=0.6, length_s=1.2)
    x264 = ("-c:v", "libx264", "-preset", "ultrafast", "-flags", "+ilme+ildct", "-x264-params", "tff=1")
    fields = ("-vf", "tinterlace=mode=interleave_top,setfield=tff", *x264, *AAC)
    late = ("-output_ts_offset", "1.2", "-f", "mpegts")
    studio.clip(*fields, *late, to="b.ts", rate=50, flash=9, length_s=2)
    studio.write(studio.part("a.ts") + studio.part("b.ts"))


add("partly.ts", _partly_interlaced, length_s=3.2, slack_s=0.12, logs="120 interlaced")

# -- colours -------------------------------------------------------------------------------------------


def _flat(color: str, *options: str, pix: str = "yuv420p") -> Make:
    """One colour, as its signal says; a tone as ever."""

    def make(studio: Studio) -> None:
        source = f"color=c={color}:size={WIDTH}x{HEIGHT}:rate={FPS}:duration={LENGTH_S},format={pix}"
        studio.run("-f", "lavfi", "-i", source, *tone(), *AAC, *options)

    return make


def _hdr(transfer: str, primaries: str, left: int, right: int) -> Make:
    """Two grey halves with these 10-bit signals."""

    def make(studio: Studio) -> None:
        source = f"nullsrc=size={WIDTH}x{HEIGHT}:rate=5:duration={LENGTH_S},format=yuv420p10le"
        halves = f"geq=lum='if(lt(X,{WIDTH // 2}),{left},{right})':cb=512:cr=512"
        matrix = "bt2020nc" if primaries == "bt2020" else "bt709"
        x265 = f"log-level=error:colorprim={primaries}:transfer={transfer}:colormatrix={matrix}"
        studio.run(
            *(
                "-f",
                "lavfi",
                "-i",
                f"{source},{halves}",
                *tone(),
                "-c:v",
                "libx265",
                "-preset",
                "ultrafast",
            ),
            *("-x265-params", x265, *AAC),
        )

    return make


NO_FLASH = {"flash_s": None}
# 10-bit signals of PQ: 203 nits (reference white) is 0.581, 26 nits 0.382; of HLG white is 0.75.
add(
    "hdr10.mp4",
    _hdr("smpte2084", "bt2020", 64 + round(876 * 0.382), 64 + round(876 * 0.581)),
    levels=(109, 212),
    **NO_FLASH,
)
add(
    "hlg.mp4",
    _hdr("arib-std-b67", "bt2020", 64 + round(876 * 0.38), 64 + round(876 * 0.75)),
    levels=(113, 212),
    **NO_FLASH,
)
add("wide.mp4", _hdr("bt2020-10", "bt2020", 64 + 219, 64 + 657), levels=(71, 180), **NO_FLASH)
add("p3.mp4", _hdr("bt709", "smpte432", 64 + 219, 64 + 657), levels=(71, 180), **NO_FLASH)
add(
    "full.mov",
    _flat("0xC03020", "-vf", "scale=out_range=full", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-q:v", "2"),
    corner=(192, 48, 32),
    **NO_FLASH,
)
add(
    "full264.mp4",
    _flat(
        "0x3060C0",
        "-vf",
        "scale=out_range=full:out_color_matrix=bt709,setparams=colorspace=bt709",
        *H264,
        "-pix_fmt",
        "yuvj420p",
    ),
    corner=(48, 96, 192),
    **NO_FLASH,
)
add(
    "sd.mpg",
    _flat("0xC03020", "-c:v", "mpeg2video", "-q:v", "2", "-c:a", "mp2"),
    corner=(192, 48, 32),
    **NO_FLASH,
)
add(
    "rgb.mkv",
    _flat("0x3060C0", "-c:v", "libx264rgb", "-qp", "0", pix="rgb24"),
    corner=(48, 96, 192),
    **NO_FLASH,
)
add("qtrle.mov", _flat("0xC03020@0.5", "-c:v", "qtrle", pix="argb"), corner=(96, 24, 16), **NO_FLASH)
add(
    "prores4444.mov",
    _flat("0xFF0000@0.0", "-c:v", "prores_ks", "-profile:v", "4", "-pix_fmt", "yuva444p10le", pix="rgba"),
    corner=(0, 0, 0),
    **NO_FLASH,
)
add(
    "alpha.webm",
    _flat("0xFF0000@0.0", "-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-c:a", "libopus", pix="yuva420p"),
    corner=(0, 0, 0),
    **NO_FLASH,
)
add("black.mp4", _flat("black", *H264, "-t", "0.04"), length_s=0.04, **NO_FLASH)
usual("ten.mp4", *H264, "-pix_fmt", "yuv420p10le", *AAC)
usual("444.mkv", *H264, "-pix_fmt", "yuv444p", *AAC)
usual("gray.mkv", "-c:v", "ffv1", "-pix_fmt", "gray", *AAC)

# -- headers that lie ----------------------------------------------------------------------------------


def _claims(ms: float) -> Make:
    """A Matroska file whose header says another length."""

    def make(studio: Studio) -> None:
        import struct

        studio.clip(*H264, *AAC, to="true.mkv")
        data = bytearray(studio.part("true.mkv"))
        at = data.index(b"\x44\x89\x88") + 3
        data[at : at + 8] = struct.pack(">d", ms)
        studio.write(bytes(data))

    return make


add("claims100h.mkv", _claims(360_000_000), warns="says that it lasts")
add("claims1s.mkv", _claims(1000))


def _joined(studio: Studio) -> None:
    studio.clip(*H264, *AAC, "-f", "mpegts", to="a.ts")
    studio.write(studio.part("a.ts") * 2)


add("joined.ts", _joined, length_s=2 * LENGTH_S, slack_s=0.15)


def _broadcast(first: tuple[str, ...], then: tuple[str, ...]) -> Make:
    """A recording in whose middle the sound changes, as where a film follows the advertisements."""

    def make(studio: Studio) -> None:
        late = ("-output_ts_offset", str(LENGTH_S))
        studio.clip(*H264, *first, "-f", "mpegts", to="a.ts")
        studio.clip(*H264, *then, "-f", "mpegts", *late, to="b.ts", flash=9)
        studio.write(studio.part("a.ts") + studio.part("b.ts"))

    return make


def _sound_changes(studio: Studio) -> None:
    """With timestamps that start anew, and frames of sound that do not end with the pictures."""
    studio.clip(*H264, *AAC, "-f", "mpegts", to="a.ts")
    studio.clip(*H264, *AAC, "-ac", "2", "-ar", "44100", "-f", "mpegts", to="b.ts", flash=9)
    studio.write(studio.part("a.ts") + studio.part("b.ts"))


add("stereolater.ts", _sound_changes, length_s=2 * LENGTH_S, slack_s=0.12)
AC3 = ("-c:a", "ac3", "-ac")
add("layout.ts", _broadcast((*AC3, "2"), (*AC3, "6")), length_s=2 * LENGTH_S, slack_s=0.12)
MP2 = ("-c:a", "mp2", "-ar")
add("soundrate.ts", _broadcast((*MP2, "48000"), (*MP2, "32000")), length_s=2 * LENGTH_S, slack_s=0.12)


def _twice(suffix: str) -> Make:
    """What `cat` makes of two recordings."""

    def make(studio: Studio) -> None:
        studio.clip(*H264, *AAC, to=f"a.{suffix}")
        studio.write(studio.part(f"a.{suffix}") * 2)

    return make


add("twice.mkv", _twice("mkv"), warns="start anew in the middle")
for container in ("mp4", "flv"):
    add(f"twice.{container}", _twice(container), warns="holds more than one recording")


def _long_pictures(studio: Studio) -> None:
    """A header says that each picture is shown for two seconds."""
    studio.clip(*H264, *AAC, to="true.mkv")
    before, mark, after = studio.part("true.mkv").partition(b"\x23\xe3\x83")
    size = after[0] & 0x7F
    studio.write(before + mark + after[:1] + (2**31).to_bytes(size, "big") + after[1 + size :])


add("longpictures.mkv", _long_pictures)
usual("late3600.ts", *H264, *AAC, "-output_ts_offset", "3600")
usual("from100.mkv", *H264, *AAC, "-output_ts_offset", "100", slack_s=0.06)
usual("wrap.ts", *H264, *AAC, "-output_ts_offset", str(2**33 / 90000 - 1.4 - 0.7))


def _flv_without(studio: Studio) -> None:
    studio.write(
        studio.run(
            *clip(),
            "-c:v",
            "flv",
            "-an",
            "-f",
            "flv",
            "-flvflags",
            "no_duration_filesize",
            "pipe:1",
            data=True,
        )
    )


add("unsized.flv", _flv_without, sound=False)

# -- damage --------------------------------------------------------------------------------------------


def _cut(options: tuple[str, ...], suffix: str, share: float) -> Make:
    def make(studio: Studio) -> None:
        studio.clip(*H264, *AAC, *options, to=f"whole.{suffix}", length_s=4)
        data = studio.part(f"whole.{suffix}")
        studio.write(data[: int(len(data) * share)])

    return make


def _nameless(studio: Studio) -> None:
    """A bit is wrong in what tells of the sound."""
    studio.clip(*H264, *AAC, to="whole.mp4")
    before, _, after = studio.part("whole.mp4").rpartition(b"mdia")
    studio.write(before + b"mdiq" + after)


add("nameless.mp4", _nameless, sound=False, warns="of one of its tracks nothing can be read")
CUT_OFF = {"length_s": None, "slack_s": 0.1, "warns": "cut off or damaged"}
FAST_START = ("-movflags", "+faststart")
add("half.mp4", _cut(FAST_START, "mp4", 0.5), **CUT_OFF)
add("half.mkv", _cut((), "mkv", 0.5), **CUT_OFF)
add("half.ts", _cut((), "ts", 0.5), length_s=None, slack_s=0.2, warns="cut off or damaged")
add("half.mpg", _cut(("-c:a", "mp2"), "mpg", 0.5), **{**CUT_OFF, "warns": "damaged"})
add("half.avi", _cut((), "avi", 0.5), **CUT_OFF)
add("half.wmv", _cut((), "wmv", 0.5), **CUT_OFF)


def _cut_sound(*options: str) -> Make:
    def make(studio: Studio) -> None:
        name = "whole" + studio.path.suffix
        studio.run("-f", "lavfi", "-i", "anoisesrc=duration=4:sample_rate=48000", *options, to=name)
        data = studio.part(name)
        studio.write(data[: len(data) // 2])

    return make


SOUND_CUT_OFF = {**ONLY_SOUND, "length_s": None, "flash_s": None, "slack_s": 0.1}
add("half.mp3", _cut_sound(), **SOUND_CUT_OFF, warns="cut off or damaged")
add("half.opus", _cut_sound(), **SOUND_CUT_OFF, warns="cut off or damaged")
add("half.w64", _cut_sound(), **SOUND_CUT_OFF, warns="cut off or damaged")
add("half.flac", _cut_sound(), **SOUND_CUT_OFF, warns="says that it lasts 4.00 s")
add("half.aiff", _cut_sound(), **SOUND_CUT_OFF, warns="says that it lasts 4.00 s")
add("tail.mp4", _cut(FAST_START, "mp4", 0.1), invalid="cut off or damaged")


def _damaged(seed: int) -> Make:
    def make(studio: Studio) -> None:
        studio.clip(*H264, *AAC, *FAST_START, to="whole.mp4", length_s=3)
        data = bytearray(studio.part("whole.mp4"))
        luck = random.Random(seed)
        for at in range(len(data) // 2, len(data) * 3 // 4):
            data[at] = luck.randrange(256)
        studio.write(bytes(data))

    return make


add("middle.mp4", _damaged(1), length_s=3, slack_s=0.1, warns="could not be decoded")

# -- tracks --------------------------------------------------------------------------------------------


def _art_first(studio: Studio) -> None:
    studio.run(*picture("300x300", flash=9), "-frames:v", "1", "-update", "1", to="art.jpg")
    studio.clip(*H264, *AAC, to="film.mp4")
    studio.run(
        *("-i", "art.jpg", "-i", "film.mp4", "-map", "0:v", "-map", "1:v", "-map", "1:a", "-c", "copy"),
        *("-disposition:v:0", "0"),
    )


add("artfirst.mov", _art_first, logs="left out of artfirst.mov: video track 0")


def _programs(studio: Studio) -> None:
    studio.run(
        *(*picture("64x48", flash=9), *tone(flash=9), *picture(), *tone()),
        *("-map", "0:v", "-map", "1:a", "-map", "2:v", "-map", "3:a", *H264, *AAC),
        *("-program", "st=0:st=1", "-program", "st=2:st=3", "-f", "mpegts"),
    )


add("programs.ts", _programs, logs="left out")


def _commentary(studio: Studio) -> None:
    studio.run(
        *(*picture(), *tone(flash=9), *tone(), "-map", "0", "-map", "1", "-map", "2", *H264, *AAC),
        *("-disposition:a:0", "comment", "-disposition:a:1", "default"),
    )


add("commentary.mkv", _commentary, logs="commentary")


def _second(*options: str) -> Make:
    """The second of two sounds is the one that is meant."""

    def make(studio: Studio) -> None:
        sounds = [*tone(flash=9), *tone()]
        studio.run(*picture(), *sounds, "-map", "0", "-map", "1", "-map", "2", *H264, *AAC, *options)

    return make


add("hearing.mkv", _second("-disposition:a:0", "hearing_impaired"), logs="left out")
add("effects.ts", _second("-disposition:a:0", "clean_effects"), logs="left out")
add("described.mkv", _second("-metadata:s:a:0", "title=English Audio Description"), logs="left out")
usual("muted.mkv", *H264, *AAC, "-af", "atrim=start=9", sound=False, logs="left out of muted.mkv: audio")


def _unknown(old: bytes, new: bytes, *sounds: list[str]) -> Make:
    """A clip of whose tracks one is of a kind that nobody knows."""

    def make(studio: Studio) -> None:
        inputs = [part for sound in sounds for part in sound]
        maps = [part for n in range(len(sounds) + 1) for part in ("-map", str(n))]
        studio.run(*picture(), *inputs, *maps, *H264, *AAC, to="known.mp4")
        data = studio.part("known.mp4")
        at = data.index(b"stsd", data.index(b"smhd") if old == b"mp4a" else 0)
        at = data.index(old, at)
        studio.write(data[:at] + new + data[at + 4 :].replace(b"esds", b"dapa", 1))

    return make


add(
    "apacfirst.mp4",
    _unknown(b"mp4a", b"apac", tone(flash=9), tone()),
    logs="left out of apacfirst.mp4: audio track 1",
)
add("apac.mp4", _unknown(b"mp4a", b"apac", tone()), warns="cannot be decoded", sound=False)
add("zzzz.mp4", _unknown(b"avc1", b"zzzz", tone()), invalid="cannot be decoded here", sound_is_fine=True)


def _subtitles(studio: Studio) -> None:
    (studio.directory / "s.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    (studio.directory / "m.txt").write_text(
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=800\ntitle=One\n"
    )
    studio.run(
        *clip(),
        "-i",
        "s.srt",
        "-i",
        "m.txt",
        "-map",
        "0",
        "-map",
        "1",
        "-map",
        "2",
        *H264,
        *AAC,
        "-map_metadata",
        "3",
    )


add(
    "subtitles.mkv",
    _subtitles,
    logs="left out of subtitles.mkv: subtitle track 2 (ass), 1 chapter marks",
)
usual("timecode.mov", *H264, *AAC, "-timecode", "01:00:00:00", logs="left out")
usual(
    "place.mp4",
    *H264,
    *AAC,
    "-metadata",
    "location=+48.8577+002.295/",
    "-metadata",
    "title=Home",
    "-movflags",
    "use_metadata_tags",
)
APPLE = "com.apple.quicktime."
usual(
    "phone.mov",
    *(*H264, *AAC, "-movflags", "use_metadata_tags", "-metadata", "title=Home"),
    *("-metadata", f"{APPLE}location.ISO6709=+48.8577+002.295/", "-metadata", f"{APPLE}model=Phone"),
    *("-metadata", "creation_time=2020-01-01T00:00:00Z"),
)
usual("soundlong.mp4", *H264, *AAC, source={"length_s": 1.0, "sound_s": 2.4}, length_s=2.4)
usual("soundlong.mkv", *H264, *AAC, source={"length_s": 1.0, "sound_s": 2.4}, length_s=2.4)
usual("soundlong.ts", *H264, *AAC, source={"length_s": 1.0, "sound_s": 2.4}, length_s=2.4)
usual("soundshort.mp4", *H264, *AAC, source={"length_s": 2.4, "sound_s": 1.0}, sound_s=1.0, length_s=2.4)


def _late(track: str, suffix: str) -> Make:
    """One of the two begins a second late."""

    def make(studio: Studio) -> None:
        late = ["-itsoffset", "1"]
        parts = [*picture(length_s=2, flash=0.2), *late, *tone(flash=-0.2 + 0.4)]
        if track == "v":
            parts = [*late, *picture(flash=0.2), *tone(2.6, flash=1.2)]
        else:
            parts = [*picture(length_s=2.6, flash=1.2), *late, *tone(flash=0.2)]
        studio.run(*parts, *H264, *AAC)

    return make


for suffix in ("mp4", "ts", "mkv"):
    add(
        f"latesound.{suffix}",
        _late("a", suffix),
        length_s=2.6,
        sound_s=1.6 if suffix == "ts" else None,
        flash_s=1.2,
        slack_s=0.06,
    )
    add(f"latepicture.{suffix}", _late("v", suffix), length_s=2.6, flash_s=1.2, slack_s=0.06)

# -- what is no video here -----------------------------------------------------------------------------


def _bytes(data: bytes) -> Make:
    return lambda studio: studio.write(data)


add("still.jpg", lambda s: s.run(*picture(), "-frames:v", "1", "-update", "1"), invalid="picture")
add(
    "still.bmp",
    lambda s: s.run(*picture(), "-frames:v", "1", "-update", "1"),
    invalid="it is a BMP picture",
)


def _photo(studio: Studio) -> None:
    """As a phone takes it."""
    studio.run(*picture(), "-frames:v", "1", "-c:v", "libsvtav1", to="a.avif")
    studio.write(studio.part("a.avif").replace(b"ftypavif", b"ftyp" + studio.path.suffix[1:].encode()))


add("photo.heic", _photo, invalid="it is a HEIC picture")
add("photo.avif", _photo, invalid="it is an AVIF picture")
add("wavpack.wv", lambda s: s.run(*tone()), invalid="it is WavPack sound")
add("sun.au", lambda s: s.run(*tone()), invalid="it is AU sound")
add("raw.h264", lambda s: s.run(*picture(), *H264), invalid="raw H.264")
add("text.mp4", _bytes(b"just text\n" * 50), invalid="not a video")
add("empty.mp4", _bytes(b""), invalid="it is empty")
add("raw.m2v", lambda s: s.run(*picture(), "-c:v", "mpeg2video"), invalid="raw MPEG video")
add("noise.mp4", _bytes(random.Random(7).randbytes(60_000)), invalid="not a video")
add(
    "list.mp4",
    _bytes(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\na.ts\n#EXT-X-ENDLIST\n"),
    invalid="it is a playlist",
)
usual(
    "snow.avi",
    *("-c:v", "snow", "-c:a", "pcm_s16le"),
    invalid="its format (snow) is not known",
    sound_is_fine=True,
)
usual("snow.mkv", "-c:v", "snow", source={"sound": False}, invalid="'snow', which is rare")


def _elsewhere(studio: Studio) -> None:
    """A table whose pictures and sounds lie behind the end of the file."""
    studio.clip(*H264, *AAC, to="whole.mp4")
    before, *tables = studio.part("whole.mp4").split(b"stco")
    for table in tables:
        count = int.from_bytes(table[4:8], "big")
        before += b"stco" + table[:8] + b"\x7f" * 4 * count + table[8 + 4 * count :]
    studio.write(before)


add("elsewhere.mp4", _elsewhere, invalid="0.00 s of 1.60 s are there")


def _crowded(studio: Studio) -> None:
    studio.run(*picture(), *tone(), "-map", "0", *("-map", "1") * 70, "-c:v", "mpeg4", "-c:a", "mp2")


for container in ("mov", "mkv", "ts"):
    add(f"crowded.{container}", _crowded, invalid="more than 64 tracks")


def _enormous(studio: Studio) -> None:
    """A header that asks for 65,535 x 65,535 pixels."""
    studio.run(*picture(rate=10), to="a.gif")
    studio.write(studio.part("a.gif")[:6] + b"\xff" * 4 + studio.part("a.gif")[10:])


add("enormous.gif", _enormous, invalid="larger than what can be handled", sound=False)


def _encrypted(studio: Studio) -> None:
    key = ("-encryption_key", "0f" * 16, "-encryption_kid", "1e" * 16)
    studio.clip(*H264, *AAC, "-encryption_scheme", "cenc-aes-ctr", *key)


add("encrypted.mp4", _encrypted, invalid="is encrypted (DRM)")


def _only_header(studio: Studio) -> None:
    studio.clip(*H264, *AAC, to="whole.mkv")
    studio.write(studio.part("whole.mkv")[:700])


add("header.mkv", _only_header, invalid="its end is missing")


def _no_moov(studio: Studio) -> None:
    studio.clip(*H264, *AAC, to="whole.mp4")
    studio.write(studio.part("whole.mp4")[:3000])


add("nomoov.mp4", _no_moov, invalid="its end is missing")


# -- making them ---------------------------------------------------------------------------------------


def directory() -> Path:
    """Where they are kept: another place for another version of these files."""
    makers = sorted(Path(__file__).parent.glob("*inputs.py"))
    version = hashlib.sha256(b"".join(file.read_bytes() for file in makers)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"headway-media-{os.getuid()}-{version}"


def made(wanted: Input) -> Path:
    """The file, made now unless it is there. Several processes may ask at once."""
    path = directory() / "inputs" / wanted.name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory()) as scratch:
            studio = Studio(Path(scratch), wanted.name)
            wanted.make(studio)
            studio.path.replace(path)
    return path
