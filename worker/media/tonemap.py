"""Tone mapping: a table that turns the colours of HDR and wide-gamut pictures into those of BT.709.

ffmpeg's own filters for this need libraries that many builds lack; a 3D table works with every one. Light
up to half of the reference white stays as it is, what is brighter is compressed up to the source's peak.
"""

from __future__ import annotations

from collections.abc import Callable

from worker.media.probe import Color

SIZE = 33
REFERENCE_WHITE_NITS = 203.0
"""What HDR shows as white paper (ITU-R BT.2408)."""
DEFAULT_PEAK_NITS = 1000.0
KNEE = 0.5

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]

_FROM_2020: Matrix = (
    (1.660491, -0.587641, -0.072850),
    (-0.124550, 1.132900, -0.008349),
    (-0.018151, -0.100579, 1.118730),
)
_FROM_P3: Matrix = (
    (1.224940, -0.224940, 0.0),
    (-0.042057, 1.042057, 0.0),
    (-0.019638, -0.078636, 1.098274),
)
_SAME: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def needed(color: Color) -> bool:
    """Return whether pictures of this colour need a table."""
    return color.hdr or color.primaries in ("bt2020", "smpte431", "smpte432")


def table(color: Color, peak_nits: float | None) -> str:
    """Return the table as the text of a .cube file."""
    steps = [n / (SIZE - 1) for n in range(SIZE)]
    linear = [_linear(color.transfer)(step) for step in steps]
    gamut = {"smpte431": _FROM_P3, "smpte432": _FROM_P3, "bt709": _SAME}.get(color.primaries, _FROM_2020)
    peak = max(peak_nits or DEFAULT_PEAK_NITS, 1.5 * REFERENCE_WHITE_NITS) / REFERENCE_WHITE_NITS
    lines = [f"LUT_3D_SIZE {SIZE}"]
    for blue in linear:
        for green in linear:
            for red in linear:
                light = _gamut(gamut, (red, green, blue))
                if color.transfer == "arib-std-b67":
                    light = _scene_to_display(light)
                if color.hdr:
                    light = _compressed(light, peak)
                lines.append(" ".join(f"{_encoded(part):.5f}" for part in light))
    return "\n".join(lines) + "\n"


def _linear(transfer: str) -> Callable[[float], float]:
    """Return the function from a signal to light, 1 being the reference white."""
    return {"smpte2084": _pq, "arib-std-b67": _hlg}.get(transfer, _bt1886)


def _pq(signal: float) -> float:
    power = signal ** (1 / 78.84375)
    return float((max(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)) * (
        10_000 / REFERENCE_WHITE_NITS
    )


def _hlg(signal: float) -> float:
    """Light of the scene, 1 being the peak."""
    if signal <= 0.5:
        return signal * signal / 3
    return float((2.718281828459045 ** ((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)


def _scene_to_display(light: Vector) -> Vector:
    """The system gamma of HLG on a display of 1,000 nits."""
    luminance = max(_luminance(light), 0.0)
    gain = luminance**0.2 * DEFAULT_PEAK_NITS / REFERENCE_WHITE_NITS
    return light[0] * gain, light[1] * gain, light[2] * gain


def _bt1886(signal: float) -> float:
    return float(signal**2.4)


def _encoded(light: float) -> float:
    return float(min(max(light, 0.0), 1.0) ** (1 / 2.4))


def _gamut(matrix: Matrix, light: Vector) -> Vector:
    red, green, blue = (sum(a * b for a, b in zip(row, light, strict=True)) for row in matrix)
    return red, green, blue


def _luminance(light: Vector) -> float:
    return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]


def _compressed(light: Vector, peak: float) -> Vector:
    """By the brightest part, so that a colour keeps its hue."""
    brightest = max(light)
    if brightest <= KNEE:
        return light
    slope = (peak - KNEE) / (1 - KNEE)
    above = min((brightest - KNEE) / (peak - KNEE), 1.0)
    gain = (KNEE + (1 - KNEE) * above * slope / (1 + above * (slope - 1))) / brightest
    return light[0] * gain, light[1] * gain, light[2] * gain
