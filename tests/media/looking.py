"""Looking at results with ffprobe and ffmpeg alone: nothing of the worker's own measuring is believed."""

from __future__ import annotations

import itertools
import json
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from worker.media import ffmpeg

STEP_S = 0.01
SIDE = 8
RATE = 8000


@dataclass(frozen=True)
class Result:
    """A file or a media playlist, decoded: small pictures every 10 ms and the sound, both from zero."""

    path: Path

    @cached_property
    def probed(self) -> dict[str, Any]:
        # A picture that begins late is looked at too.
        show = ("-show_streams", "-show_format", "-of", "json", "-analyzeduration", "60M")
        out = subprocess.run(
            [ffmpeg.locate("ffprobe"), "-v", "error", *show, *ffmpeg.OURS, "-i", str(self.path)],
            capture_output=True,
            check=True,
        ).stdout
        return dict(json.loads(out))

    def stream(self, kind: str) -> dict[str, Any]:
        return next((s for s in self.probed["streams"] if s["codec_type"] == kind), {})

    @property
    def tags(self) -> set[str]:
        """Names of everything that the file tells beside its media, but for what every muxer writes."""
        places = [self.probed["format"], *self.probed["streams"]]
        names = {name.lower() for place in places for name in place.get("tags", {})}
        return names - {
            "major_brand",
            "minor_version",
            "compatible_brands",
            "encoder",
            "duration",
            "variant_bitrate",
            "language",
            "handler_name",
            "vendor_id",
        }

    @property
    def told_of_light(self) -> list[str]:
        """What the first picture says of the brightness that the whole has: HDR's metadata."""
        first = ("-select_streams", "v", "-read_intervals", "%+#1", "-show_frames", "-show_streams")
        out = subprocess.run(
            [ffmpeg.locate("ffprobe"), "-v", "error", *first, "-of", "json", *ffmpeg.OURS, str(self.path)],
            capture_output=True,
            check=True,
        ).stdout
        found = json.loads(out)
        sides = [
            side for part in found["frames"] + found["streams"] for side in part.get("side_data_list", [])
        ]
        names = [side["side_data_type"] for side in sides]
        return [name for name in names if "Mastering" in name or "light level" in name]

    @cached_property
    def _decoded(self) -> tuple[bytes, bytes]:
        """RGB pictures and 16-bit samples. Fails on any complaint."""
        with tempfile.TemporaryDirectory() as directory:
            pictures, samples = Path(directory, "v"), Path(directory, "a")
            scaled = f"fps=100:start_time=0,scale={SIDE}:{SIDE}:flags=area:in_color_matrix=bt709"
            args = ["-v", "error", *ffmpeg.OURS, "-i", str(self.path)]
            if self.stream("video"):
                args += [
                    "-map",
                    "0:v:0",
                    "-vf",
                    scaled,
                    "-pix_fmt",
                    "rgb24",
                    "-f",
                    "rawvideo",
                    str(pictures),
                ]
            if self.stream("audio"):
                args += [
                    "-map",
                    "0:a:0",
                    "-af",
                    "aresample=async=1:first_pts=0",
                    "-ac",
                    "1",
                    "-ar",
                    str(RATE),
                ]
                args += ["-f", "s16le", str(samples)]
            said = subprocess.run(
                [ffmpeg.locate("ffmpeg"), "-nostdin", *args], capture_output=True, check=False
            )
            assert said.returncode == 0, said.stderr.decode()
            assert said.stderr == b"", said.stderr.decode()
            return (
                pictures.read_bytes() if pictures.is_file() else b"",
                samples.read_bytes() if samples.is_file() else b"",
            )

    @property
    def picture_s(self) -> float:
        return len(self._decoded[0]) / (SIDE * SIDE * 3) * STEP_S

    @property
    def sound_s(self) -> float:
        return len(self._decoded[1]) / 2 / RATE

    @property
    def white_s(self) -> float | None:
        """When the picture first is white."""
        size = SIDE * SIDE * 3
        pictures = self._decoded[0]
        for n in range(len(pictures) // size):
            if sum(pictures[n * size : (n + 1) * size]) > 225 * size:
                return n * STEP_S
        return None

    @property
    def changes(self) -> int:
        """How often a picture differs from the one before."""
        size = SIDE * SIDE * 3
        pictures = self._decoded[0]
        shown = [pictures[at : at + size] for at in range(0, len(pictures), size)]
        return sum(a != b for a, b in itertools.pairwise(shown))

    @property
    def tone_s(self) -> float | None:
        """When the sound is first loud."""
        samples = memoryview(self._decoded[1]).cast("h")
        for n, sample in enumerate(samples):
            if abs(sample) > 3000:
                return n / RATE
        return None

    def pixel(self, x: int, y: int, at_s: float = 0.3) -> tuple[int, int, int]:
        size = SIDE * SIDE * 3
        pictures = self._decoded[0]
        n = min(round(at_s / STEP_S), len(pictures) // size - 1)
        start = n * size + (y * SIDE + x) * 3
        return pictures[start], pictures[start + 1], pictures[start + 2]


def boxes(path: Path) -> list[str]:
    """The names of an MP4's boxes, in order."""
    data = path.read_bytes()
    found, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 8].decode("latin-1"))
        at += size or len(data)
    return found
