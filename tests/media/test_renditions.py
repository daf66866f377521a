"""Every rendition of an HLS ladder is looked at, also the smaller ones."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.media.inputs import made
from tests.media.track_inputs import TRACKS
from tests.support.encode_bench import run_encode
from worker.media import ffmpeg, hls
from worker.media.verify import ResultUnfit

pytestmark = pytest.mark.long

PACKET = 188


def _remuxed(rendition: Path, *options: str) -> None:
    for segment in sorted(rendition.glob("*.ts")):
        copy = segment.with_suffix(".new")
        args = ["-v", "error", "-copyts", "-i", segment, *options, "-c", "copy", "-f", "mpegts", copy]
        subprocess.run([ffmpeg.locate("ffmpeg"), "-nostdin", *args], check=True)
        copy.replace(segment)


def _torn(rendition: Path) -> None:
    """Between two packets, so that its size tells nothing."""
    middle = rendition / "00001.ts"
    os.truncate(middle, middle.stat().st_size // PACKET // 2 * PACKET)


def _emptied(rendition: Path) -> None:
    middle = rendition / "00001.ts"
    size = middle.stat().st_size
    with middle.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\0" * (size // 4))


def _silent(rendition: Path) -> None:
    _remuxed(rendition, "-map", "0:v")


def _unseen(rendition: Path) -> None:
    _remuxed(rendition, "-map", "0:a")


def _shorter(rendition: Path) -> None:
    playlist = rendition / "index.m3u8"
    lines = playlist.read_text().splitlines()
    at = lines.index("00002.ts")
    playlist.write_text("\n".join([*lines[: at - 1], *lines[at + 1 :]]) + "\n")


def _exchanged(rendition: Path) -> None:
    """With the pictures of the other one."""
    other = "240p" if rendition.name == "360p" else "360p"
    for segment in rendition.glob("*.ts"):
        segment.write_bytes((rendition.with_name(other) / segment.name).read_bytes())


@pytest.mark.parametrize("rendition", ["240p", "360p"])
@pytest.mark.parametrize("hurt", [_torn, _emptied, _silent, _unseen, _shorter, _exchanged])
def test_a_rendition_that_is_not_what_it_should_be_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hurt: Callable[[Path], None], rendition: str
) -> None:
    finish = hls.finish

    def damaged(directory: Path, *args: Any, **kwargs: Any) -> Any:
        hurt(directory / rendition)
        return finish(directory, *args, **kwargs)

    monkeypatch.setattr(hls, "finish", damaged)
    came = run_encode(tmp_path, input="sample:11", preset="hls", height=360, poster=False)
    assert isinstance(came.error, ResultUnfit), came.error or came.result
    assert came.files == {}


def test_a_segment_behind_the_end_of_the_sound_is_looked_at_without_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With several inputs, an ffmpeg that fails may hang."""
    run, failures = ffmpeg.run, []

    def watched(*args: Any, **kwargs: Any) -> Any:
        try:
            yield from run(*args, **kwargs)
        except ffmpeg.FFmpegFailed as failure:
            failures.append(failure)
            raise

    monkeypatch.setattr(ffmpeg, "run", watched)
    source = next(source for source in TRACKS if source.name == "earlyend.mp4")
    (tmp_path / "in").mkdir()
    shutil.copy(made(source), tmp_path / "in")
    came = run_encode(tmp_path, input="file:in/earlyend.mp4", preset="hls", poster=False)
    assert came.error is None
    assert failures == []
