"""Random damage: variants of the corpus with bytes changed, cut out or repeated, and variants cut off.

As a program, `python -m tests.media.damage --seed N`, it encodes them all and prints what came of it; a few
are in the suite. Whatever the damage, an encode has to end soon, in one attempt, either with a result that
is what it says or with `invalid_input`. What is missing from a result has to be among its warnings.
"""

from __future__ import annotations

import argparse
import functools
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from headway.sdk.stopping import InvalidInput
from tests.media.inputs import INPUTS, Input, made
from tests.media.looking import Result
from tests.support.encode_bench import Encoded, run_encode

DAMAGED = [
    "h264.mp4",
    "h264.mov",
    "h264.mkv",
    "vp8.webm",
    "vp9.webm",
    "mpeg4.avi",
    "flv1.flv",
    "h264.ts",
    "mpeg2.mpg",
    "wmv2.wmv",
    "prores.mov",
    "ffv1.mkv",
    "hevc.mp4",
    "fragments.mp4",
    "live.mkv",
    "bframes.mp4",
    "plain.gif",
    "interlaced.mov",
    "alpha.webm",
    "mpeg2.mxf",
]
"""Twenty inputs, of other containers and codecs each."""
VARIANTS = 10
"""Of each kind of damage."""
SOON_S = 60.0
PRESETS = ("mp4", "hls")
CANNOT_TELL = frozenset({"live.mkv", "h264.ts", "mpeg2.mpg"})
"""Cut between two pictures, these look as if they had been recorded so: nothing in them says how long they
were to be."""
NEAR_S = 0.15
FEW_PICTURES = 0.85


BY_NAME = {source.name: source for source in INPUTS}


def inputs() -> list[Input]:
    return [BY_NAME[name] for name in DAMAGED]


def cut_off(data: bytes, luck: random.Random) -> bytes:
    return data[: luck.randrange(1, len(data))]


def damaged(data: bytes, luck: random.Random) -> bytes:
    """Return the bytes with one to three things done to them."""
    out = bytearray(data)
    for _ in range(luck.randint(1, 3)):
        at = luck.randrange(len(out))
        length = luck.choice([1, 16, 200, len(out) // 20 + 1])
        match luck.randrange(5):
            case 0:
                out[at : at + length] = luck.randbytes(min(length, len(out) - at))
            case 1:
                out[at] ^= 1 << luck.randrange(8)
            case 2:
                del out[at : at + length]
            case 3:
                out[at:at] = out[max(0, at - length) : at]
            case _:
                del out[max(len(out) // 3, at) :]
        if not out:
            return b"\0"
    return bytes(out)


KINDS = {"bytes": damaged, "cut": cut_off}


@dataclass(frozen=True)
class Content:
    """What somebody sees and hears of a result."""

    length_s: float
    sound_s: float
    white_s: float | None
    tone_s: float | None
    pictures: int
    """How often the picture changes."""

    @classmethod
    def of(cls, came: Encoded, preset: str) -> Content:
        """Raises AssertionError if it does not decode."""
        path = came.files[came.result["artifact"]]
        if preset == "hls":
            path = path.parent / f"{min(came.result['renditions'][-1].values())}p" / "index.m3u8"
        result = Result(path)
        length_s = max(result.picture_s, result.sound_s)
        return cls(length_s, result.sound_s, result.white_s, result.tone_s, result.changes)


@functools.cache
def whole(name: str, preset: str) -> Content:
    """The content of the result of the undamaged input."""
    source = BY_NAME[name]
    with tempfile.TemporaryDirectory() as directory:
        return Content.of(encode_bytes(source, made(source).read_bytes(), preset, Path(directory)), preset)


def encode_bytes(source: Input, data: bytes, preset: str, directory: Path) -> Encoded:
    (directory / "in").mkdir(exist_ok=True)
    (directory / "in" / source.name).write_bytes(data)
    return run_encode(directory, input=f"file:in/{source.name}", preset=preset, poster=False)


def missing(found: Content, undamaged: Content) -> list[str]:
    """Return what there is less of than in the result of the undamaged input."""
    gone = []
    for what in ("length_s", "sound_s"):
        if getattr(found, what) < getattr(undamaged, what) - NEAR_S:
            gone.append(f"{what} {getattr(found, what):.2f} of {getattr(undamaged, what):.2f}")
    for what in ("white_s", "tone_s"):
        at, right = getattr(found, what), getattr(undamaged, what)
        # Earlier it is noise, which nobody can tell from what was recorded.
        if right is not None and (at is None or at > right + NEAR_S):
            gone.append(f"{what} {at} instead of {right}")
    if found.pictures < undamaged.pictures * FEW_PICTURES:
        gone.append(f"{found.pictures} of {undamaged.pictures} pictures")
    return gone


def encode_damaged(
    source: Input, kind: str, variant: int, preset: str, directory: Path, seed: int = 0
) -> tuple[Encoded, list[str]]:
    """Returns what came of a damaged file, and what is wrong with that."""
    luck = random.Random(f"{seed} {source.name} {kind} {variant}")
    came = encode_bytes(source, KINDS[kind](made(source).read_bytes(), luck), preset, directory)
    wrong = [f"took {came.seconds:.0f} s"] if came.seconds > SOON_S else []
    if came.error is not None:
        if not isinstance(came.error, InvalidInput):
            wrong.append(f"{type(came.error).__name__}: {came.error}")
        return came, wrong
    try:
        found = Content.of(came, preset)
    except AssertionError as error:
        return came, [*wrong, f"the result does not decode: {error}"]
    if abs(found.length_s - came.result["duration_s"]) > NEAR_S:
        wrong.append(f"lasts {found.length_s:.2f} s and says {came.result['duration_s']}")
    gone = missing(found, whole(source.name, preset))
    if gone and not came.result["warnings"] and not (kind == "cut" and source.name in CANNOT_TELL):
        wrong.append(f"says nothing of what is missing: {', '.join(gone)}")
    return came, wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.media.damage", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the damage (0)")
    parser.add_argument("--inputs", type=int, default=len(DAMAGED), help=f"how many ({len(DAMAGED)})")
    parser.add_argument("--variants", type=int, default=VARIANTS, help=f"of each kind ({VARIANTS})")
    given = parser.parse_args()
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for source in inputs()[: given.inputs]:
        for kind in KINDS:
            for variant in range(given.variants):
                preset = PRESETS[variant % len(PRESETS)]
                with tempfile.TemporaryDirectory() as directory:
                    came, wrong = encode_damaged(source, kind, variant, preset, Path(directory), given.seed)
                slowest = max(slowest, came.seconds)
                warned = " with warnings" if came.result.get("warnings") else ""
                outcomes["refused" if came.error else f"encoded{warned}"] += 1
                for fault in wrong:
                    outcomes["wrong"] += 1
                    print(f"{source.name} {kind} {variant} {preset}: {fault}", flush=True)
    print(", ".join(f"{n} {what}" for what, n in sorted(outcomes.items())), f"slowest {slowest:.1f} s")
    return 1 if outcomes["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
