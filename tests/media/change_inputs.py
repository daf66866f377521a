"""More of the corpus: files that go on as something else than they began."""

from __future__ import annotations

import random
import struct
from typing import Any

from tests.media.inputs import AAC, H264, LENGTH_S, ONLY_SOUND, Expected, Input, Make, Studio, tone

CHANGES: list[Input] = []
TS = ("-f", "mpegts")


def add(name: str, make: Make, **expected: Any) -> None:
    CHANGES.append(Input(name, make, Expected(**expected)))


def two(first: tuple[str, ...], then: tuple[str, ...], *, begins: Any = None, **goes_on: Any) -> Make:
    """Two transport streams in one file, made with these options."""

    def make(studio: Studio) -> None:
        late = ("-output_ts_offset", str((begins or {}).get("length_s", LENGTH_S)), *TS)
        studio.clip(*first, *TS, to="a.ts", **(begins or {}))
        studio.clip(*then, *late, to="b.ts", **{"flash": 9, **goes_on})
        studio.write(studio.part("a.ts") + studio.part("b.ts"))

    return make


# -- other tracks --------------------------------------------------------------------------------------

USUAL = (*H264, *AAC)
OTHER_PIDS = ("-mpegts_start_pid", "0x200", "-mpegts_pmt_start_pid", "0x1100")
add("pids.ts", two(USUAL, (*USUAL, *OTHER_PIDS)), warns="s in another track: video track")


def _long_second(studio: Studio) -> None:
    """The picture of the second part is the one that is taken, being larger."""
    studio.clip(*USUAL, *TS, to="a.ts", flash=9, size="80x60")
    late = ("-output_ts_offset", str(LENGTH_S), *OTHER_PIDS)
    studio.clip(*USUAL, *TS, *late, to="b.ts", flash=9)
    studio.write(studio.part("a.ts") + studio.part("b.ts"))


add(
    "pidslarger.ts",
    _long_second,
    **{"length_s": None, "flash_s": None, "slack_s": 0.1},
    warns="has another track up to",
)

# -- other formats -------------------------------------------------------------------------------------


def _joined(first: tuple[str, ...], then: tuple[str, ...], flash: float, late: float) -> Make:
    """What `cat` makes of two recordings of two devices."""

    def make(studio: Studio) -> None:
        studio.clip(*first, *TS, to="a.ts", flash=flash)
        studio.clip(*then, *TS, to="b.ts", flash=late)
        studio.write(studio.part("a.ts") + studio.part("b.ts"))

    return make


HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error", *AAC)
LONGEST = {"slack_s": 0.06}
add("hevclater.ts", _joined(USUAL, HEVC, 0.6, 9), **LONGEST, warns="(h264 to hevc): only the longest part")
add("hevcfirst.ts", _joined(HEVC, USUAL, 9, 0.6), **LONGEST, warns="(hevc to h264): only the longest part")
add(
    "mp2first.ts",
    _joined((*H264, "-c:a", "mp2"), USUAL, 0.6, 9),
    **LONGEST,
    warns="(mp2 to aac): only the longest part",
)

# -- other sizes and shapes ----------------------------------------------------------------------------

LONGER = {"length_s": 3.0}
SHORTER = {"length_s": 0.8}
LONG_ENOUGH = {"length_s": 3.8, "slack_s": 0.12}
add("wider.ts", two(USUAL, USUAL, begins=LONGER, size="320x120", **SHORTER), **LONG_ENOUGH, bars_s=3.5)
MP2 = (*H264, "-c:a", "mp2")
add(
    "samewidth.ts",
    two(MP2, (*MP2, "-vf", "setsar=2"), begins={**LONGER, "flash": 9}, size="80x120", flash=0.4, **SHORTER),
    **LONG_ENOUGH,
    flash_s=3.4,
)
add(
    "sar.ts",
    two(USUAL, (*USUAL, "-vf", "setsar=16/9"), begins=LONGER, **SHORTER),
    **LONG_ENOUGH,
    warns="change their shape",
)


