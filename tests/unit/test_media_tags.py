"""What of an MP3 is no sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.media.said import Said
from worker.media.tags import tags_within
from worker.media.verify import losses

FRAME = b"\xff\xfb\x50\xc4" + bytes(range(1, 189))
ID3 = b"ID3\4\0" + bytes(40)
OLD = b"TAG" + b"Title".ljust(125, b" ")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (FRAME * 9, 0),
        (ID3 + FRAME * 9, 0),
        (FRAME * 9 + ID3 + FRAME, 1),
        (ID3 + FRAME + ID3 + FRAME + bytes(99), 2),
        (FRAME + b"TAG" + FRAME, 0),
        (FRAME + OLD, 1),
        (FRAME + b"APETAGEX" + bytes(24) + b"x" * 40 + OLD, 2),
    ],
)
def test_tags_and_padding_behind_the_first_frame_are_counted(
    tmp_path: Path, data: bytes, expected: int
) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    assert tags_within(path, frozenset({"mp3"})) == expected
    assert tags_within(path, frozenset({"aac"})) == 0


@pytest.mark.parametrize(("tags", "words"), [(0, 1), (1, 1), (2, 0)])
def test_a_sound_that_could_not_be_decoded_is_a_loss_unless_it_was_a_tag(tags: int, words: int) -> None:
    said = Said()
    for _ in range(2):
        said.add("[aist#0:0/mp3 @ 0x1] [dec:mp3float @ 0x2] [error] Error submitting packet to decoder")
    assert len(losses("x.mp3", 4.0, 4.0, said, 0, tags).words) == words
