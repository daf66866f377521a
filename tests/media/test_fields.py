"""Pictures that are made of two halves, or are not, whatever their stream says (worker/media/fields.py)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from headway.sdk.job import Job
from tests.media.inputs import H264
from tests.support.encode_bench import Encoded, run_encode
from worker.media import ffmpeg
from worker.media.fields import COLUMNS, Seen, judge, see
from worker.media.probe import Shape, Video
from worker.media.source import Source

MOVING = (
    "mandelbrot=size=640x360:start_scale=0.5,trim=end_frame=1,loop=loop=-1:size=1,fps={0},"
    "setpts=N/{0}/TB,trim=end=2.4,crop=320:240:mod(4*n\\,300):60"
)
HALVES = MOVING.replace("{0}", "50") + ",tinterlace=mode=interleave_{},setfield={}"


def run(*args: str) -> str:
    """Run ffmpeg; returns what it says."""
    command = [ffmpeg.locate("ffmpeg"), "-nostdin", "-hide_banner", "-y", *args]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def encoded(directory: Path, pictures: str, *options: str) -> tuple[Path, Encoded]:
    (directory / "in").mkdir()
    source = directory / "in" / "x.mp4"
    run("-f", "lavfi", "-i", pictures, *H264, "-g", "10", *options, str(source))
    return source, run_encode(directory, input="file:in/x.mp4", poster=False, crf=10)


def whole(path: Path) -> tuple[int, int]:
    """How many pictures idet takes for whole ones and for halves."""
    said = run("-i", str(path), "-vf", "idet", "-f", "null", "-")
    found = re.findall(r"Multi frame detection: TFF: *(\d+) BFF: *(\d+) Progressive: *(\d+)", said)[-1]
    return int(found[2]), int(found[0]) + int(found[1])


@pytest.mark.parametrize("first", ["top", "bottom"])
def test_halves_are_put_together_though_the_stream_calls_them_whole(tmp_path: Path, first: str) -> None:
    source, came = encoded(tmp_path, HALVES.format(first, "prog"))
    assert whole(source)[1] > 50
    assert came.error is None
    assert "320x240 interlaced" in came.logs[0][1]
    pictures, halves = whole(came.files["video.mp4"])
    assert pictures > 5 * halves


def test_whole_pictures_stay_sharp_though_the_stream_calls_them_halves(tmp_path: Path) -> None:
    flags = ("-flags", "+ilme+ildct", "-x264-params", "tff=1")
    source, came = encoded(tmp_path, MOVING.format(25) + ",setfield=tff", *flags)
    assert came.error is None
    assert "320x240 25 fps" in came.logs[0][1]
    said = run("-i", str(source), "-i", str(came.files["video.mp4"]), "-lavfi", "psnr", "-f", "null", "-")
    assert float(re.findall(r"average:([\d.]+)", said)[0]) > 33, "it is 24 where lines are made up"


@pytest.mark.parametrize(
    "told",
    [
        {"rotation": 90},
        {"crop": (0, 8)},
        {"shape": Shape(320, 200)},
        {"shape": Shape(3840, 2160)},
        {"fps": 50.0},
    ],
    ids=str,
)
def test_pictures_whose_lines_tell_nothing_are_not_looked_at(told: dict[str, Any]) -> None:
    video = Video(0, "video", "h264", **{"shape": Shape(720, 576), "fps": 25.0, **told})
    assert see(cast(Job[Any], None), Source("x", None), video, [0.0]) is video


def bars(height: int, at: list[tuple[int, int]]) -> list[bytes]:
    """Pictures of a white bar that is at one place in the even lines and at another in the odd ones."""

    def line(x: int) -> bytes:
        return bytes(255 if 0 <= column - x < 4 else 0 for column in range(COLUMNS))

    return [b"".join((line(even), line(odd))[y & 1] for y in range(height)) for even, odd in at]


@pytest.mark.parametrize(
    ("halves", "seen"),
    [
        ([(n, n) for n in range(12)], Seen(whole=10)),
        ([(2 * n, 2 * n + 1) for n in range(10)], Seen(top_first=8)),
        ([(2 * n + 1, 2 * n) for n in range(10)], Seen(bottom_first=8)),
        ([(3, 3)] * 10, Seen()),
    ],
    ids=["whole", "top first", "bottom first", "still"],
)
def test_moving_pictures_tell_what_they_are_made_of(halves: list[tuple[int, int]], seen: Seen) -> None:
    assert judge([bars(48, halves)], 48) == seen


@pytest.mark.parametrize(
    ("seen", "combed", "all_whole"),
    [
        (Seen(top_first=24), "tff", False),
        (Seen(bottom_first=9, whole=15), "bff", False),
        (Seen(top_first=2, whole=22), "", False),
        (Seen(top_first=3), "", False),
        (Seen(top_first=12, bottom_first=12), "", False),
        (Seen(whole=24), "", True),
        (Seen(whole=5), "", False),
    ],
)
def test_they_are_taken_for_what_most_of_them_are(seen: Seen, combed: str, all_whole: bool) -> None:
    assert (seen.combed, seen.all_whole) == (combed, all_whole)
