"""Encode a video for the web, as one file or as a ladder of renditions, or take its sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from headway.sdk.job import Job
from headway.sdk.job_type import Params, job
from headway.sdk.retry import Retry
from headway.sdk.stopping import InvalidInput
from worker.media import ffmpeg
from worker.media.sandbox import OutOfMemory, ran_out_of_memory
from worker.media.source import InputRef, Source, resolve

Preset = Literal["mp4", "webm", "av1", "hls", "audio"]


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
            description="Quality, lower is better: up to 51 for mp4 and hls (23 unless given), "
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


X264 = ("-c:v", "libx264", "-preset", "veryfast")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "6", "-row-mt", "1", "-b:v", "0")
AV1 = ("-c:v", "libsvtav1", "-preset", "10")
# Two channels, because libopus refuses some layouts of more.
AAC = ("-c:a", "aac", "-b:a", "128k", "-ac", "2")
OPUS = ("-c:a", "libopus", "-b:a", "96k", "-ac", "2")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a preset is made. The encoders' speeds are fast ones: progress is for people who wait."""

    artifact: str
    video: tuple[str, ...]
    audio: tuple[str, ...]
    crf: int = 0
    max_crf: int = 63
    options: tuple[str, ...] = ()


RECIPES: dict[Preset, Recipe] = {
    "mp4": Recipe("video.mp4", X264, AAC, 23, 51, ("-movflags", "+faststart")),
    "webm": Recipe("video.webm", VP9, OPUS, 33),
    "av1": Recipe("video.webm", AV1, OPUS, 35),
    "hls": Recipe("hls", X264, AAC, 23, 51),
    "audio": Recipe("audio.m4a", (), AAC, options=("-movflags", "+faststart")),
}

MASTER = "master.m3u8"
SEGMENT_S = 4
LADDER = {240: 400, 360: 800, 480: 1400, 720: 2800, 1080: 5000}
"""Heights of renditions and the kbit/s they may take at most."""
MAX_RENDITIONS = 4


@dataclass(frozen=True, slots=True)
class Input:
    """A source and what is known of it: for a sample, without looking."""

    source: Source
    media: ffmpeg.Media
    sound: str | None
    """ffmpeg's name of the audio stream, as "0:1"."""
    duration_s: float | None
    """Of what will be encoded, after trimming; None if unknown."""

    @property
    def frames(self) -> int | None:
        """How many pictures will be encoded, as far as the file says."""
        video = self.media.video
        if video is None or self.duration_s is None:
            return None
        if video.frames is not None and self.duration_s == self.media.duration_s:
            return video.frames
        return None if video.fps is None else max(1, round(self.duration_s * video.fps))


@job("video.encode", params=EncodeParams, title="Encode a video", retry=Retry(never=(OutOfMemory,)))
def encode(job: Job[EncodeParams]) -> dict[str, Any]:
    params = job.params
    recipe = RECIPES[params.preset]
    if params.crf is not None and params.crf > recipe.max_crf:
        raise InvalidInput(f"crf is at most {recipe.max_crf} for {params.preset}, not {params.crf}")
    with job.plan(probe=1, encode=95, publish=4):
        with job.stage("probe", total=1, unit="steps"):
            found = look(job)
            job.log(describe(found))
        if params.preset == "audio":
            return encode_audio(job, recipe, found)
        if params.preset == "hls":
            return encode_hls(job, recipe, found)
        return encode_file(job, recipe, found)


# -- probe ---------------------------------------------------------------------------------------------


