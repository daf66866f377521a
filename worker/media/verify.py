"""Verify: look at what was made before anybody is told that it is there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.sdk.job import Job
from worker.media import ffmpeg
from worker.media.probe import Media, probe
from worker.media.said import Said, last_words
from worker.media.timeline import Scan, scan

BOTH_ENDS_FROM_S = 4.0
"""A longer file is decoded at its beginning and its end, a shorter one whole."""
END_S = 1.0
TOLERANCE_S = 0.12
"""An encoder's padding, and half a picture."""
OVERLAP_S = 0.5
FEW_PICTURES = 1
"""A playlist tells lengths, which round."""
MOST_LOST = 0.9
"""Of what a source says that it has. With less than a tenth left there is no result."""


class ResultUnfit(RuntimeError):
    """What ffmpeg made, without complaint, is not what was to be made."""


class SoundTwice(ResultUnfit):
    """Parts of the sound lie over one another, as a silence that was put in where there was none."""


@dataclass(frozen=True, slots=True)
class Made:
    """A file that was made here, measured."""

    media: Media
    scan: Scan
    size: int

    @property
    def duration_s(self) -> float:
        """From the first picture or sound to the end of the last; of one that takes long to read, as its
        header says."""
        promised_s = 0.0 if self.scan.complete else self.media.duration_s or 0.0
        return round(max(self.scan.end_s, promised_s), 3)

    @property
    def pictures(self) -> int | None:
        """None if not all were read."""
        if not self.scan.complete:
            return None
        return sum(self.scan.of(track).packets for track in self.media.videos)


def examine(job: Job[Any], path: Path, artifact: str) -> Made:
    """Measure a file that was made here. Raises ResultUnfit."""
    if not path.is_file() or path.stat().st_size == 0:
        raise ResultUnfit(f"{artifact} is missing or empty")
    found = probe(job, path, artifact, ffmpeg.OURS)
    return Made(found, scan(job, path, found, allowed=ffmpeg.OURS), path.stat().st_size)


def check_streams(
    made: Made, codecs: tuple[str | None, str], *, shape: tuple[int, int] | None, sound: bool
) -> None:
    """Check the streams of a result. Raises ResultUnfit if one that should be there is not, is empty, or
    has another shape. Without a shape no picture is expected."""
    pictures = [v for v in made.media.videos if v.codec == codecs[0] and made.scan.of(v).packets]
    sounds = [a for a in made.media.audios if a.codec == codecs[1] and made.scan.of(a).packets]
    if sound and not sounds:
        raise ResultUnfit("it has no sound")
    if sound and made.scan.of(sounds[0]).overlaps_s > OVERLAP_S:
        raise SoundTwice("parts of its sound are there twice")
    if shape is None:
        return
    if not pictures:
        raise ResultUnfit("it has no picture")
    if (pictures[0].width, pictures[0].height) != shape:
        raise ResultUnfit(
            f"it is {pictures[0].width}x{pictures[0].height} instead of {shape[0]}x{shape[1]}"
        )


def check_pictures(made: Made, wanted: int) -> None:
    """Check how many pictures there are, if all were read: part of a segment in the middle may be missing.
    Raises ResultUnfit."""
    if made.pictures is not None and abs(made.pictures - wanted) > FEW_PICTURES:
        raise ResultUnfit(f"it has {made.pictures} pictures instead of {wanted}")


def decode_ends(job: Job[Any], files: Iterable[tuple[Path, float]], silent: Collection[Path] = ()) -> None:
    """Decode the beginning and the end of each file, given with its length. Without a decoder for what was
    encoded (some builds of ffmpeg only encode AV1), its syntax is read instead. Of those that are `silent`,
    which name a sound and have none, only the pictures are decoded: ffmpeg would fail at the sound, and
    with several inputs now and then hang instead (n8.1.2: 19 of 1,736 runs).

    Raises ResultUnfit if there is the smallest complaint.
    """
    inputs: list[str | Path] = []
    maps: list[str] = []
    for path, length_s in files:
        parts: Sequence[Sequence[str]] = [[]]
        if length_s > BOTH_ENDS_FROM_S:
            parts = [["-t", str(END_S)], ["-ss", f"{length_s - END_S:.3f}"]]
        for part in parts:
            maps += ["-map", f"{len(maps) // 2}{':v' if path in silent else ''}"]
            inputs += [*part, *ffmpeg.OURS, "-i", f"file:{path}"]
    try:
        complaints = _complaints(job, [*inputs, *maps])
    except NoDecoder:
        complaints = _complaints(job, [*inputs, *maps, "-c:v", "copy", "-bsf:v", "av1_metadata"])
    if complaints:
        raise ResultUnfit(f"it does not decode: {complaints}")


_NO_DECODER = ("Function not implemented", "no decoder found", "none found for codec")


class NoDecoder(Exception):
    """ffmpeg cannot decode what it encoded."""


def _complaints(job: Job[Any], args: Sequence[str | Path]) -> str:
    said = Said()
    try:
        for _ in ffmpeg.run(job, [*args, "-f", "null", "-"], said):
            pass
    except ffmpeg.FFmpegFailed as error:
        if any(words in line for line in error.words for words in _NO_DECODER):
            raise NoDecoder from None
        return str(error)
    return last_words(said.lines) if said.complaints else ""


@dataclass(frozen=True, slots=True)
class Losses:
    """What is missing from a result: in words, and as a share (0 to 1) of the pictures or the time."""

    words: list[str]
    share: float


def out_of_step(name: str) -> str:
    return f"the timestamps of {name} jump: picture and sound may be out of step"


def losses(
    name: str, wanted_s: float | None, made_s: float, said: Said, pictures: int, tags: int = 0
) -> Losses:
    """Compare a result with what was wanted. `pictures` is how many packets of them were read, `tags` how
    many packets of the sound hold none."""
    words = []
    share = 0.0
    if said.lost_pictures:
        pictures = max(pictures, said.lost_pictures)
        share = said.lost_pictures / pictures
        words.append(
            f"{said.lost_pictures} of {pictures} pictures of {name} could not be decoded; "
            f"the ones before them are shown longer"
        )
    no_loss = 0 < said.lost_sounds <= tags and not said.lost_pictures and said.complaints <= 2 * tags
    if said.lost_sounds and not no_loss:
        words.append(f"parts of the sound of {name} could not be decoded and are silent")
    if said.complaints and not words and not no_loss:
        words.append(f"{name} is damaged: parts of its picture or sound may be faulty")
    if said.pause_s:
        words.append(out_of_step(name))
    if wanted_s is not None and made_s < wanted_s - max(TOLERANCE_S, wanted_s * 0.002):
        words.append(f"the result lasts {made_s:.2f} s instead of {wanted_s:.2f} s")
        share = max(share, 1 - made_s / wanted_s)
    return Losses(words, share)
