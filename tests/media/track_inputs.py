"""More of the corpus: tracks that may not be decoded, that begin late, or that pause."""

from __future__ import annotations

import random
import struct
from typing import Any

from tests.media.inputs import (
    AAC,
    H264,
    HEIGHT,
    LENGTH_S,
    ONLY_SOUND,
    WIDTH,
    Expected,
    Input,
    Make,
    Studio,
    clip,
    picture,
    tone,
)

TRACKS: list[Input] = []


def add(name: str, make: Make, **expected: Any) -> None:
    TRACKS.append(Input(name, make, Expected(**expected)))


# -- what may not be decoded ---------------------------------------------------------------------------


def _sup() -> bytes:
    """Subtitles as on a Blu-ray, in the segments that they are made of: one that shows a box."""

    def segment(kind: int, data: bytes) -> bytes:
        return b"PG" + struct.pack(">IIBH", 9000, 0, kind, len(data)) + data

    box = (b"\1" * 8 + b"\0\0") * 2
    composition = struct.pack(">HHBHBBBB", WIDTH, HEIGHT, 0x10, 0, 0x80, 0, 0, 1)
    segments = [
        (0x16, composition + struct.pack(">HBBHH", 0, 0, 0, 10, 10)),
        (0x17, struct.pack(">BBHHHH", 1, 0, 10, 10, 8, 2)),
        (0x14, bytes([0, 0, 1, 235, 128, 128, 255])),
        (
            0x15,
            struct.pack(">HBB", 0, 0, 0xC0) + (len(box) + 4).to_bytes(3) + struct.pack(">HH", 8, 2) + box,
        ),
        (0x80, b""),
    ]
    return b"".join(segment(*part) for part in segments)


def _drawn(codec: str) -> Make:
    def make(studio: Studio) -> None:
        (studio.directory / "s.sup").write_bytes(_sup())
        maps = ("-map", "0", "-map", "1", "-map", "2")
        studio.run(*clip(), "-i", "s.sup", *maps, *H264, *AAC, "-c:s", codec)

    return make


add("drawn.mkv", _drawn("copy"), logs="left out of drawn.mkv: subtitle track 2 (hdmv_pgs_subtitle)")
add("drawn.ts", _drawn("dvbsub"), logs="left out of drawn.ts: subtitle track 2 (dvb_subtitle)")


def _beside(*options: str) -> Make:
    """Before the sound that is meant there is one whose decoder is not allowed."""

    def make(studio: Studio) -> None:
        sounds = [*tone(flash=9), *tone()]
        studio.run(*picture(), *sounds, "-map", "0", "-map", "1", "-map", "2", *H264, *options)

    return make


add(
    "rare.mkv",
    _beside("-c:a:0", "tta", "-c:a:1", "aac"),
    logs="audio track 1 (tta) of rare.mkv cannot be decoded",
)
add(
    "rare.ts",
    _beside("-c:a:0", "s302m", "-ac:a:0", "2", "-strict", "-2", "-c:a:1", "aac"),
    logs="audio track 1 (s302m) of rare.ts cannot be decoded",
    slack_s=0.06,
)
add(
    "onlyrare.mkv",
    lambda studio: studio.clip(*H264, "-c:a", "tta"),
    sound=False,
    warns="the sound of onlyrare.mkv cannot be decoded here",
)


def _bitmap(studio: Studio) -> None:
    studio.run(*picture(), "-frames:v", "1", "-update", "1", to="art.bmp")
    maps = ("-map", "0", "-map", "1", "-disposition:v", "attached_pic")
    studio.run(*tone(), "-i", "art.bmp", *maps, "-c:a", "libmp3lame", "-c:v", "bmp")


add("bitmap.mp3", _bitmap, **ONLY_SOUND, slack_s=0.06)

# -- what is broken beside what is taken ---------------------------------------------------------------


def _broken_third(*options: str, third: list[str]) -> Make:
    def make(studio: Studio) -> None:
        maps = ("-map", "0", "-map", "1", "-map", "2")
        studio.run(*picture(), *tone(), *third, *maps, *H264, *options, to="whole.ts")
        data = bytearray(studio.part("whole.ts"))
        luck = random.Random(2)
        for at in range(0, len(data), 188):
            if data[at + 1] == 1 and data[at + 2] == 2 and not data[at + 3] & 0x20:
                data[at + 60 : at + 188] = luck.randbytes(128)
        studio.write(bytes(data))

    return make


