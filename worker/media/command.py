"""Command: the arguments that make ffmpeg do what was planned. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from worker.media import tonemap
from worker.media.probe import Audio, Color, Video
from worker.media.rate import Rate

Preset = Literal["mp4", "webm", "av1", "hls", "audio"]

X264 = ("-c:v", "libx264", "-preset", "veryfast")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "6", "-row-mt", "1", "-b:v", "0")
AV1 = ("-c:v", "libsvtav1", "-preset", "10")
# Two channels, because libopus refuses some layouts of more.
AAC = ("-c:a", "aac", "-b:a", "128k", "-ac", "2")
OPUS = ("-c:a", "libopus", "-b:a", "96k", "-ac", "2")
MP4 = ("-movflags", "+faststart", "-write_tmcd", "0")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a preset is made. The encoders' speeds are fast ones: progress is for people who wait."""

    artifact: str
    video: tuple[str, ...]
    audio: tuple[str, ...]
    codecs: tuple[str | None, str]
    """As ffprobe names them."""
    crf: int = 0
    max_crf: int = 63
    options: tuple[str, ...] = ()
    min_side: int = 2
    max_size: tuple[int, int] = (16384, 16384)
    """What the encoder takes at least and at most."""


RECIPES: dict[Preset, Recipe] = {
    "mp4": Recipe("video.mp4", X264, AAC, ("h264", "aac"), 23, 51, MP4),
    "webm": Recipe("video.webm", VP9, OPUS, ("vp9", "opus"), 33),
    "av1": Recipe("video.webm", AV1, OPUS, ("av1", "opus"), 35, min_side=4, max_size=(16384, 8704)),
    "hls": Recipe("hls", X264, AAC, ("h264", "aac"), 23, 51),
    "audio": Recipe("audio.m4a", (), AAC, (None, "aac"), options=MP4),
}
SMALLEST = 2

CAP = Fraction(60)
"""Pictures per second at most, of a variable rate."""
CONSTANT_CAP = Fraction(240)
"""The same of a constant rate: what every encoder and player here takes."""
FINE = Fraction(20)
"""A variable rate becomes at least this, so that no picture is shown more than 25 ms early or late."""
EVEN, SLOW = Fraction(10), Fraction(5)
"""A slower constant rate is multiplied where the end has to be met exactly, or (below the second) would be
missed by much."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The part of the source that is encoded."""

    start_s: float = 0.0
    length_s: float | None = None
    """As long as the result is to be; None if it is unknown."""
    lead_s: float = 0.0
    """How far before the start reading begins."""
    held: bool = False
    """Whether the last picture comes before the start: it is shown all the time."""
    sound_from_zero: bool = False
    """Whether the sound is known to begin where the part does."""

    @property
    def seek_s(self) -> float:
        return self.start_s - self.lead_s


