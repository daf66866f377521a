"""More of the corpus: pictures that a container cuts, greys, what HDR says of its light, and pictures whose
times of display are not told."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from tests.media.inputs import AAC, H264, HEIGHT, LENGTH_S, WIDTH, Expected, Input, Make, Studio, tone

PICTURES: list[Input] = []


def add(name: str, make: Make, **expected: Any) -> None:
    PICTURES.append(Input(name, make, Expected(**expected)))


# -- cut by the container ------------------------------------------------------------------------------

CUT = {"size": (120, 100), "flash_s": None, "corner": (0, 0, 255)}
BLUE = "drawbox=x=40:y=0:w=60:h=60:color=blue:t=fill"


def _cut_in_mp4(studio: Studio) -> None:
    """40 pixels at the left and 20 at the bottom, as `clap` says it: by how far the middle moves."""
    studio.clip("-vf", BLUE, *H264, *AAC, to="whole.mp4")
    data = bytearray(studio.part("whole.mp4"))
    clap = struct.pack(">I4s8i", 40, b"clap", 120, 1, 100, 1, 20, 1, -10, 1)
    *outer, entry = _path(data, "moov trak mdia minf stbl stsd avc1")
    end = entry + int.from_bytes(data[entry : entry + 4], "big")
    for at in (*outer, entry):
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + len(clap)).to_bytes(4, "big")
    data[end:end] = clap
    studio.write(bytes(data))


def _path(data: bytes, kinds: str) -> Iterator[int]:
    """Where the boxes begin that lie within one another."""
    at = 0
    for kind in kinds.encode().split():
        while data[at + 4 : at + 8] != kind:
            at += int.from_bytes(data[at : at + 4], "big")
        yield at
        at += 16 if kind == b"stsd" else 8


add("clap.mp4", _cut_in_mp4, **CUT)


def _cut_in_mkv(studio: Studio) -> None:
    """The same as PixelCropLeft and PixelCropBottom, in the place of two entries that say less."""
    studio.clip("-vf", BLUE, *H264, *AAC, "-write_crc32", "0", to="whole.mkv")
    interlaced_and_range = b"\x9a\x81\x02\x55\xb0\x84\x55\xb9\x81\x01"
    before, found, after = studio.part("whole.mkv").partition(interlaced_and_range)
    assert found
    studio.write(before + b"\x54\xcc\x81\x28\x54\xaa\x81\x14" + b"\xec\x80" + after)


add("crop.mkv", _cut_in_mkv, **CUT)

# -- greys ---------------------------------------------------------------------------------------------


def _grey(left: int, right: int, *options: str, tags: str) -> Make:
    """Two halves with these values and no colour at all."""

    def make(studio: Studio) -> None:
        source = f"nullsrc=size={WIDTH}x{HEIGHT}:rate=25:duration={LENGTH_S},format=yuv420p"
        halves = f"geq=lum='if(lt(X,{WIDTH // 2}),{left},{right})':cb=128:cr=128,extractplanes=y,{tags}"
        studio.run("-f", "lavfi", "-i", f"{source},{halves}", *tone(), *options, "-pix_fmt", "gray", *AAC)

    return make


X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params")
LIMITED = (*X265, "log-level=error:range=limited")
add("grey.mp4", _grey(16, 205, *LIMITED, tags="setparams=range=tv"), levels=(16, 205), flash_s=None)
add("grey.mkv", _grey(16, 205, "-c:v", "ffv1", tags="setparams=range=tv"), levels=(16, 205), flash_s=None)
FULL = round(16 + 64 * 219 / 255), round(16 + 164 * 219 / 255)
add("greyfull.mkv", _grey(64, 164, "-c:v", "ffv1", tags="setparams=range=pc"), levels=FULL, flash_s=None)

# -- colours -------------------------------------------------------------------------------------------


def _wide(primaries: str, transfer: str, matrix: str) -> Make:
    """A red (180, 60, 60) of wide-gamut primaries, without HDR."""

    def make(studio: Studio) -> None:
        source = f"color=c=0xB43C3C:size={WIDTH}x{HEIGHT}:rate=25:duration={LENGTH_S},format=gbrp"
        to = f"scale=out_color_matrix={matrix.removesuffix('nc')}:out_range=tv,format=yuv420p"
        tags = f"setparams=color_primaries={primaries}:color_trc={transfer}:colorspace={matrix}"
        studio.run("-f", "lavfi", "-i", f"{source},{to},{tags}", *tone(), *H264, *AAC)

    return make


# By the matrices of ITU-R BT.2407 and the gamma of BT.1886.
add("widered.mp4", _wide("bt2020", "bt2020-10", "bt2020nc"), corner=(220, 0, 54), flash_s=None)
add("p3red.mp4", _wide("smpte432", "bt709", "bt709"), corner=(195, 43, 53), flash_s=None)

# -- light ---------------------------------------------------------------------------------------------


def _told(studio: Studio) -> None:
    """HDR with the brightness of the display that it was graded on, and its own."""
    source = f"nullsrc=size={WIDTH}x{HEIGHT}:rate=5:duration={LENGTH_S},format=yuv420p10le"
    halves = f"geq=lum='if(lt(X,{WIDTH // 2}),398,573)':cb=512:cr=512"
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    color = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
    told = f"log-level=error:{color}:hdr10=1:master-display={display}:max-cll=1000,400"
    studio.run("-f", "lavfi", "-i", f"{source},{halves}", *tone(), *X265, told, *AAC)


add("light.mp4", _told, levels=(109, 212), flash_s=None)

# -- in the order of decoding, without times of display ------------------------------------------------

B_FRAMES = ("-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuv420p", "-x264-params", "b-adapt=0")
ASP = ("-c:v", "mpeg4", "-bf", "2")
LAME = ("-c:a", "libmp3lame")
"""Whose own delay of 25 ms none of these formats tells."""
TEN = {"length_s": 1.65, "slack_s": 0.07}
"""At 10 pictures per second."""
add("order264.avi", lambda studio: studio.clip(*B_FRAMES, *LAME), slack_s=0.06)
add("order4.avi", lambda studio: studio.clip(*ASP, *LAME, rate=10), **TEN)


def _as_in_avi(studio: Studio) -> None:
    """Matroska that keeps what an AVI file says, which ffmpeg writes of a codec that has no name there."""
    studio.clip(*ASP, *LAME, to="a.avi", rate=10)
    (studio.directory / "b.avi").write_bytes(studio.part("a.avi").replace(b"FMP4", b"VP61"))
    studio.run("-i", "b.avi", "-c", "copy", to="b.mkv")
    studio.write(studio.part("b.mkv").replace(b"VP61", b"FMP4"))


def _without_offsets(studio: Studio) -> None:
    studio.clip(*B_FRAMES, *AAC, to="a.mp4")
    studio.write(studio.part("a.mp4").replace(b"ctts", b"free").replace(b"edts", b"free"))


add("vfw.mkv", _as_in_avi, **TEN)
add("order264.mp4", _without_offsets, slack_s=0.06)
