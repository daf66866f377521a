"""What ffmpeg and ffprobe may touch and take, since they read strangers' files."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from headway.sdk.sandbox import Sandbox

MAX_PIXELS = 8192 * 8192
"""Of one picture."""
MAX_ALLOC = 1 << 30
"""Bytes of one piece of memory: a picture of MAX_PIXELS with 16 bits for each of three colors, twice."""
MAX_STREAMS = 64
CPU_S = 7 * 86_400
"""Of an encode, over all cores: what runs longer hangs."""

DECODERS = (
    # pictures
    "h264,hevc,vp8,libvpx,vp9,libvpx-vp9,av1,libdav1d,libaom-av1,libgav1,mpeg1video,mpeg2video,mpegvideo,"
    "mpeg4,h261,h263,h263i,h263p,flv,msmpeg4v1,msmpeg4v2,msmpeg4,wmv1,wmv2,wmv3,vc1,theora,mjpeg,mjpegb,"
    "prores,dnxhd,cfhd,dvvideo,ffv1,ffvhuff,huffyuv,utvideo,svq1,svq3,vp6,vp6f,vp6a,cinepak,rpza,qtrle,gif,png,"
    "rawvideo,wrapped_avframe,v210,v308,v408,v410,yuv4,apv,vvc,"
    # sound
    "aac,aac_fixed,aac_latm,libfdk_aac,mp1,mp1float,mp2,mp2float,mp3,mp3float,ac3,ac3_fixed,eac3,dca,truehd,"
    "mlp,opus,libopus,vorbis,libvorbis,flac,alac,wavpack,wmav1,wmav2,wmapro,wmalossless,wmavoice,amrnb,amrwb,"
    "libopencore_amrnb,libopencore_amrwb,speex,libspeex,gsm,gsm_ms,nellymoser,qdm2,qdmc,qcelp,evrc,mace3,mace6,"
    "pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s8_planar,pcm_u16le,pcm_u16be,pcm_s16le,pcm_s16be,pcm_s16le_planar,"
    "pcm_s16be_planar,pcm_u24le,pcm_u24be,pcm_s24le,pcm_s24be,pcm_s24le_planar,pcm_s24daud,pcm_u32le,pcm_u32be,"
    "pcm_s32le,pcm_s32be,pcm_s32le_planar,pcm_s64le,pcm_s64be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be,pcm_bluray,"
    "pcm_dvd,pcm_lxf,pcm_vidc,adpcm_ima_wav,adpcm_ima_qt,adpcm_ms,adpcm_swf,adpcm_yamaha,"
    "g722,g726,g726le,g729,g723_1,"
    # texts
    "mov_text,subrip,srt,ass,ssa,webvtt,text,"
    # Pictures of texts are never decoded, but ffprobe opens the decoders of all tracks.
    "pgssub,dvdsub,dvbsub,xsub"
)
"""What people's files are made with. The other four hundred decoders have most of the holes and none of the
files."""
LIMITS = (
    *("-codec_whitelist", DECODERS, "-max_streams", str(MAX_STREAMS)),
    *("-max_pixels", str(MAX_PIXELS), "-max_alloc", str(MAX_ALLOC)),
)
"""To be put before an input that a user chose."""

_BASE_BYTES = 512 << 20
_BYTES_A_PIXEL = 130
_BYTES_A_PIXEL_AND_CORE = 8


def memory_for(pixels: int, cores: int | None = None) -> int:
    """Return how much address space an encode may take whose pictures, input and all outputs together,
    have so many pixels.

    With two cores, from H.264 at 720p to 4320p, x264 took up to 65 bytes per pixel of both, VP9 62, AV1 and
    a ladder of four sizes 80, and some 120 MiB more; each further core holds a picture more on either side.
    """
    cores = cores or os.cpu_count() or 1
    return _BASE_BYTES + pixels * (_BYTES_A_PIXEL + _BYTES_A_PIXEL_AND_CORE * min(cores, 32))


_MEMORY = re.compile(
    r"out of memory|cannot allocate memory|memory allocation error|failed to allocate|could not allocate|"
    r"malloc of size \d+ failed|get_buffer\(\) failed|bad_alloc",
    re.IGNORECASE,
)
"""How ffmpeg, x264, libvpx, SVT-AV1 and C++ say it."""


class OutOfMemory(Exception):
    """An encode needs more memory than it may take here; another attempt would end alike."""


def ran_out_of_memory(status: int, words: Iterable[str]) -> bool:
    """Return whether a program that ended like this had no memory left. It may blame its input for it."""
    return status == 256 - errno.ENOMEM or any(map(_MEMORY.search, words))


def sandbox_for(
    command: Sequence[str | Path], workdir: Path | None = None, pixels: int | None = None
) -> Sandbox:
    """Return the sandbox of an ffmpeg or ffprobe with this command line: it reads the files that are named
    as inputs there by their whole path, and reads and writes below `workdir`.

    `pixels` is what `memory_for` wants to know; without, only the worker's own limit counts.
    """
    words = list(map(str, command))
    inputs = [
        Path(word.removeprefix("file:"))
        for flag, word in pairwise(words)
        if flag == "-i" and word.startswith("file:/")
    ]
    return Sandbox(
        read=inputs,
        write=() if workdir is None else [workdir],
        memory_bytes=None if pixels is None else memory_for(pixels),
        cpu_s=CPU_S,
    )