def output_rate(measured: Rate | None, *, length_s: float | None, whole: bool) -> Fraction:
    """Return the pictures per second to encode: the source's own constant rate, else one that shows each
    picture at its time. `whole` asks for an end that is met within 50 ms."""
    if measured is None:
        return EVEN if length_s is None or length_s > 0.1 else Fraction(25)
    if not measured.constant:
        return min(max(measured.fps, FINE), CAP)
    fps = min(measured.fps, CONSTANT_CAP)
    if fps < EVEN and (whole or (fps < SLOW and not _fits(fps, length_s))):
        fps *= -(-EVEN // fps)
    return fps


def pictures(length_s: float, rate: Fraction) -> int:
    """Return how many pictures a result of this length has: to the nearest, but of a slow rate no last one
    is lost."""
    exact = length_s * float(rate)
    return max(1, round(exact - 0.01) if rate >= FINE else math.ceil(exact - 0.25))


def _fits(fps: Fraction, length_s: float | None) -> bool:
    if length_s is None:
        return True
    exact = length_s * float(fps)
    return abs(exact - round(exact)) < 0.05


BEST_CRF = 1
"""At 0, x264 makes H.264 that few players know, and SVT-AV1 what it makes unless told."""
NARROW = 64
"""SVT-AV1 4.1 can hang if one side of the picture is shorter than its blocks and it works in parallel."""


def video_arguments(recipe: Recipe, crf: int | None, width: int, height: int) -> tuple[str, ...]:
    """Return the encoder's arguments for pictures of this size."""
    narrow = recipe.video == AV1 and min(width, height) < NARROW
    quality = ("-crf", str(recipe.crf if crf is None else max(BEST_CRF, crf)))
    return (*recipe.video, *quality, *(("-svtav1-params", "lp=1") if narrow else ()))


# -- filters -------------------------------------------------------------------------------------------

TONEMAP = "tonemap.cube"
"""The table that is applied to HDR, in the working directory."""


@dataclass(frozen=True, slots=True)
class Picture:
    """How the pictures of a track become those of the result."""

    video: Video
    width: int
    height: int
    rate: Fraction
    cut: Cut
    from_zero: bool = False
    """Whether the result begins with a picture, even if the source's first one comes later."""

    @property
    def filters(self) -> str:
        """The chain that makes pictures of this size at this rate, ending where the result ends."""
        chain = [
            *_begun(self.cut.lead_s + self.video.late_s, "setpts"),
            *_deinterlaced(self.video),
            *_colored(self.video, self.width, self.height),
            *_silent_on_light(self.video),
        ]
        from_zero = self.from_zero or self.cut.start_s or self.video.late_s
        start = ":start_time=0" if from_zero and not self.cut.held else ""
        # Without `pass` a single short picture would round to none.
        chain += ["setsar=1", f"fps={self.rate}{start}:eof_action=pass"]
        if self.cut.length_s is not None:
            # The last picture is held until the sound ends, and where nothing could be decoded any more.
            end = pictures(self.cut.length_s, self.rate) / self.rate
            begin = "start=0:" if self.cut.held else ""
            chain += ["tpad=stop=-1:stop_mode=clone", f"trim={begin}end={float(end):.6f}"]
        return ",".join(chain)


def _begun(lead_s: float, setpts: str) -> list[str]:
    """What makes the start the zero of time, wherever reading begins."""
    return [f"{setpts}=round(PTS-{lead_s:.6f}/TB)"] if lead_s else []


def _deinterlaced(video: Video) -> list[str]:
    if not video.interlaced or video.height < 8 or not video.pix_fmt.startswith(("yuv", "nv", "gray")):
        return []
    if video.whole:
        # Elsewhere in the file they may be what the stream says: that is looked at in each.
        return ["idet", "bwdif=mode=send_frame:deint=interlaced"]
    which = "interlaced" if video.interlaced_frames else "all"
    return [f"bwdif=mode=send_frame:deint={which}:parity={video.combed or 'auto'}"]


def _colored(video: Video, width: int, height: int) -> list[str]:
    """Scale, and convert to what all players show alike: BT.709, limited range, 8 bit, 4:2:0, opaque."""
    scale, bars = _scaled(video, width, height)
    source = "" if _is_rgb(video) else f":in_color_matrix={matrix(video.color, video.height)}"
    to_709 = "out_color_matrix=bt709:out_range=tv"
    tags = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    if video.alpha and not video.color.hdr:
        return [
            *(scale + source, "format=gbrap", *bars, "premultiply=inplace=1", "format=gbrp"),
            *(f"scale={to_709}", "format=yuv420p", tags),
        ]
    if tonemap.needed(video.color):
        rgb = "format=gbrp12le" if video.pix_fmt.endswith(("12le", "12be")) else "format=gbrp10le"
        return [
            *(scale + source, rgb, *bars),
            *(f"lut3d=file={TONEMAP}:interp=tetrahedral", f"scale={to_709}", "format=yuv420p", tags),
        ]
    if video.color.range == "tv" and video.pix_fmt.startswith("gray"):
        # ffmpeg takes all grey for full range: the values stay as they are.
        to_709 = "in_range=pc:out_range=pc"
    return [f"{scale}{source}:{to_709}", "format=yuv420p", *bars, tags]


def _silent_on_light(video: Video) -> list[str]:
    if not video.color.hdr and video.peak_nits is None:
        return []
    return [f"sidedata=mode=delete:type={kind}" for kind in HDR_METADATA]


HDR_METADATA = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL", "DYNAMIC_HDR_PLUS")
"""What encoders write into their result if it is there, and what is no longer true."""
SAME_SHAPE = 0.03
"""Shapes that differ by no more are taken for one: those of broadcasts are not exact."""


def _scaled(video: Video, width: int, height: int) -> tuple[str, list[str]]:
    """Return the filter that makes pictures of this size, and those that have to come at once behind it:
    a picture of another shape than the others gets black bars."""
    if not video.keeps_shape:
        return f"scale={width}:{height}:flags=bicubic", []
    wider = f"dar/{video.width / video.height:.6f}"
    near = SAME_SHAPE + 1 / min(video.width, video.height)
    sides = (
        f"w='if(lt({wider},{1 - near:.4f}),max(2,2*round({width / 2}*{wider})),{width})'",
        f"h='if(gt({wider},{1 + near:.4f}),max(2,2*round({height / 2}/({wider}))),{height})'",
    )
    bars = f"pad={width}:{height}:(ow-iw)/2:(oh-ih)/2:eval=frame"
    return f"scale={':'.join(sides)}:eval=frame:flags=bicubic", [bars]


def _is_rgb(video: Video) -> bool:
    return video.color.matrix == "gbr" or video.pix_fmt.startswith(
        (
            "rgb",
            "bgr",
            "gbr",
            "argb",
            "abgr",
            "pal8",
            "0rgb",
            "0bgr",
            "x2rgb",
            "x2bgr",
            "mono",
            "gray",
            "ya",
        )
    )


def matrix(color: Color, height: int) -> str:
    """Return the name for scale's `in_color_matrix`: what the file says, else what its size suggests."""
    named = {
        "bt709": "bt709",
        "bt2020nc": "bt2020nc",
        "bt2020c": "bt2020nc",
        "smpte170m": "smpte170m",
        "bt470bg": "bt470bg",
        "smpte240m": "smpte240m",
        "fcc": "fcc",
    }.get(color.matrix)
    if named is not None:
        return named
    if color.hdr or color.primaries == "bt2020":
        return "bt2020nc"
    return "bt709" if height >= 720 else "smpte170m"


def sound_filters(cut: Cut, audio: Audio, *, from_zero: bool) -> str:
    """Return the chain for the sound: cut like the picture, all channels heard, gaps filled with silence,
    with `from_zero` also one at the beginning.

    Only if there is one: where the format of the sound changes, ffmpeg begins the chain anew, and a silence
    with it.
    """
    chain = _begun(cut.lead_s, "asetpts")
    if cut.start_s or cut.length_s is not None:
        limits = (["start=0"] if cut.start_s else []) + (
            [] if cut.length_s is None else [f"end={cut.length_s:.6f}"]
        )
        chain.append(f"atrim={':'.join(limits)}")
    silence = ":first_pts=0" if from_zero and not cut.sound_from_zero else ""
    return ",".join([*chain, *_every_channel(audio), f"aresample=async=1{silence}"])


MIXED = 8
"""Of more channels ffmpeg leaves most out when it makes two of them."""


def _every_channel(audio: Audio) -> list[str]:
    """Return the filters that make two channels of those that ffmpeg would leave out in part: what it takes
    for the low frequencies may be any microphone where the file does not say."""
    if audio.layout.startswith("ambisonic"):
        # The first one hears all directions alike; the others only tell them apart.
        return ["pan=stereo|c0=c0|c1=c0"]
    if audio.channels > MIXED:
        rest = "".join(f"+c{n}" for n in range(2, audio.channels))
        return [f"pan=stereo|c0<c0{rest}|c1<c1{rest}"]
    if audio.channels > 2 and audio.layout == "unknown":
        return ["aresample=ochl=stereo:lfe_mix_level=1"]
    return []


def sound_arguments(recipe: Recipe, audio: Audio | None) -> tuple[str, ...]:
    """Return the encoder's arguments, with a sample rate that players know."""
    odd = audio is None or audio.sample_rate not in (44100, 48000)
    return (*recipe.audio, *(("-ar", "48000") if odd and "aac" in recipe.audio else ()))


def decoder_arguments(video: Video | None) -> tuple[str, ...]:
    """Return what has to stand before the input: only libvpx decodes the transparency of VP8 and VP9."""
    if video is None:
        return ()
    decoder = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(video.codec) if video.alpha else None
    # A tilt would leave black corners, and cut off those of the picture.
    upright = (f"-display_rotation:{video.index}", f"{video.rotation}") if video.tilt else ()
    return upright if decoder is None else (*upright, f"-c:{video.index}", decoder)


def metadata_arguments(recipe: Recipe, keep: bool) -> tuple[str, ...]:
    """Return what keeps everything that the file tells of its making (place, device, names), or removes it,
    chapters too."""
    streams = ("-dn", "-sn")
    if not keep:
        return (*streams, "-map_metadata", "-1", "-map_metadata:s", "-1", "-map_chapters", "-1")
    # Unless it is asked for, ffmpeg leaves out the date, and in MP4 all names that iTunes does not know.
    own_names = ("-movflags", "+use_metadata_tags") if recipe.options == MP4 else ()
    return (*streams, "-map_metadata", "0", *own_names)


# -- sizes ---------------------------------------------------------------------------------------------


def size(of_width: int, of_height: int, width: int | None, height: int | None) -> tuple[int, int]:
    """Return the size to encode: as asked, in the shape of the picture, and even, as encoders want it."""
    if width is not None and height is not None:
        return width, height
    if height is not None:
        return even(of_width * height / of_height), height
    if width is not None:
        return width, even(of_height * width / of_width)
    return even(of_width), even(of_height)


def even(pixels: float) -> int:
    return max(SMALLEST, int(pixels) // 2 * 2)
