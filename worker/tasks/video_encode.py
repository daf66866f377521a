"""Encode a video for the web, as one file or as a ladder of renditions, or take its sound."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from headway.sdk.job import Job
from headway.sdk.job_type import Params, job
from headway.sdk.retry import Retry
from headway.sdk.stopping import InvalidInput, NoSpace
from worker.media import failure, ffmpeg, hls, tonemap, verify
from worker.media.command import (
    RECIPES,
    TONEMAP,
    Picture,
    Preset,
    Recipe,
    decoder_arguments,
    metadata_arguments,
    output_rate,
    pictures,
    size,
    sound_arguments,
    sound_filters,
    video_arguments,
)
from worker.media.inspection import Input, look
from worker.media.pauses import APART_S, JUMP_S
from worker.media.poster import POSTER, make_poster
from worker.media.probe import Video
from worker.media.said import Said
from worker.media.sandbox import OutOfMemory
from worker.media.source import InputRef, fetching, resolve
from worker.media.tags import tags_within
from worker.media.yardstick import Yardstick


class EncodeParams(Params):
    input: InputRef
    preset: Annotated[
        Preset,
        Field(
            title="Preset",
            description=(
                "mp4: H.264 and AAC. webm: VP9 and Opus. av1: AV1 and Opus in WebM. hls: H.264 in several "
                "sizes for adaptive streaming. audio: only the sound, as AAC."
            ),
        ),
    ] = "mp4"
    width: Annotated[
        int | None,
        Field(
            ge=16,
            le=7680,
            multiple_of=2,
            title="Width",
            description="Pixels. With only one of width and height, the shape of the picture is kept.",
        ),
    ] = None
    height: Annotated[
        int | None,
        Field(
            ge=16,
            le=4320,
            multiple_of=2,
            title="Height",
            description="Pixels. For hls the height of the largest rendition.",
        ),
    ] = None
    crf: Annotated[
        int | None,
        Field(
            ge=0,
            le=63,
            title="CRF",
            description="Quality, lower is better, 0 like 1: up to 51 for mp4 and hls (23 unless given), "
            "up to 63 for webm (33) and av1 (35).",
        ),
    ] = None
    start_s: Annotated[
        float | None, Field(ge=0, le=1e6, title="Start", description="Begin this many seconds in.")
    ] = None
    duration_s: Annotated[
        float | None, Field(gt=0, le=1e6, title="Duration", description="Encode at most this many seconds.")
    ] = None
    poster: Annotated[bool, Field(title="Poster", description="Also make a still picture, poster.jpg.")] = (
        True
    )
    keep_metadata: Annotated[
        bool,
        Field(
            title="Keep metadata",
            description="Keep what the source tells of its making: place, device, date, title. "
            "Otherwise all of it is removed.",
        ),
    ] = False


NEVER_AGAIN = (OutOfMemory, failure.EncoderCrashed, verify.ResultUnfit, ffmpeg.FFmpegFailed)
"""What would end alike at another attempt."""


@job("video.encode", params=EncodeParams, title="Encode a video", retry=Retry(never=NEVER_AGAIN))
def encode(job: Job[EncodeParams]) -> dict[str, Any]:
    params = job.params
    recipe = RECIPES[params.preset]
    if params.crf is not None and params.crf > recipe.max_crf:
        raise InvalidInput(f"crf is at most {recipe.max_crf} for {params.preset}, not {params.crf}")
    download = fetching(job, params.input)
    with job.plan(**download, probe=1, encode=95, publish=4):
        source = resolve(job, params.input) if download else None
        with job.stage("probe", total=1, unit="steps"):
            found = look(
                job,
                source or resolve(job, params.input),
                picture=params.preset != "audio",
                start_s=params.start_s,
                duration_s=params.duration_s,
            )
            job.log(str(found))
        make = {"audio": encode_audio, "hls": encode_hls}.get(params.preset, encode_file)
        try:
            return make(job, recipe, found)
        except verify.SoundTwice:
            # The silence before a sound that begins late came again where the sound changes its format.
            job.log(f"the sound of {found.source.name} changes its format: it is encoded once more")
            shutil.rmtree(job.workdir / recipe.artifact, ignore_errors=True)
            return make(job, recipe, replace(found, cut=replace(found.cut, sound_from_zero=True)))


def encode_file(job: Job[EncodeParams], recipe: Recipe, found: Input) -> dict[str, Any]:
    picture = _picture(job, recipe, found)
    args = [
        *("-map", f"0:{picture.video.index}", "-vf", picture.filters, "-fps_mode", "vfr"),
        *_encoders(job.params, recipe, found, picture),
        *(() if found.sound is None else ("-map", found.sound)),
        *recipe.options,
        recipe.artifact,
    ]
    said = _encode(job, found, args, picture.rate, picture.width * picture.height)
    out = job.workdir / recipe.artifact
    with job.stage("publish", total=3, unit="steps") as stage:
        with _looking(job, found, said):
            made = _look_at(job, recipe, found, (picture.width, picture.height), out)
            verify.decode_ends(job, [(out, made.duration_s)])
        warnings = _warnings(job, found, said, made.duration_s)
        stage.advance()
        poster = _poster(job, found, picture, out, made.duration_s)
        stage.advance()
        _publish(job, recipe.artifact, out, poster)
    return {**_result(recipe, made, picture), "warnings": warnings}


def encode_hls(job: Job[EncodeParams], recipe: Recipe, found: Input) -> dict[str, Any]:
    picture = _picture(job, recipe, found)
    renditions = hls.ladder(picture.width, picture.height)
    directory = job.workdir / recipe.artifact
    directory.mkdir()
    sounds = [] if found.sound is None else ["-map", found.sound] * len(renditions)
    args = [
        *hls.graph(picture, renditions),
        *sounds,
        *("-fps_mode", "vfr"),
        *_encoders(job.params, recipe, found, picture),
        *hls.arguments(renditions, sound=found.audio is not None),
    ]
    pixels = sum(rendition.width * rendition.height for rendition in renditions)
    said = _encode(job, found, args, picture.rate, pixels)
    with job.stage("publish", total=3, unit="steps") as stage:
        with _looking(job, found, said):
            playlists = hls.finish(directory, renditions, picture.rate, sound=found.audio is not None)
            length_s = playlists[-1].duration_s
            for rendition, playlist in zip(renditions, playlists, strict=True):
                shape = (rendition.width, rendition.height)
                made = _look_at(job, recipe, found, shape, playlist.path)
                verify.check_pictures(made, pictures(length_s, picture.rate))
            ends = [segment for playlist in playlists for segment in playlist.ends]
            silent = [segment for segment in ends if not hls.has_sound(segment)]
            verify.decode_ends(job, [(segment, 0.0) for segment in ends], silent)
        warnings = _warnings(job, found, said, length_s)
        stage.advance()
        poster = _poster(job, found, picture, playlists[-1].path, length_s)
        bytes_made = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
        stage.advance()
        _publish(job, recipe.artifact, directory, poster, index=hls.MASTER)
    return {
        **_result(recipe, made, picture),
        "artifact": f"{recipe.artifact}/{hls.MASTER}",
        "format": "hls",
        "duration_s": length_s,
        "size": bytes_made,
        "bitrate": round(bytes_made * 8 / length_s, 1),
        "renditions": [{"width": rendition.width, "height": rendition.height} for rendition in renditions],
        "warnings": warnings,
    }


def encode_audio(job: Job[EncodeParams], recipe: Recipe, found: Input) -> dict[str, Any]:
    assert found.sound is not None  # noqa: S101
    args = [
        *("-map", found.sound, "-vn"),
        *_encoders(job.params, recipe, found),
        *recipe.options,
        recipe.artifact,
    ]
    said = _encode(job, found, args, None)
    out = job.workdir / recipe.artifact
    with job.stage("publish", total=2, unit="steps") as stage:
        with _looking(job, found, said):
            made = _look_at(job, recipe, found, None, out)
            verify.decode_ends(job, [(out, made.duration_s)])
        warnings = _warnings(job, found, said, made.duration_s)
        stage.advance()
        _publish(job, recipe.artifact, out, None)
    return {**_result(recipe, made, None), "warnings": warnings}


# -- encode --------------------------------------------------------------------------------------------


def _picture(job: Job[EncodeParams], recipe: Recipe, found: Input) -> Picture:
    """What the pictures become. Writes the table that HDR needs. Raises InvalidInput for a size that the
    preset cannot have."""
    params, video = job.params, found.video
    assert video is not None  # noqa: S101
    width, height = size(video.width, video.height, params.width, params.height)
    least, (widest, highest) = recipe.min_side, recipe.max_size
    if not (least <= width <= widest and least <= height <= highest):
        raise InvalidInput(
            f"{found.source.name} would become {width}x{height}, and {params.preset} takes "
            f"{least}x{least} to {widest}x{highest}: give a width or a height"
        )
    if tonemap.needed(video.color):
        (job.workdir / TONEMAP).write_text(tonemap.table(video.color, video.peak_nits))
    streamed = params.preset == "hls"
    rate = output_rate(found.rate, length_s=found.cut.length_s, whole=streamed or found.sound_is_longer)
    return Picture(video, width, height, rate, found.cut, from_zero=streamed)


def _inputs(found: Input) -> list[str]:
    options = [*decoder_arguments(found.video), *_steady(found.video)]
    if found.cut.seek_s:
        # The picture on show at the start may have begun long before: the filters cut, not the seek.
        options += ["-ss", f"{found.cut.seek_s:g}", "-noaccurate_seek"]
    if found.scan.jump_s != JUMP_S:
        options += ["-dts_delta_threshold", f"{found.scan.jump_s:.3f}"]
    # What is behind the end of the scan may pause.
    told = () if found.scan.complete else ffmpeg.JUMPS_TOLD
    # As much as can be decoded: how much that was is looked at afterwards.
    return [*told, "-max_error_rate", "1", *found.source.arguments(options)]


def _steady(video: Video | None) -> tuple[str, ...]:
    steady = video is not None and not video.interlaced and not video.rotation
    return ("-reinit_filter:v", "0") if steady else ()


def _encoders(
    params: EncodeParams, recipe: Recipe, found: Input, picture: Picture | None = None
) -> list[str]:
    args: list[str] = []
    if picture is not None:
        args += video_arguments(recipe, params.crf, picture.width, picture.height)
    if picture is not None and found.audio is not None:
        # However far apart pictures are: sound that is written ahead of them is in the wrong segment.
        args += ["-max_interleave_delta", "0"]
    if found.audio is not None:
        # MP4 and WebM can say that a track begins later; a segment, or sound alone, had better not.
        filters = sound_filters(found.cut, found.audio, from_zero=params.preset in ("hls", "audio"))
        args += ["-af", filters, *sound_arguments(recipe, found.audio)]
    return [*args, *metadata_arguments(recipe, params.keep_metadata)]


def _encode(
    job: Job[EncodeParams], found: Input, args: Sequence[str | Path], rate: Fraction | None, pixels: int = 0
) -> Said:
    """Encode in the working directory, reporting progress; returns what ffmpeg said meanwhile. `args` are
    those of the output, `pixels` those of all pictures that are made at a time.

    Once more if a track paused behind the end of the scan, so long that ffmpeg took it for a new start."""
    said = _encode_once(job, found, args, rate, pixels)
    if not said.pause_s:
        return said
    job.log(f"a track of {found.source.name} pauses for {said.pause_s:.0f} s: it is encoded once more")
    found.scan.jump_s = said.pause_s + APART_S
    # There may have been more segments.
    shutil.rmtree(job.workdir / RECIPES["hls"].artifact, ignore_errors=True)
    return _encode_once(job, found, args, rate, pixels)


def _encode_once(
    job: Job[EncodeParams], found: Input, args: Sequence[str | Path], rate: Fraction | None, pixels: int
) -> Said:
    if found.video is not None:
        pixels += found.video.width * found.video.height
    said = Said(found.media.said)
    path = found.source.path
    yardstick = Yardstick.of(found.cut.length_s, rate, path)
    follow = path if yardstick.by_position else None
    args = [*_inputs(found), *args]
    with job.stage("encode", total=yardstick.total, unit=yardstick.unit) as stage:
        with _explained(job, found):
            for tick in ffmpeg.run(job, args, said, cwd=job.workdir, follow=follow, pixels=pixels or None):
                yardstick.note(stage, tick)
        # What was measured before may have been an estimate.
        stage.total = stage.current or None
    return said


@contextmanager
def _explained(job: Job[EncodeParams], found: Input) -> Iterator[None]:
    try:
        yield
    except ffmpeg.FFmpegFailed as error:
        raise failure.explain(error, found.source.name, found.source.path, job.workdir) from None


@contextmanager
def _looking(job: Job[EncodeParams], found: Input, said: Said) -> Iterator[None]:
    """While a result is looked at: what is wrong with it may be that there was no room for it, or too
    little to make it of."""
    try:
        yield
    except (verify.ResultUnfit, hls.BadPlaylist, InvalidInput, ffmpeg.FFmpegFailed) as error:
        if isinstance(error, verify.SoundTwice) and not found.cut.sound_from_zero:
            raise
        # There may be room again by now.
        if isinstance(error, hls.Unwritten) or failure.is_full([str(error)], job.workdir):
            raise NoSpace(failure.full(found.source.name)) from None
        if said.complaints or found.scan.cut:
            raise InvalidInput(
                f"{found.source.name} is damaged beyond use: what is left makes a result, but {error}"
            ) from None
        raise verify.ResultUnfit(
            f"{found.source.name} was encoded, but the result is not fit: {error}"
        ) from None


# -- publish -------------------------------------------------------------------------------------------


def _look_at(
    job: Job[EncodeParams], recipe: Recipe, found: Input, shape: tuple[int, int] | None, path: Path
) -> verify.Made:
    made = verify.examine(job, path, recipe.artifact)
    verify.check_streams(made, recipe.codecs, shape=shape, sound=found.audio is not None)
    return made


def _warnings(job: Job[EncodeParams], found: Input, said: Said, made_s: float) -> list[str]:
    """All that the result lacks, the newly found also logged. Raises InvalidInput if that is nearly all."""
    packets = found.scan.of(found.video).packets
    path = found.source.path
    # A large file is not read once more for nothing.
    tags = tags_within(path, found.media.formats) if said.lost_sounds and path is not None else 0
    lost = verify.losses(found.source.name, found.cut.length_s, made_s, said, packets, tags)
    for warning in lost.words:
        job.log(warning, "warning")
    if lost.share > verify.MOST_LOST:
        raise InvalidInput(f"{found.source.name} is damaged beyond use: {'; '.join(lost.words)}")
    return [*found.warnings, *lost.words]


def _poster(
    job: Job[EncodeParams], found: Input, picture: Picture, made: Path, length_s: float
) -> Path | None:
    if not job.params.poster:
        return None
    inputs = [*_inputs(found), "-map", f"0:{picture.video.index}", "-vf", picture.filters]
    return make_poster(job, found.source, made, length_s, inputs)


def _result(recipe: Recipe, made: verify.Made, picture: Picture | None) -> dict[str, Any]:
    result: dict[str, Any] = {
        "artifact": recipe.artifact,
        "format": recipe.artifact.rpartition(".")[2],
        "duration_s": made.duration_s,
        "size": made.size,
        "bitrate": made.media.bitrate,
        "audio_codec": next((audio.codec for audio in made.media.audios), None),
    }
    if picture is not None:
        result |= {
            "video_codec": recipe.codecs[0],
            "width": picture.width,
            "height": picture.height,
            "fps": round(float(picture.rate), 3),
            "frames": made.pictures or pictures(made.duration_s, picture.rate),
        }
    return result


def _publish(
    job: Job[EncodeParams], name: str, path: Path, poster: Path | None, *, index: str | None = None
) -> None:
    """All or nothing: a job that is canceled from here on has succeeded."""
    kept = [job.keep(name, path, index=index)]
    if poster is not None:
        kept.append(job.keep(POSTER, poster))
    with job.shield():
        for artifact in kept:
            job.publish(artifact)
