"""HLS: the renditions of a ladder, and the playlists that name them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from worker.media.command import Picture, even

MASTER = "master.m3u8"
SEGMENT_S = 4
LADDER = {240: 400, 360: 800, 480: 1400, 720: 2800, 1080: 5000, 1440: 9000, 2160: 16000}
"""Shorter sides of renditions, and the kbit/s they may take at most."""
MAX_RENDITIONS = 4
_NEAR = 1.2
"""A step this close below the largest rendition is not worth its bytes."""
_ROUNDING_S = 0.01
"""All renditions are made of the same pictures."""
_SPS = re.compile(rb"\x00\x00\x01[\x27\x47\x67](...)", re.DOTALL)


_TS_PACKET = 188
_NULL_PACKET = b"\x47\x1f\xff\x10".ljust(_TS_PACKET, b"\xff")
_SOUND_PID = 0x101
"""The muxer counts from 0x100, and the picture comes first."""
_FEWEST_PACKETS = 12
"""A segment of fewer is not recognized as a transport stream by ffmpeg and what is made of it."""


class BadPlaylist(ValueError):
    """What was written is not a stream that can be played."""


class Unwritten(BadPlaylist):
    """A segment was not written whole. ffmpeg does not say so, and goes on with the next one."""


@dataclass(frozen=True, slots=True)
class Rendition:
    width: int
    height: int

    @property
    def name(self) -> str:
        return f"{min(self.width, self.height)}p"

    @property
    def limit_kbits(self) -> int:
        side = min(self.width, self.height)
        return next((limit for step, limit in LADDER.items() if side <= step), max(LADDER.values()))


def ladder(width: int, height: int) -> list[Rendition]:
    """Return the renditions of a picture of this size, the smallest first: steps by the shorter side,
    and the size itself as the largest."""
    side = min(width, height)
    steps = [step for step in LADDER if step * _NEAR <= side][-(MAX_RENDITIONS - 1) :]
    smaller = [Rendition(even(width * step / side), even(height * step / side)) for step in steps]
    return [*smaller, Rendition(width, height)]


def graph(picture: Picture, renditions: Sequence[Rendition]) -> list[str]:
    """Return the arguments that make the pictures of all renditions from one decoding, and map them."""
    parts = "".join(f"[s{n}]" for n in range(len(renditions)))
    chains = [f"[0:{picture.video.index}]{picture.filters},split={len(renditions)}{parts}"]
    maps = []
    for n, rendition in enumerate(renditions):
        chains.append(f"[s{n}]scale={rendition.width}:{rendition.height}:flags=bicubic,setsar=1[v{n}]")
        maps += ["-map", f"[v{n}]"]
    return ["-filter_complex", ";".join(chains), *maps]


def arguments(renditions: Sequence[Rendition], *, sound: bool) -> list[str]:
    """Return the muxer's arguments; it writes below `hls/` in the directory where ffmpeg runs, since a
    pattern may not hold a directory's name that has a % in it."""
    streams = [f"v:{n},a:{n}" if sound else f"v:{n}" for n in range(len(renditions))]
    names = [
        f"{stream},name:{rendition.name}" for stream, rendition in zip(streams, renditions, strict=True)
    ]
    limits: list[str] = []
    for n, rendition in enumerate(renditions):
        limits += [
            f"-maxrate:v:{n}",
            f"{rendition.limit_kbits}k",
            f"-bufsize:v:{n}",
            f"{rendition.limit_kbits * 2}k",
        ]
    return [
        *limits,
        # Every rendition begins a segment at the same picture, so that a player can change between them.
        # Without B-frames, which some players take for a longer beginning.
        *("-bf", "0", "-force_key_frames", f"expr:gte(t,n_forced*{SEGMENT_S})", "-sc_threshold", "0"),
        *("-f", "hls", "-hls_time", str(SEGMENT_S), "-hls_playlist_type", "vod"),
        *("-hls_flags", "independent_segments", "-var_stream_map", " ".join(names)),
        *("-hls_segment_filename", "hls/%v/%05d.ts", "hls/%v/index.m3u8"),
    ]


# -- playlists -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Playlist:
    """A media playlist whose segments were looked at."""

    path: Path
    segments: tuple[Path, ...]
    lengths_s: tuple[float, ...]

    @property
    def duration_s(self) -> float:
        return round(sum(self.lengths_s), 3)

    @property
    def ends(self) -> list[Path]:
        """The first and the last segment, which may be one."""
        return list(dict.fromkeys((self.segments[0], self.segments[-1])))

    @property
    def bytes(self) -> int:
        return sum(segment.stat().st_size for segment in self.segments)

    @property
    def peak_bits(self) -> int:
        """Bits per second of the largest segment."""
        rates = zip(self.segments, self.lengths_s, strict=True)
        return max(round(path.stat().st_size * 8 / max(length, 0.04)) for path, length in rates)