def look(job: Job[EncodeParams]) -> Input:
    """Find the input and see whether it is fit for the preset. Raises InvalidInput."""
    params = job.params
    source = resolve(job, params.input)
    if source.path is None:
        picture = ffmpeg.Video(0, "rawvideo", 1280, 720, 30, max(1, round(source.sample_s * 30)))
        media = ffmpeg.Media(
            "lavfi", source.sample_s, None, picture, ffmpeg.Audio(0, "pcm_s16le", 1, 48000)
        )
        sound: str | None = "1:0"
    else:
        media = ffmpeg.probe(job, source.path, source.name)
        sound = None if media.audio is None else f"0:{media.audio.index}"
    if params.preset == "audio" and sound is None:
        raise InvalidInput(f"{source.name} has no sound")
    if params.preset != "audio" and media.video is None:
        raise InvalidInput(f"{source.name} has no video")
    duration_s = media.duration_s
    if duration_s is not None and params.start_s:
        if params.start_s >= duration_s:
            raise InvalidInput(f"start_s {params.start_s:g} is past the end of the input, {duration_s:g} s")
        duration_s -= params.start_s
    if duration_s is not None and params.duration_s is not None:
        duration_s = min(duration_s, params.duration_s)
    return Input(source, media, sound, duration_s)


def describe(found: Input) -> str:
    video, audio = found.media.video, found.media.audio
    parts = [found.media.format]
    if video is not None:
        parts.append(
            f"{video.codec} {video.width}x{video.height}" + (f" {video.fps:g} fps" if video.fps else "")
        )
    if audio is not None:
        parts.append(f"{audio.codec} {audio.channels} channel{'s' * (audio.channels > 1)}")
    if found.media.duration_s is not None:
        parts.append(f"{found.media.duration_s:.2f} s")
    return f"{found.source.name}: {', '.join(parts)}"


# -- encode --------------------------------------------------------------------------------------------


def encode_file(job: Job[EncodeParams], recipe: Recipe, found: Input) -> dict[str, Any]:
    video = _video(found)
    width, height = size(video.width, video.height, job.params.width, job.params.height)
    out = job.workdir / recipe.artifact
    args: list[str | Path] = [
        *_trimmed(job.params, found),
        *("-map", f"0:{video.index}", "-vf", _scaled(width, height)),
        *recipe.video,
        *("-crf", str(recipe.crf if job.params.crf is None else job.params.crf)),
        *_sound(found, recipe),
        *recipe.options,
        out,
    ]
    frames = _encode(job, found, args)
    with job.stage("publish", total=3, unit="steps") as stage:
        poster = _poster(job, found, width, height)
        stage.advance()
        result = _inspect(job, out, recipe.artifact)
        stage.advance()
        _publish(job, recipe.artifact, out, poster)
    return {**result, "frames": frames}


def encode_hls(job: Job[EncodeParams], recipe: Recipe, found: Input) -> dict[str, Any]:
    video = _video(found)
    params = job.params
    tallest = size(video.width, video.height, params.width, params.height)
    sizes = ladder(*tallest)
    directory = job.workdir / recipe.artifact
    directory.mkdir()
    graph = [f"[0:{video.index}]split={len(sizes)}" + "".join(f"[s{n}]" for n in range(len(sizes)))]
    maps: list[str] = []
    rates: list[str] = []
    variants: list[str] = []
    for n, (width, height) in enumerate(sizes):
        graph.append(f"[s{n}]{_scaled(width, height)}[v{n}]")
        maps += ["-map", f"[v{n}]"]
        limit = _limit_kbits(height)
        rates += [f"-maxrate:v:{n}", f"{limit}k", f"-bufsize:v:{n}", f"{limit * 2}k"]
        variants.append(f"v:{n},name:{height}p" if found.sound is None else f"v:{n},a:{n},name:{height}p")
    if found.sound is not None:
        maps += ["-map", found.sound] * len(sizes)
    args: list[str | Path] = [
        *_trimmed(params, found),
        *("-filter_complex", ";".join(graph)),
        *maps,
        *recipe.video,
        *("-crf", str(recipe.crf if params.crf is None else params.crf)),
        *rates,
        # Every rendition begins a segment at the same picture, so that a player can change between them.
        *("-force_key_frames", f"expr:gte(t,n_forced*{SEGMENT_S})", "-sc_threshold", "0"),
        *(() if found.sound is None else recipe.audio),
        *("-f", "hls", "-hls_time", str(SEGMENT_S), "-hls_playlist_type", "vod"),
        *("-hls_flags", "independent_segments", "-master_pl_name", MASTER),
        *("-var_stream_map", " ".join(variants)),
        *("-hls_segment_filename", directory / "%v" / "%05d.ts", directory / "%v" / "index.m3u8"),
    ]
    frames = _encode(job, found, args)
    with job.stage("publish", total=3, unit="steps") as stage:
        poster = _poster(job, found, *tallest)
        stage.advance()
        first = directory / f"{sizes[-1][1]}p"
        result = _inspect(job, first / "00000.ts", "hls")
        total = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
        duration_s = _playlist_s(first / "index.m3u8")
        stage.advance()
        _publish(job, recipe.artifact, directory, poster, index=MASTER)
    return {
        **result,
        "artifact": f"{recipe.artifact}/{MASTER}",
        "format": "hls",
        "duration_s": duration_s,
        "size": total,
        "bitrate": round(total * 8 / duration_s, 1) if duration_s else None,
        "frames": frames,
        "renditions": [{"width": width, "height": height} for width, height in sizes],
    }


