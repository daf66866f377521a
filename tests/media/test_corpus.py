"""Every input of the corpus through every preset, and what comes out looked at."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headway.sdk import subprocesses
from headway.sdk.stopping import InvalidInput
from tests.media.change_inputs import CHANGES
from tests.media.inputs import INPUTS, PRESETS, Expected, Input, made
from tests.media.looking import Result, boxes
from tests.media.picture_inputs import PICTURES
from tests.media.track_inputs import TRACKS
from tests.support.encode_bench import Encoded, run_encode
from worker.media import inspection, rare

CODECS = {"mp4": "h264", "webm": "vp9", "av1": "av1", "hls": "h264"}

Measure = Callable[..., Any]
MEASURES: Sequence[str] = ("scan", "decode_first", "decode_later")
_measured: dict[str, Any] = {}


def _once(measure: Measure, job: Any, path: Path, *args: Any) -> Any:
    """What is measured of an input is the same for every preset."""
    key = f"{measure.__name__} {path.name} {args}"
    if key not in _measured:
        try:
            _measured[key] = measure(job, path, *args)
        except InvalidInput as refusal:
            _measured[key] = refusal
    if isinstance(_measured[key], InvalidInput):
        raise _measured[key]
    return _measured[key]


@pytest.fixture(autouse=True)
def _cheap(source: Input, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input is read and encoded in the sandbox once. In other presets, whose encoders other tests try
    there, ffmpeg starts without the launcher, which takes longer than most of these encodes."""
    monkeypatch.setattr(rare, "probe", partial(_once, rare.probe))
    for name in MEASURES:
        monkeypatch.setattr(inspection, name, partial(_once, getattr(inspection, name)))
    if preset != ("mp4" if source.expected.picture else "audio"):
        monkeypatch.setattr(subprocesses, "launch", lambda args, spec: args)


def encoded(tmp_path: Path, source: Input, preset: str) -> Encoded:
    (tmp_path / "in").mkdir()
    shutil.copy(made(source), tmp_path / "in")
    # The poster takes as long as the encode itself, and is the same for all.
    params = {"poster": preset == "mp4", **source.expected.params}
    return run_encode(tmp_path, input=f"file:in/{source.name}", preset=preset, **params)


def refused(came: Encoded, words: str, tmp_path: Path) -> None:
    assert isinstance(came.error, InvalidInput), came.error or came.result
    assert words in str(came.error)
    assert str(tmp_path) not in str(came.error)


def _cases() -> Iterator[Any]:
    """Each input with each preset; with one of them by itself, in turn."""
    for number, source in enumerate([*INPUTS, *CHANGES, *PICTURES, *TRACKS]):
        for turn, preset in enumerate(PRESETS):
            marks = [] if turn == number % len(PRESETS) else [pytest.mark.long]
            yield pytest.param(source, preset, marks=marks, id=f"{source.name}-{preset}")


@pytest.mark.parametrize(("source", "preset"), list(_cases()))
def test_what_comes_out_is_right(source: Input, preset: str, tmp_path: Path) -> None:
    expected = source.expected
    came = encoded(tmp_path, source, preset)
    if preset == "audio" and not expected.sound:
        refused(came, "", tmp_path)
        return
    if expected.invalid is not None and not (preset == "audio" and expected.sound_is_fine):
        refused(came, expected.invalid, tmp_path)
        return
    if preset != "audio" and not expected.picture:
        refused(came, "has no video", tmp_path)
        return
    assert came.error is None, came.error
    _says_what_is_missing(came, expected, preset)
    if preset == "hls":
        _is_playable(came)
    result = _result(came, preset)
    assert not result.tags
    _has_its_length(result, came, expected, preset)
    if preset != "audio":
        _has_the_picture(result, came, expected, preset)
    if preset in ("mp4", "audio"):
        assert boxes(result.path).index("moov") < boxes(result.path).index("mdat"), (
            "playable while it loads"
        )
    if preset == "mp4":
        assert came.files["poster.jpg"].read_bytes().startswith(b"\xff\xd8")


def slack_s(expected: Expected, preset: str) -> float:
    """In a transport stream the sound begins before the picture, with what its encoder starts up with."""
    return max(expected.slack_s, 0.08 if preset == "hls" else 0.06)


def _says_what_is_missing(came: Encoded, expected: Expected, preset: str) -> None:
    warnings = came.result["warnings"]
    if expected.warns is None:
        assert warnings == []
    elif preset != "audio" or not expected.picture:
        assert any(expected.warns in warning for warning in warnings), warnings
    assert set(warnings) <= set(came.warnings), "each is in the log too"
    if expected.logs is not None and preset != "audio":
        assert any(expected.logs in message for _, message in came.logs), came.logs


