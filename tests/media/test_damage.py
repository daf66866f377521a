"""A sample of damaged files; tests/media/damage.py tries all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media.damage import KINDS, encode_damaged, inputs
from tests.media.inputs import Input


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", inputs()[::2], ids=lambda source: source.name)
def test_damage_ends_in_a_true_result_or_a_refusal(source: Input, kind: str, tmp_path: Path) -> None:
    _, wrong = encode_damaged(source, kind, 0, "mp4", tmp_path)
    assert wrong == []
