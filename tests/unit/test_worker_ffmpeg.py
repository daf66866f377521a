"""What is made of ffmpeg's and ffprobe's output."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.sdk.stopping import InvalidInput
from worker.media import ffmpeg
from worker.media.ffmpeg import ProgressParser, Tick

BLOCK = b"""frame=300
fps=113.21
stream_0_0_q=-1.0
bitrate=2775.1kbits/s
total_size=3445756
out_time_us=9933333
out_time_ms=9933333
out_time=00:00:09.933333
dup_frames=0
drop_frames=0
speed=3.75x
progress=end
"""
EMPTY = b"""frame=0
fps=0.00
bitrate=N/A
total_size=N/A
out_time_us=-9223372036854775807
out_time=-2562047788:00:54.775807
speed=N/A
progress=continue
"""
END = Tick(300, 113.21, 9.933333, 3445756, 2775100.0, 3.75, True)
NOTHING = Tick(0, 0.0)


def test_a_block_becomes_a_tick() -> None:
    assert ProgressParser().feed(BLOCK) == [END]


def test_what_ffmpeg_does_not_know_is_none() -> None:
    assert ProgressParser().feed(EMPTY) == [NOTHING]
    assert ProgressParser().feed(b"frame=nan\nspeed=infx\nprogress=continue\n") == [Tick()]


@given(st.lists(st.integers(0, len(EMPTY + BLOCK)), max_size=20))
def test_pieces_may_be_cut_anywhere(cuts: list[int]) -> None:
    whole = EMPTY + BLOCK
    parser = ProgressParser()
    edges = [0, *sorted(cuts), len(whole)]
    ticks = [t for a, b in pairwise(edges) for t in parser.feed(whole[a:b])]
    assert ticks == [NOTHING, END]


@given(st.binary())
def test_garbage_raises_nothing_and_does_not_hide_what_follows(garbage: bytes) -> None:
    parser = ProgressParser()
    parser.feed(garbage)
    parser.feed(b"\nprogress=continue\n")
    assert parser.feed(BLOCK) == [END]


def test_of_duplicates_the_last_counts_and_other_lines_are_passed_over() -> None:
    ticks = ProgressParser().feed(b"frame=1\nwhat\n\r\n=\nframe=2\r\nprogress=continue\n")
    assert ticks == [Tick(frame=2)]


def test_an_endless_line_is_not_kept() -> None:
    parser = ProgressParser()
    for _ in range(100):
        parser.feed(b"x" * 10_000)
    assert len(parser._rest) <= 65_536


def test_last_words_are_few_and_without_addresses() -> None:
    said = [f"line {n}" for n in range(9)]
    said += ["[mov,mp4 @ 0x7fd89d8aa040] moov atom not found", "[in#0 @ 0x7f] moov atom not found"]
    assert ffmpeg.last_words(said) == "line 6; line 7; line 8; moov atom not found"
    assert ffmpeg.last_words([]) == "it said nothing"


def video(**fields: Any) -> dict[str, Any]:
    return {"index": 0, "codec_type": "video", "codec_name": "h264", "width": 640, "height": 480, **fields}


def test_a_picture_is_measured_as_it_is_shown() -> None:
    for fields, size in (
        ({}, (640, 480)),
        ({"sample_aspect_ratio": "4:3"}, (853, 480)),
        ({"sample_aspect_ratio": "0:1"}, (640, 480)),
        ({"side_data_list": [{"side_data_type": "ICC"}, {"rotation": -90}]}, (480, 640)),
        ({"tags": {"rotate": "180"}}, (640, 480)),
        ({"tags": {"rotate": "270"}}, (480, 640)),
    ):
        found = ffmpeg.media({"streams": [video(**fields)]}).video
        assert found is not None
        assert (found.width, found.height) == size


def test_rates_and_durations_that_say_nothing_are_none() -> None:
    found = ffmpeg.media(
        {"format": {"duration": "N/A"}, "streams": [video(avg_frame_rate="0/0", r_frame_rate="0/0")]}
    )
    assert found.duration_s is None
    assert found.video is not None
    assert found.video.fps is None
    found = ffmpeg.media({"streams": [video(avg_frame_rate="30000/1001", duration="2.5", nb_frames="75")]})
    assert found.duration_s == 2.5
    assert found.video is not None
    assert found.video.fps == pytest.approx(float(Fraction(30000, 1001)), abs=0.001)
    assert found.video.frames == 75


def test_a_picture_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(InvalidInput, match="too large"):
        ffmpeg.media({"streams": [video(width=100_000, height=100_000)]})


def test_named_programs_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFMPEG", "/bin/sh")
    assert ffmpeg.locate("ffmpeg") == "/bin/sh"
    monkeypatch.setenv("FFMPEG", "/nowhere/ffmpeg")
    with pytest.raises(ffmpeg.FFmpegMissing, match="FFMPEG=/nowhere/ffmpeg"):
        ffmpeg.locate("ffmpeg")