def _is_playable(came: Encoded) -> None:
    master = came.files["hls/master.m3u8"]
    lines = master.read_text().splitlines()
    named = [line for line in lines if line and not line.startswith("#")]
    assert len(named) == len(came.result["renditions"]) == sum("STREAM-INF" in line for line in lines)
    for name, rendition in zip(named, came.result["renditions"], strict=True):
        info = lines[lines.index(name) - 1]
        assert f"RESOLUTION={rendition['width']}x{rendition['height']}," in info
        assert re.search(r'CODECS="avc1\.[0-9a-f]{6}(,mp4a\.40\.2)?"', info)
        assert ("mp4a" in info) == (came.result["audio_codec"] is not None)
        text = (master.parent / name).read_text()
        assert text.endswith("#EXT-X-ENDLIST\n")
        lengths = [float(found) for found in re.findall(r"#EXTINF:([\d.]+)", text)]
        assert sum(lengths) == pytest.approx(came.result["duration_s"], abs=0.02)
        target = int(re.findall(r"TARGETDURATION:(\d+)", text)[0])
        assert target >= max(1, *map(round, lengths))
        for segment in (line for line in text.splitlines() if line and not line.startswith("#")):
            assert (master.parent / name).with_name(segment).stat().st_size > 0


def _result(came: Encoded, preset: str) -> Result:
    path = came.files[came.result["artifact"]]
    if preset == "hls":
        side = min(came.result["renditions"][-1].values())
        path = path.parent / f"{side}p" / "index.m3u8"
    return Result(path)


def _has_its_length(result: Result, came: Encoded, expected: Expected, preset: str) -> None:
    audio = result.stream("audio")
    assert came.result["audio_codec"] == audio.get("codec_name")
    if expected.sound:
        assert audio["codec_name"] == ("opus" if preset in ("webm", "av1") else "aac")
        assert audio["channels"] == 2
        if expected.flash_s is not None and preset != "av1":
            assert result.tone_s is not None, "it is heard"
        assert preset in ("webm", "av1") or audio["sample_rate"] in ("44100", "48000")
    else:
        assert not audio
    if expected.length_s is None:
        return
    length_s = expected.sound_s if preset == "audio" and expected.sound_s else expected.length_s
    wanted = pytest.approx(length_s, abs=slack_s(expected, preset))
    assert came.result["duration_s"] == wanted
    # What this ffmpeg cannot decode is measured by its packets alone.
    if preset != "av1":
        assert max(result.picture_s, result.sound_s) == wanted


def _has_the_picture(result: Result, came: Encoded, expected: Expected, preset: str) -> None:
    video = result.stream("video")
    assert video["codec_name"] == came.result["video_codec"] == CODECS[preset]
    assert (
        (video["width"], video["height"]) == expected.size == (came.result["width"], came.result["height"])
    )
    assert video.get("sample_aspect_ratio", "1:1") == "1:1"
    assert not any("rotation" in side for side in video.get("side_data_list", []))
    assert (video["pix_fmt"], video["color_range"]) == ("yuv420p", "tv")
    assert {video["color_space"], video["color_primaries"], video["color_transfer"]} == {"bt709"}
    assert len(result.probed["streams"]) == 1 + bool(came.result["audio_codec"])
    assert came.result["fps"] <= expected.max_fps
    if preset == "av1":
        return
    if expected.length_s is not None:
        assert result.picture_s == pytest.approx(expected.length_s, abs=slack_s(expected, preset)) or (
            expected.length_s > result.picture_s and preset != "hls" and not expected.sound
        )
    if expected.flash_s is not None:
        assert result.white_s == pytest.approx(expected.flash_s, abs=slack_s(expected, preset))
    if expected.sound and expected.picture and expected.flash_s is not None:
        assert result.tone_s == pytest.approx(result.white_s, abs=0.05), "in sync"
    if expected.corner is not None:
        assert result.pixel(0, 0) == pytest.approx(expected.corner, abs=12)
    if expected.bars_s is not None:
        assert result.pixel(0, 0, expected.bars_s) == pytest.approx((0, 0, 0), abs=30)
    if expected.levels is not None:
        assert not result.told_of_light
        grey = [(value - 16) * 255 / 219 for value in expected.levels]
        assert result.pixel(1, 4) == pytest.approx((grey[0],) * 3, abs=8)
        assert result.pixel(6, 4) == pytest.approx((grey[1],) * 3, abs=8)