def _call(first: dict[str, Any], then: dict[str, Any]) -> Make:
    """What a browser records of a call: the size changes without a word in the header."""

    def make(studio: Studio) -> None:
        vp8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus")
        studio.clip(*vp8, to="a.webm", **first)
        studio.clip(*vp8, to="b.webm", flash=9, **then)
        (studio.directory / "list.txt").write_text("file a.webm\nfile b.webm\n")
        studio.run("-f", "concat", "-i", "list.txt", "-c", "copy")

    return make


add("turning.webm", _call(LONGER, {**SHORTER, "size": "120x160"}), **LONG_ENOUGH, bars_s=3.5)
add("growing.webm", _call(SHORTER, {**LONGER, "size": "320x240"}), **LONG_ENOUGH, size=(320, 240))


def _fields_without_keys(studio: Studio) -> None:
    """Wherever a seek into the second part lands, there is no key picture any more."""
    studio.clip(*USUAL, *TS, to="a.ts", length_s=2.4)
    fields = ("-vf", "tinterlace=mode=interleave_top,setfield=tff", *H264, "-g", "250", *AAC)
    flags = ("-flags", "+ilme+ildct", "-x264-params", "tff=1", "-output_ts_offset", "2.4")
    studio.clip(*fields, *flags, *TS, to="b.ts", rate=50, flash=9, length_s=3)
    studio.write(studio.part("a.ts") + studio.part("b.ts"))


add("fewkeys.ts", _fields_without_keys, length_s=5.4, slack_s=0.12, logs="120 interlaced")

# -- scrambling ----------------------------------------------------------------------------------------


def _scrambled(share: float) -> Make:
    """A recording of pay television, from some place on without the card."""

    def make(studio: Studio) -> None:
        studio.clip(*USUAL, to="clear.ts")
        data = bytearray(studio.part("clear.ts"))
        luck = random.Random(3)
        for at in range(int(len(data) / 188 * share) * 188, len(data), 188):
            if int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF in (0x100, 0x101):
                payload = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
                data[at + 3] |= 0xC0
                data[payload : at + 188] = luck.randbytes(at + 188 - payload)
        studio.write(bytes(data))

    return make


add("scrambled.ts", _scrambled(0), invalid="is encrypted (DRM)")
add(
    "scrambledlate.ts",
    _scrambled(0.5),
    length_s=None,
    slack_s=0.4,
    warns="is scrambled (encrypted) in part",
)


def _still_flagged(studio: Studio) -> None:
    """As some programs leave it that decrypt: the payload is clear."""
    studio.clip(*USUAL, to="clear.ts")
    data = bytearray(studio.part("clear.ts"))
    for at in range(0, len(data), 188):
        data[at + 3] |= 0x80 if data[at + 1] & 0x1F == 1 else 0
    studio.write(bytes(data))


add("flagged.ts", _still_flagged)

# -- another file --------------------------------------------------------------------------------------


def _wmv_twice(studio: Studio) -> None:
    studio.clip("-c:v", "wmv2", "-c:a", "wmav2", to="a.wmv")
    studio.write(studio.part("a.wmv") * 2)


add("twice.wmv", _wmv_twice, slack_s=0.1, warns="holds more than one recording")


def _ivf_twice(studio: Studio) -> None:
    """What ffmpeg takes the second header for has a time in 4 billion years."""
    studio.clip("-c:v", "libvpx", "-deadline", "realtime", sound=False, to="a.ivf")
    studio.write(studio.part("a.ivf") * 2)


add("twice.ivf", _ivf_twice, sound=False, warns="is cut off or damaged: 1.60 s are there")


def _sound_twice(studio: Studio) -> None:
    name = f"a{studio.path.suffix}"
    studio.run(*tone(), to=name)
    studio.write(studio.part(name) * 2)


for suffix in ("wav", "w64", "aiff", "caf"):
    add(f"twice.{suffix}", _sound_twice, **ONLY_SOUND, warns="holds more than one recording")