def read_playlist(path: Path) -> Playlist:
    """Read a media playlist and look at each file that it names.

    Raises BadPlaylist if it is not complete, Unwritten if a segment is missing, empty or cut off.
    """
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, ValueError):
        raise BadPlaylist(f"{path.parent.name}/{path.name} is missing") from None
    if not lines or lines[0] != "#EXTM3U" or lines[-1] != "#EXT-X-ENDLIST":
        raise BadPlaylist(f"{path.parent.name}/{path.name} is not complete")
    lengths = [float(line[len("#EXTINF:") :].rstrip(",")) for line in lines if line.startswith("#EXTINF:")]
    segments = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not segments or len(segments) != len(lengths):
        raise BadPlaylist(f"{path.parent.name}/{path.name} names no segments")
    for segment in segments:
        size = segment.stat().st_size if segment.is_file() else 0
        if size == 0 or size % _TS_PACKET:
            raise Unwritten(f"{path.parent.name}/{segment.name} is missing, empty or cut off")
    return Playlist(path, tuple(segments), tuple(lengths))


def finish(
    directory: Path, renditions: Sequence[Rendition], fps: Fraction, *, sound: bool
) -> list[Playlist]:
    """Look at the playlists that ffmpeg wrote, mend them, and write the master that names them all. Returns
    them in the order of the renditions. Raises BadPlaylist."""
    playlists = []
    for rendition in renditions:
        path = directory / rendition.name / "index.m3u8"
        playlists.append(read_playlist(path))
        for segment in playlists[-1].segments:
            _fill(segment)
        text = path.read_text("ascii")
        # At least the longest segment, rounded; ffmpeg writes 0 for a short clip.
        target = max(1, round(max(playlists[-1].lengths_s)))
        text = re.sub(r"#EXT-X-TARGETDURATION:\d+", f"#EXT-X-TARGETDURATION:{target}", text)
        path.write_text(text, "ascii")
    lengths_s = [playlist.duration_s for playlist in playlists]
    if max(lengths_s) - min(lengths_s) > _ROUNDING_S:
        raise BadPlaylist(f"its renditions last {', '.join(f'{length:.2f} s' for length in lengths_s)}")
    (directory / MASTER).write_text(
        _master(list(zip(renditions, playlists, strict=True)), fps, sound), "ascii"
    )
    return playlists


def has_sound(segment: Path) -> bool:
    """Return whether there is sound in a segment of a stream with sound: it may have ended before."""
    data = segment.read_bytes()
    pids = zip(data[1::_TS_PACKET], data[2::_TS_PACKET], strict=True)
    return any((high & 0x1F) << 8 | low == _SOUND_PID for high, low in pids)


def _fill(segment: Path) -> None:
    """Append packets without meaning to a segment that is too small, as one black picture is."""
    lacking = _FEWEST_PACKETS - segment.stat().st_size // _TS_PACKET
    if lacking > 0:
        with segment.open("ab") as file:
            file.write(_NULL_PACKET * lacking)


def _master(renditions: Sequence[tuple[Rendition, Playlist]], fps: Fraction, sound: bool) -> str:
    """Return the master playlist, with what was measured of each rendition."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for rendition, playlist in renditions:
        average = round(playlist.bytes * 8 / max(playlist.duration_s, 0.04))
        codecs = [codec(playlist.segments[0].read_bytes()), *(["mp4a.40.2"] if sound else [])]
        lines.append(
            f"#EXT-X-STREAM-INF:BANDWIDTH={max(playlist.peak_bits, average)},AVERAGE-BANDWIDTH={average},"
            f"RESOLUTION={rendition.width}x{rendition.height},FRAME-RATE={float(fps):.3f},"
            f'CODECS="{",".join(codecs)}"'
        )
        lines.append(f"{rendition.name}/index.m3u8")
    return "\n".join(lines) + "\n"


def codec(segment: bytes) -> str:
    """Return the name of the H.264 profile and level (RFC 6381) in a segment. Raises BadPlaylist."""
    # Any amount of sound may come before the first picture.
    found = _SPS.search(segment)
    if found is None:
        raise BadPlaylist("the first segment has no picture")
    return f"avc1.{found[1].hex()}"