def encode_audio(job: Job[EncodeParams], recipe: Recipe, found: Input) -> dict[str, Any]:
    out = job.workdir / recipe.artifact
    args: list[str | Path] = [
        *_trimmed(job.params, found),
        *_sound(found, recipe),
        "-vn",
        *recipe.options,
        out,
    ]
    with job.stage("encode", total=found.duration_s, unit="s") as stage:
        for tick in _ticks(job, found, args):
            stage.update(round(tick.out_time_s or 0, 3), **_figures(tick))
        stage.total = stage.current
    with job.stage("publish", total=2, unit="steps") as stage:
        result = _inspect(job, out, recipe.artifact)
        stage.advance()
        _publish(job, recipe.artifact, out, None)
    return result


def _encode(job: Job[EncodeParams], found: Input, args: Sequence[str | Path]) -> int:
    """Encode, counting pictures; how many there were in the end."""
    with job.stage("encode", total=found.frames, unit="frames") as stage:
        for tick in _ticks(job, found, args):
            stage.update(tick.frame or 0, **_figures(tick))
        frames = int(stage.current)
        if frames == 0:
            raise InvalidInput(f"no picture of {found.source.name} could be decoded")
        # What the file said of itself was an estimate.
        stage.total = frames
    return frames


def _ticks(job: Job[EncodeParams], found: Input, args: Sequence[str | Path]) -> Iterator[ffmpeg.Tick]:
    try:
        yield from ffmpeg.run(job, args)
    except ffmpeg.FFmpegFailed as error:
        if ran_out_of_memory(error.status, error.words):
            raise OutOfMemory(
                f"encoding {found.source.name} needs more memory than this worker allows "
                "(MAX_MEMORY_BYTES); a smaller width would need less"
            ) from None
        if found.source.path is None or not error.blames_the_input:
            raise
        words = found.source.hide(ffmpeg.last_words(error.words))
        raise InvalidInput(f"{found.source.name} cannot be decoded: {words}") from None


def _figures(tick: ffmpeg.Tick) -> dict[str, Any]:
    """What a person may want to see beside the bar; what ffmpeg does not know is left out."""
    figures = {
        "fps": tick.fps,
        "speed": tick.speed,
        "bitrate": tick.bitrate,
        "size": tick.total_size,
        "time_s": None if tick.out_time_s is None else round(tick.out_time_s, 3),
    }
    return {name: value for name, value in figures.items() if value is not None}


# -- publish -------------------------------------------------------------------------------------------