# -- what looks like a loss and is none ----------------------------------------------------------------


def _led(studio: Studio) -> None:
    """As a recorder cuts a transport stream: not between packets."""
    studio.clip(*USUAL, to="a.ts")
    studio.write(b"the end of a packet" + studio.part("a.ts"))


add("led.ts", _led)


def _fragments_with_headers(studio: Studio) -> None:
    """As what a browser is fed with may be kept: the header again before every fragment."""
    flags = ("-movflags", "frag_keyframe+empty_moov+default_base_moof", "-frag_duration", "400000")
    studio.clip(*USUAL, *flags, to="a.mp4")
    data = studio.part("a.mp4")
    first = data.index(b"moof") - 4
    second = data.index(b"moof", first + 8) - 4
    studio.write(data[:second] + data[:first] + data[second:])


add("headers.mp4", _fragments_with_headers)


def _cut_without_encoding(studio: Studio) -> None:
    """From where there is no key picture: those before it are in the file, and a table says from when on it
    is to be shown."""
    studio.clip(*H264, "-g", "1000", *AAC, to="a.mp4", length_s=LENGTH_S + 1, flash=1.6)
    studio.run("-ss", "1", "-i", "a.mp4", "-c", "copy")


add("editlist.mp4", _cut_without_encoding, slack_s=0.06)


def _with_parts(boxes: bytes, shown: list[tuple[int, int]]) -> bytes:
    """The boxes with a table, in each track, that these parts are to be shown: milliseconds."""
    found, at = b"", 0
    while at < len(boxes):
        length, kind = int.from_bytes(boxes[at : at + 4], "big"), boxes[at + 4 : at + 8]
        content = boxes[at + 8 : at + length]
        if kind in (b"moov", b"trak"):
            content = _with_parts(content, shown)
        if kind == b"trak":
            clock = int.from_bytes(content.partition(b"mdhd")[2][12:16], "big")
            rows = [struct.pack(">IiI", b - a, a * clock // 1000, 1 << 16) for a, b in shown]
            table = struct.pack(">II", 0, len(rows)) + b"".join(rows)
            content = content.replace(b"edts", b"free") + _box(b"edts", _box(b"elst", table))
        found += _box(kind, content)
        at += length
    return found


def _box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + kind + content


def _shortened(studio: Studio) -> None:
    """As QuickTime removes a part in the middle: it is still in the file, but not to be shown."""
    studio.clip(*H264, *AAC, "-movie_timescale", "1000", to="a.mp4", length_s=2, flash=1.6)
    data = studio.part("a.mp4")
    tables = data.rindex(b"moov") - 4
    studio.write(data[:tables] + _with_parts(data[tables:], [(0, 1000), (1400, 2000)]))


add("shortened.mp4", _shortened, flash_s=1.2)
add("disc.m2ts", lambda s: s.clip(*H264, "-c:a", "ac3", "-mpegts_m2ts_mode", "1", *TS))


def _counted_in(studio: Studio) -> None:
    """Its header says the size of the file, where that of the rest is meant."""
    studio.run(*tone(), to="a.wav")
    data = studio.part("a.wav")
    studio.write(data[:4] + len(data).to_bytes(4, "little") + data[8:])


add("countedin.wav", _counted_in, **ONLY_SOUND)


def _mp3(what: str) -> Make:
    def make(studio: Studio) -> None:
        studio.run(*tone(), "-c:a", "libmp3lame", to="a.mp3")
        data = studio.part("a.mp3")
        studio.write(data + (bytes(5000) if what == "padded" else data))

    return make


add("padded.mp3", _mp3("padded"), **ONLY_SOUND)
add("twice.mp3", _mp3("twice"), **ONLY_SOUND, length_s=2 * LENGTH_S, slack_s=0.1)
add("wavpack.mka", lambda s: s.run(*tone(), "-c:a", "wavpack"), **ONLY_SOUND)
