"""Random damage: variants of the corpus with bytes changed, cut out, repeated or cut off.

As a program, `python -m tests.media.damage [inputs] [variants]`, it encodes them all and prints what came
of it; a few are in the suite. Whatever the damage, an encode has to end soon, in one attempt, either with a
result that is what it says or with `invalid_input`, and never without a word.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from headway.sdk.stopping import InvalidInput
from tests.media.inputs import INPUTS, Input, made
from tests.media.looking import Result
from tests.support.encode_bench import Encoded, run_encode

DAMAGED = [
    *(
        "h264.mp4",
        "h264.mov",
        "h264.mkv",
        "vp8.webm",
        "vp9.webm",
        "mpeg4.avi",
        "flv1.flv",
        "h264.ts",
        "mpeg2.mpg",
    ),
    *(
        "wmv2.wmv",
        "prores.mov",
        "ffv1.mkv",
        "hevc.mp4",
        "fragments.mp4",
        "live.mkv",
        "bframes.mp4",
        "plain.gif",
    ),
    *("interlaced.mov", "alpha.webm", "mpeg2.mxf"),
]
"""Twenty inputs, of other containers and codecs each."""
VARIANTS = 10
SOON_S = 60.0
PRESETS = ("mp4", "hls")


def inputs() -> list[Input]:
    by_name = {source.name: source for source in INPUTS}
    return [by_name[name] for name in DAMAGED]


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


def faults(came: Encoded, preset: str) -> list[str]:
    """Return what is wrong with what came of a damaged file."""
    found = []
    if came.seconds > SOON_S:
        found.append(f"took {came.seconds:.0f} s")
    if came.error is not None:
        if not isinstance(came.error, InvalidInput):
            found.append(f"{type(came.error).__name__}: {came.error}")
        return found
    path = came.files[came.result["artifact"]]
    if preset == "hls":
        path = path.parent / f"{min(came.result['renditions'][-1].values())}p" / "index.m3u8"
    try:
        result = Result(path)
        length_s = max(result.picture_s, result.sound_s)
    except AssertionError as error:
        return [f"the result does not decode: {error}"]
    if abs(length_s - came.result["duration_s"]) > 0.15:
        found.append(f"lasts {length_s:.2f} s and says {came.result['duration_s']}")
    if length_s < 1.3 and not came.result["warnings"]:
        found.append(f"lasts {length_s:.2f} of 1.6 s and says nothing")
    return found


def encode_damaged(source: Input, variant: int, preset: str, directory: Path) -> tuple[Encoded, list[str]]:
    luck = random.Random(f"{source.name} {variant}")
    (directory / "in").mkdir(exist_ok=True)
    (directory / "in" / source.name).write_bytes(damaged(made(source).read_bytes(), luck))
    came = run_encode(directory, input=f"file:in/{source.name}", preset=preset, poster=False)
    return came, faults(came, preset)


def main() -> int:
    count, variants = (int(word) for word in (*sys.argv[1:], len(DAMAGED), VARIANTS)[:2])
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for source in inputs()[:count]:
        for variant in range(variants):
            with tempfile.TemporaryDirectory() as directory:
                preset = PRESETS[variant % len(PRESETS)]
                came, wrong = encode_damaged(source, variant, preset, Path(directory))
            slowest = max(slowest, came.seconds)
            warned = " with warnings" if came.result.get("warnings") else ""
            outcomes["refused" if came.error else f"encoded{warned}"] += 1
            for fault in wrong:
                outcomes["wrong"] += 1
                print(f"{source.name} {variant} {preset}: {fault}")
    print(", ".join(f"{n} {what}" for what, n in sorted(outcomes.items())), f"slowest {slowest:.1f} s")
    return 1 if outcomes["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