def _poster(job: Job[EncodeParams], found: Input, width: int, height: int) -> Path | None:
    """A picture from a little after the beginning, which is often black."""
    if not job.params.poster:
        return None
    video = _video(found)
    path = job.workdir / "poster.jpg"
    begin = job.params.start_s or 0
    for at in (begin + min(3.0, (found.duration_s or 0) / 10), begin):
        args = [
            *(("-ss", f"{at:.3f}") if at else ()),
            *found.source.arguments(),
            *("-map", f"0:{video.index}", "-frames:v", "1", "-vf", _scaled(width, height)),
            *("-q:v", "3", "-f", "image2", "-update", "1", path),
        ]
        try:
            for _ in ffmpeg.run(job, args):
                pass
        except ffmpeg.FFmpegFailed as error:
            job.log(f"no poster: {found.source.hide(ffmpeg.last_words(error.words))}", "warning")
            return None
        if path.is_file():
            return path
    return None


def _inspect(job: Job[EncodeParams], path: Path, artifact: str) -> dict[str, Any]:
    """What ffprobe finds in a file that was made here."""
    made = ffmpeg.probe(job, path, artifact)
    result: dict[str, Any] = {
        "artifact": artifact,
        "format": artifact.rpartition(".")[2],
        "duration_s": made.duration_s,
        "size": path.stat().st_size,
        "bitrate": made.bitrate,
        "audio_codec": None if made.audio is None else made.audio.codec,
    }
    if made.video is not None:
        result |= {
            "video_codec": made.video.codec,
            "width": made.video.width,
            "height": made.video.height,
            "fps": made.video.fps,
        }
    return result


def _playlist_s(path: Path) -> float:
    lines = path.read_text().splitlines()
    lengths = [line[len("#EXTINF:") :].rstrip(",") for line in lines if line.startswith("#EXTINF:")]
    return round(sum(map(float, lengths)), 3)


def _publish(
    job: Job[EncodeParams], name: str, path: Path, poster: Path | None, *, index: str | None = None
) -> None:
    """All or nothing: a job that is canceled from here on has succeeded."""
    with job.shield():
        job.artifact(name, path, index=index)
        if poster is not None:
            job.artifact("poster.jpg", poster)


# -- arguments -----------------------------------------------------------------------------------------


def _video(found: Input) -> ffmpeg.Video:
    assert found.media.video is not None  # noqa: S101
    return found.media.video


def _trimmed(params: EncodeParams, found: Input) -> list[str]:
    seek = [] if not params.start_s else ["-ss", f"{params.start_s:g}"]
    inputs = found.source.arguments()
    if seek and found.source.path is None:
        # A sample has two inputs, and each is sought by itself.
        middle = len(inputs) // 2
        inputs = [*inputs[:middle], *seek, *inputs[middle:]]
    length = [] if params.duration_s is None else ["-t", f"{params.duration_s:g}"]
    return [*seek, *inputs, *length]


def _sound(found: Input, recipe: Recipe) -> list[str]:
    return [] if found.sound is None else ["-map", found.sound, *recipe.audio]


def _scaled(width: int, height: int) -> str:
    return f"scale={width}:{height},setsar=1,format=yuv420p"


def size(of_width: int, of_height: int, width: int | None, height: int | None) -> tuple[int, int]:
    """The size to encode: as given, in the shape of the picture, and even, as the encoders want it."""
    if width is None and height is None:
        return _even(of_width), _even(of_height)
    if width is None and height is not None:
        return _even(of_width * height / of_height), height
    if height is None and width is not None:
        return width, _even(of_height * width / of_width)
    assert width is not None  # noqa: S101
    assert height is not None  # noqa: S101
    return width, height


def _even(pixels: float) -> int:
    return max(2, int(pixels) // 2 * 2)


def ladder(width: int, height: int) -> list[tuple[int, int]]:
    """The renditions of a picture of this size, the smallest first; the last is the picture's own size
    or the largest step below it."""
    steps = [step for step in LADDER if step <= height][-MAX_RENDITIONS:]
    if not steps:
        return [(width, height)]
    return [(_even(width * step / height), step) for step in steps]


def _limit_kbits(height: int) -> int:
    return next((limit for step, limit in LADDER.items() if height <= step), LADDER[1080])