SMALL = picture("64x48", flash=9)
add("brokensound.ts", _broken_third("-c:a:0", "aac", "-c:a:1", "ac3", third=tone(flash=9)), logs="left out")
add("brokenpicture.ts", _broken_third(*AAC, third=SMALL), logs="left out of brokenpicture.ts: video")

# -- what begins late ----------------------------------------------------------------------------------

WHOLE = ("-max_interleave_delta", "0")
"""What comes late is written late."""


def _late(picture_s: float, sound_s: float, length_s: float) -> Make:
    """The picture and the sound begin at these times, and show the same 1.4 s before the end."""

    def make(studio: Studio) -> None:
        flash = length_s - 1.4
        seen = picture(length_s=length_s - picture_s, flash=flash - picture_s)
        heard = tone(length_s - sound_s, flash - sound_s)
        late = ("-itsoffset", str(picture_s)), ("-itsoffset", str(sound_s))
        studio.run(*late[0], *seen, *late[1], *heard, *H264, *AAC, *WHOLE)

    return make


LATE = {"length_s": 11, "flash_s": 9.6, "slack_s": 0.06}
add("latersound.ts", _late(0, 9, 11), **LATE, sound_s=2)
add("laterpicture.ts", _late(9, 0, 11), **LATE)


def _early_tone(studio: Studio) -> None:
    """The picture begins at 2 s and is white at 2.6 s; the tone is at 1.2 s."""
    studio.run("-itsoffset", "2", *picture(), *tone(3.6, flash=1.2), *H264, *AAC, *WHOLE)


for suffix in ("mp4", "mkv"):
    add(f"earlytone.{suffix}", _early_tone, length_s=3.6, flash_s=None)

add(
    "earlyend.mp4",
    lambda studio: studio.run(*picture(length_s=9), *tone(2, 0.6), *H264, *AAC, *WHOLE),
    length_s=9,
    sound_s=2,
)

# -- what pauses ---------------------------------------------------------------------------------------

PAUSE_S = 12
MPEG2 = ("-c:v", "mpeg2video", "-c:a", "mp2")


def _hole(*codecs: str, to: str | None = None) -> Make:
    """After one second there is no new picture for a while."""

    def make(studio: Studio) -> None:
        later = ("-vf", f"setpts='PTS+gte(N,25)*{PAUSE_S}/TB'", "-fps_mode", "vfr")
        parts = [*picture(length_s=2, flash=1.4), *tone(PAUSE_S + 2, flash=PAUSE_S + 1.4)]
        studio.run(*parts, *codecs, *later, *WHOLE, to=to)

    return make


def _sound_hole(studio: Studio) -> None:
    later = f",asetpts='PTS+gte(T,1)*{PAUSE_S}/TB'"
    parts = [*picture(length_s=PAUSE_S + 2, flash=PAUSE_S + 1.4, rate=5), *tone(2, 1.4, more=later)]
    studio.run(*parts, *H264, *AAC, *WHOLE)


HOLE = {"length_s": PAUSE_S + 2, "flash_s": PAUSE_S + 1.4}
add("hole.ts", _hole(*H264, *AAC), **HOLE)
add("hole.mpg", _hole(*MPEG2), **HOLE, slack_s=0.06)
add("soundhole.ts", _sound_hole, **HOLE, slack_s=0.14)
add(
    "slow.ts",
    lambda studio: studio.clip(*H264, *AAC, *WHOLE, rate=f"1/{PAUSE_S}", length_s=36, flash=24),
    length_s=36,
    flash_s=24,
    slack_s=0.14,
)


def _jumped(first: Make) -> Make:
    """Another recording follows, of a later hour."""

    def make(studio: Studio) -> None:
        first(studio)
        later = ("-f", "mpegts", "-output_ts_offset", "3600")
        studio.clip(*H264, *AAC, *later, to="b.ts", flash=9)
        studio.write(studio.part("a.ts") + studio.part("b.ts"))

    return make


