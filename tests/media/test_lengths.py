"""Files that are too large to be read for their timestamps, of which the header alone tells the length."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from headway.sdk.meter import Stage
from tests.media.inputs import Studio
from tests.media.lies import FLASH_S, LENGTH_S, LIARS, LIES, has_picture, lie
from tests.media.looking import Result
from tests.support.encode_bench import run_encode
from worker.media import inspection
from worker.media.ffmpeg import Tick
from worker.media.timeline import scan
from worker.media.yardstick import Yardstick

pytestmark = pytest.mark.long


@pytest.mark.parametrize("claim", LIES)
@pytest.mark.parametrize("name", LIARS)
def test_a_length_that_cannot_be_measured_is_not_believed(
    name: str, claim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[tuple[float, float | None]] = []
    note = Yardstick.note

    def noting(self: Yardstick, stage: Stage, tick: Tick) -> None:
        note(self, stage, tick)
        noted.append((stage.current, stage.total))

    monkeypatch.setattr(Yardstick, "note", noting)
    monkeypatch.setattr(inspection, "scan", partial(scan, limit_s=0))
    (tmp_path / "in").mkdir()
    studio = Studio(tmp_path / "in", name)
    lie(studio, LIES[claim])
    preset = "mp4" if has_picture(name) else "audio"
    came = run_encode(tmp_path, input=f"file:in/{name}", preset=preset, poster=False)
    assert came.error is None
    result = Result(came.files[came.result["artifact"]])
    assert max(result.picture_s, result.sound_s) == pytest.approx(LENGTH_S, abs=0.12)
    assert result.tone_s in (None, pytest.approx(FLASH_S, abs=0.1))
    assert noted
    assert all(total is None or current <= total for current, total in noted)
