"""What is made of ffmpeg's and ffprobe's output."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.media import ffmpeg
from worker.media.ffmpeg import ProgressParser, Tick
from worker.media.said import Said, last_words

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
    assert last_words(said) == "line 6; line 7; line 8; moov atom not found"
    assert last_words([]) == "it said nothing"


def test_the_first_lines_are_kept_beside_the_last_ones() -> None:
    said = Said()
    for n in range(1000):
        said.add(f"[error] line {n}")
    assert (said.lines[0], said.lines[-1], said.complaints) == ("line 0", "line 999", 1000)
    assert len(said.lines) <= 40


def test_what_could_not_be_decoded_is_counted() -> None:
    said = Said()
    place = (
        "[{}ist#0:1/x @ 0x7f14] [dec:x @ 0x7f15] [error] Error submitting packet to decoder: Invalid data"
    )
    for kind in "vva":
        said.add(place.format(kind))
    said.add("[h264 @ 0x7f143c551c40] [error] Invalid NAL unit size (2154 > 1225).")
    assert (said.lost_pictures, said.lost_sounds, said.complaints) == (2, 1, 4)


def test_named_programs_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFMPEG", "/bin/sh")
    assert ffmpeg.locate("ffmpeg") == "/bin/sh"
    monkeypatch.setenv("FFMPEG", "/nowhere/ffmpeg")
    with pytest.raises(ffmpeg.FFmpegMissing, match="FFMPEG=/nowhere/ffmpeg"):
        ffmpeg.locate("ffmpeg")