add(
    "jumped.ts",
    _jumped(lambda studio: studio.clip(*H264, *AAC, to="a.ts")),
    length_s=2 * LENGTH_S,
    slack_s=0.15,
)
add(
    "holejumped.ts",
    _jumped(_hole(*H264, *AAC, to="a.ts")),
    **{**HOLE, "length_s": PAUSE_S + 2 + LENGTH_S},
    slack_s=0.15,
)

# -- what changes in the middle ------------------------------------------------------------------------


def _late_layout(studio: Studio) -> None:
    """A recording that begins within a broadcast, whose sound becomes surround sound."""
    sound = ("-c:a", "ac3", "-f", "mpegts", "-ac")
    late = ["-itsoffset", "0.3", *tone(LENGTH_S - 0.3, 0.3)]
    studio.run(*picture(), *late, *H264, *sound, "2", to="a.ts")
    studio.clip(*H264, *sound, "6", "-output_ts_offset", str(LENGTH_S), to="b.ts", flash=9)
    studio.write(studio.part("a.ts") + studio.part("b.ts"))


add("latelayout.ts", _late_layout, length_s=2 * LENGTH_S, sound_s=2 * LENGTH_S - 0.3, slack_s=0.14)


def _channels(studio: Studio) -> None:
    """As `ffmpeg -f concat -c copy` makes it: the header tells only of the first part."""
    studio.clip(*H264, *AAC, to="a.mkv")
    studio.clip(*H264, *AAC, "-ac", "2", to="b.mkv", flash=9)
    (studio.directory / "list.txt").write_text("file a.mkv\nfile b.mkv\n")
    studio.run("-f", "concat", "-i", "list.txt", "-c", "copy")


for container in ("mkv", "mp4"):
    add(f"channels.{container}", _channels, length_s=2 * LENGTH_S, slack_s=0.12)


def _after_another(suffix: str, first: tuple[str, ...], then: tuple[str, ...]) -> Make:
    def make(studio: Studio) -> None:
        studio.run(*tone(), *first, to=f"a.{suffix}")
        studio.run(*tone(flash=9), *then, to=f"b.{suffix}")
        studio.write(studio.part(f"a.{suffix}") + studio.part(f"b.{suffix}"))

    return make


OPUS = ("-c:a", "libopus", "-ac")
BOTH = {**ONLY_SOUND, "length_s": 2 * LENGTH_S, "slack_s": 0.1}
add("channels.ogg", _after_another("ogg", (*OPUS, "1"), (*OPUS, "2")), **BOTH)
add("codecs.ogg", _after_another("ogg", ("-c:a", "flac"), (*OPUS, "1")), **BOTH)
add("rates.ogg", _after_another("ogg", ("-c:a", "flac", "-ar", "44100"), ("-c:a", "flac")), **BOTH)
add("plain.aac", lambda studio: studio.run(*tone(), *AAC), **ONLY_SOUND, slack_s=0.06)
LATER_RATE = (*AAC, "-ar", "32000")
add("rates.aac", _after_another("aac", (*AAC, "-ar", "44100"), LATER_RATE), **BOTH)
FLAC = ("-c:a", "flac", "-ar")


def _album(studio: Studio) -> None:
    """Two files in one, of which the first has a cover."""
    studio.run(*picture(), "-frames:v", "1", "-update", "1", to="art.jpg")
    maps = ("-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic")
    studio.run(*tone(), "-i", "art.jpg", *maps, to="a.flac")
    studio.run(*tone(flash=9), *FLAC, "44100", to="b.flac")
    studio.write(studio.part("a.flac") + studio.part("b.flac"))


add("album.flac", _album, **BOTH)


def _overtaken(studio: Studio) -> None:
    """Two recordings, in whose second one two pictures come before the first sound: what was held back of
    the first one's sound comes in between."""
    for name, rate, flash in (("a", "48000", 0.6), ("b", "32000", 9.0)):
        studio.clip(*H264, "-c:a", "ac3", "-ar", rate, "-f", "mpegts", to=f"{name}.ts", flash=flash)
    studio.write(studio.part("a.ts") + studio.part("b.ts"))


add("overtaken.ts", _overtaken, length_s=2 * LENGTH_S, slack_s=0.12)
