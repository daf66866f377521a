"""Where files lie and what they are called; a disk without room; the part that was asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headway.sdk.stopping import InvalidInput, NoSpace
from tests.media.inputs import AAC, H264, INPUTS, Studio, made
from tests.media.looking import Result
from tests.media.picture_inputs import PICTURES
from tests.media.track_inputs import TRACKS
from tests.support.encode_bench import run_encode
from tests.support.small_disk import small_disk
from worker.media import hls, inspection
from worker.tasks import video_encode

INODES = 200
BY_NAME = {source.name: source for source in [*INPUTS, *PICTURES, *TRACKS]}


def put(directory: Path, source: str, name: str | None = None) -> str:
    """Put an input of the corpus below a DATA_DIR; returns the reference."""
    (directory / "in").mkdir(parents=True, exist_ok=True)
    shutil.copy(made(BY_NAME[source]), directory / "in" / (name or source))
    return f"file:in/{name or source}"


@pytest.fixture(name="small_disk")
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    with small_disk(tmp_path / "disk", f"size=1m,nr_inodes={INODES}") as directory:
        yield directory


def fill(directory: Path) -> None:
    """Leave no room where this directory is, neither for content nor for names."""
    with suppress(OSError), (directory / "filler").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    with suppress(OSError):
        for n in range(INODES):
            (directory / f"filler{n}").touch()


@pytest.mark.parametrize("preset", ["mp4", "webm", "hls"])
def test_a_full_disk_is_told_as_such_and_nothing_is_published(small_disk: Path, preset: str) -> None:
    came = run_encode(small_disk, input="sample:9", preset=preset, crf=0, height=360)
    assert isinstance(came.error, NoSpace)
    assert "the worker's disk is full" in str(came.error)
    assert came.files == {}
    assert not list((small_disk / "work").iterdir())


@pytest.mark.parametrize("preset", ["mp4", "hls"])
@pytest.mark.parametrize("room", [0, 4096])
def test_a_disk_that_is_full_when_the_poster_is_written_is_told_as_such(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, preset: str, room: int
) -> None:
    make_poster = video_encode.make_poster

    def on_a_full_disk(job: Any, *args: Any) -> Any:
        fill(job.workdir)
        if room:
            # For a name and for a part of the picture.
            (job.workdir / "filler0").unlink()
            os.truncate(job.workdir / "filler", (job.workdir / "filler").stat().st_size - room)
        return make_poster(job, *args)

    monkeypatch.setattr(video_encode, "make_poster", on_a_full_disk)
    came = run_encode(small_disk, input="sample:1", preset=preset, height=120)
    assert isinstance(came.error, NoSpace), came.error
    assert came.files == {}


def test_a_shape_that_makes_the_pictures_enormous_is_refused_before_they_are_made(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Studio(tmp_path / "in", "stretched.mp4").clip(*H264, *AAC, "-vf", "setsar=100", size="320x240")
    came = run_encode(tmp_path, input="file:in/stretched.mp4", preset="mp4")
    assert isinstance(came.error, InvalidInput), came.error or came.result
    assert "give a width or a height" in str(came.error)


@pytest.mark.long
@pytest.mark.parametrize("rendition", ["240p", "360p"])
@pytest.mark.parametrize("left", [0, 4096])
def test_a_disk_that_was_full_for_a_moment_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rendition: str, left: int
) -> None:
    """Of a segment in the middle there is a part or nothing, and ffmpeg has said nothing."""
    finish = hls.finish

    def after_a_moment(directory: Path, *args: Any, **kwargs: Any) -> Any:
        os.truncate(directory / rendition / "00001.ts", left)
        return finish(directory, *args, **kwargs)

    monkeypatch.setattr(hls, "finish", after_a_moment)
    came = run_encode(tmp_path, input="sample:9", preset="hls", height=360, poster=False)
    assert isinstance(came.error, NoSpace), came.error or came.result
    assert came.files == {}


@pytest.mark.parametrize("preset", ["mp4", "hls"])
@pytest.mark.parametrize(
    "name", ["d 50%d off", "-dir 'q' \"q\"", "ا\u200cب\u202f\u3000", "a:b,c;d[e]=f\\g", "a?b#c"]
)
def test_a_directory_and_a_file_may_have_any_name(tmp_path: Path, name: str, preset: str) -> None:
    reference = put(tmp_path / name, "h264.mp4", f"{name}.mp4")
    came = run_encode(tmp_path / name, input=reference, preset=preset)
    assert came.error is None
    assert not came.warnings
    assert came.result["duration_s"] == pytest.approx(1.6, abs=0.05)
    assert came.logs[0][1].startswith(f"{name}.mp4: ")


def test_names_are_shown_without_what_would_change_how_they_look(tmp_path: Path) -> None:
    reference = put(tmp_path, "h264.mp4", "a\u202eb\n\x1b[1m.mp4")
    came = run_encode(tmp_path, input=reference, preset="audio")
    assert came.logs[0][1].startswith("a\ufffdb\ufffd\ufffd[1m.mp4: ")


@pytest.mark.parametrize("preset", ["mp4", "webm", "hls", "audio"])
@pytest.mark.parametrize(
    "source", ["bframes.mp4", "h264.ts", "screen.webm", "live.mkv", "interlaced.mpg", "order264.avi"]
)
def test_the_part_that_was_asked_for_comes_out(tmp_path: Path, source: str, preset: str) -> None:
    came = run_encode(
        tmp_path, input=put(tmp_path, source), preset=preset, start_s=0.3, duration_s=0.9, poster=False
    )
    assert came.error is None
    assert came.result["duration_s"] == pytest.approx(0.9, abs=0.08)
    path = came.files[came.result["artifact"]]
    result = Result(path if preset != "hls" else path.parent / "120p" / "index.m3u8")
    assert result.tone_s == pytest.approx(0.3, abs=0.08)
    if preset != "audio":
        assert result.white_s == pytest.approx(result.tone_s, abs=0.06)


def test_the_picture_on_show_at_the_start_is_the_first(tmp_path: Path) -> None:
    """It may have begun long before, as a slide does."""
    came = run_encode(tmp_path, input=put(tmp_path, "slides.mp4"), preset="mp4", start_s=3, poster=False)
    assert came.error is None
    assert came.result["duration_s"] == pytest.approx(1, abs=0.1)
    assert Result(came.files["video.mp4"]).picture_s == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("preset", ["mp4", "hls", "audio"])
@pytest.mark.parametrize("source", ["earlytone.mp4", "earlytone.mkv"])
def test_the_sound_before_the_first_picture_is_there(tmp_path: Path, source: str, preset: str) -> None:
    came = run_encode(tmp_path, input=put(tmp_path, source), preset=preset, start_s=1, poster=False)
    assert came.error is None
    path = came.files[came.result["artifact"]]
    result = Result(path if preset != "hls" else path.parent / "120p" / "index.m3u8")
    assert result.tone_s == pytest.approx(0.2, abs=0.06)
    if preset != "audio":
        assert result.white_s == pytest.approx(1.6, abs=0.06)


@pytest.mark.parametrize(
    ("source", "preset", "start_s", "duration_s", "words"),
    [
        ("h264.mp4", "mp4", 1.5999, None, "shorter than 1 ms"),
        ("h264.mp4", "audio", 1, 0.0001, "shorter than 1 ms"),
        ("latesound.mp4", "audio", None, 0.5, "no sound in the part"),
    ],
)
def test_a_part_with_nothing_in_it_is_refused(
    tmp_path: Path, source: str, preset: str, start_s: float | None, duration_s: float | None, words: str
) -> None:
    reference = put(tmp_path, source)
    came = run_encode(tmp_path, input=reference, preset=preset, start_s=start_s, duration_s=duration_s)
    assert isinstance(came.error, InvalidInput), came.error
    assert words in str(came.error)


@pytest.mark.parametrize(
    ("source", "preset", "start_s", "words"),
    [
        ("h264.mp4", "mp4", 9, "past the end of h264.mp4, after 1.6"),
        ("live.mkv", "hls", 9, "past the end"),
        ("soundshort.mp4", "audio", 1.5, "past the end of soundshort.mp4, after 1.0"),
        ("soundlong.mp4", "mp4", 2.5, "past the end of soundlong.mp4, after 2.4"),
        ("recorder.webm", "audio", 100, "past the end"),
    ],
)
def test_a_start_past_the_end_is_refused(
    tmp_path: Path, source: str, preset: str, start_s: float, words: str
) -> None:
    came = run_encode(tmp_path, input=put(tmp_path, source), preset=preset, start_s=start_s)
    assert isinstance(came.error, InvalidInput)
    assert words in str(came.error)


@pytest.mark.parametrize("preset", ["mp4", "hls"])
@pytest.mark.parametrize("source", ["soundlong.mp4", "soundlong.mkv", "soundlong.ts"])
def test_after_the_last_picture_it_is_held(tmp_path: Path, source: str, preset: str) -> None:
    came = run_encode(tmp_path, input=put(tmp_path, source), preset=preset, start_s=1.5, poster=False)
    assert came.error is None
    assert came.result["warnings"] == []
    path = came.files[came.result["artifact"]]
    result = Result(path if preset != "hls" else path.parent / "120p" / "index.m3u8")
    assert result.picture_s == pytest.approx(0.9, abs=0.08)
    assert result.sound_s == pytest.approx(0.9, abs=0.08)
    assert result.changes <= 1, "it is one picture"


@pytest.mark.parametrize("preset", ["mp4", "hls"])
def test_a_part_without_sound_has_none_and_says_so(tmp_path: Path, preset: str) -> None:
    came = run_encode(tmp_path, input=put(tmp_path, "soundshort.mp4"), preset=preset, start_s=1.5)
    assert came.error is None
    assert came.result["audio_codec"] is None
    assert any("no sound in the part" in message for _, message in came.logs)
    if preset == "hls":
        assert "mp4a" not in came.files["hls/master.m3u8"].read_text()


@pytest.mark.parametrize("preset", ["mp4", "hls"])
def test_the_poster_is_no_black_picture_if_there_are_others(tmp_path: Path, preset: str) -> None:
    (tmp_path / "in").mkdir()
    studio = Studio(tmp_path / "in", "black.mp4")
    black = "drawbox=color=black:t=fill:enable='lt(t,6)'"
    studio.clip("-vf", black, *H264, "-an", length_s=7, flash=9)
    came = run_encode(tmp_path, input="file:in/black.mp4", preset=preset)
    assert came.error is None
    assert came.files["poster.jpg"].stat().st_size > 2000, "a black one has 341 bytes"


@pytest.mark.parametrize("preset", ["mp4", "hls"])
@pytest.mark.parametrize("source", ["hole.ts", "hole.mpg", "soundhole.ts", "holejumped.ts", "joined.ts"])
def test_a_pause_behind_what_was_scanned_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, preset: str
) -> None:
    monkeypatch.setattr(inspection, "scan", partial(inspection.scan, limit_s=0))
    came = run_encode(tmp_path, input=put(tmp_path, source), preset=preset, poster=False)
    assert came.error is None
    assert came.warnings == []
    path = came.files[came.result["artifact"]]
    result = Result(path if preset == "mp4" else path.parent / "120p" / "index.m3u8")
    expected = BY_NAME[source].expected
    # Without a scan there is no rate but the usual one.
    assert result.white_s == pytest.approx(expected.flash_s, abs=0.15)
    assert result.tone_s == pytest.approx(result.white_s, abs=0.1)
    if preset == "hls":
        named = [
            line for line in (path.parent / "120p/index.m3u8").read_text().splitlines() if ".ts" in line
        ]
        assert sorted(named) == sorted(file.name for file in (path.parent / "120p").glob("*.ts"))


@pytest.mark.parametrize(("preset", "profile"), [("mp4", "High"), ("hls", "High"), ("av1", "Main")])
def test_the_best_quality_is_what_players_know_and_better_than_the_usual(
    tmp_path: Path, preset: str, profile: str
) -> None:
    reference = put(tmp_path, "h264.mp4")
    best, usual = (
        run_encode(tmp_path, input=reference, preset=preset, crf=crf, poster=False) for crf in (0, None)
    )
    assert best.result["size"] > usual.result["size"] * 1.2
    path = best.files[best.result["artifact"]]
    result = Result(path if preset != "hls" else path.parent / "120p" / "index.m3u8")
    assert result.stream("video")["profile"] == profile


@pytest.mark.parametrize("preset", ["mp4", "webm", "audio"])
def test_metadata_is_kept_on_request(tmp_path: Path, preset: str) -> None:
    reference = put(tmp_path, "phone.mov")
    came = run_encode(tmp_path, input=reference, preset=preset, keep_metadata=True, poster=False)
    assert came.error is None
    told = {"title", "creation_time", "com.apple.quicktime.location.iso6709", "com.apple.quicktime.model"}
    assert told <= Result(came.files[came.result["artifact"]]).tags
