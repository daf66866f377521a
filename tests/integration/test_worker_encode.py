"""video.encode and file.checksum with a real ffmpeg."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.contract.records import Job
from headway.contract.states import ErrorCode, State
from tests.support.small_disk import small_disk
from tests.support.worker_stack import WorkerStack

SECOND = ("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=1")
TONE = ("-f", "lavfi", "-i", "sine=duration=1")
FAST = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def succeeded(job: Job) -> Job:
    assert job.error is None
    assert job.state is State.SUCCEEDED
    return job


def invalid(job: Job) -> str:
    """The message of a job that failed because of its input, at the first attempt."""
    assert job.state is State.FAILED
    assert job.attempt == 1
    assert job.error is not None
    assert job.error.code is ErrorCode.INVALID_INPUT
    assert "\n" not in job.error.message
    return job.error.message


@pytest.mark.parametrize(
    ("preset", "artifact", "media_type", "video", "audio"),
    [
        ("mp4", "video.mp4", "video/mp4", "h264", "aac"),
        ("webm", "video.webm", "video/webm", "vp9", "opus"),
        ("av1", "video.webm", "video/webm", "av1", "opus"),
        ("audio", "audio.m4a", "audio/mp4", None, "aac"),
    ],
)
def test_each_preset_makes_what_it_says(
    worker_stack: WorkerStack,
    preset: str,
    artifact: str,
    media_type: str,
    video: str | None,
    audio: str,
) -> None:
    job = succeeded(worker_stack.do("video.encode", input="sample:1", preset=preset))
    assert job.result["artifact"] == artifact
    assert job.result.get("video_codec") == video
    assert job.result["audio_codec"] == audio
    assert job.result["duration_s"] == pytest.approx(1, abs=0.1)
    assert (job.artifacts[0].name, job.artifacts[0].media_type) == (artifact, media_type)
    for shown in job.artifacts:
        assert worker_stack.artifact(job, shown.name).stat().st_size == shown.size
    if video is not None:
        assert (job.result["width"], job.result["height"], job.result["frames"]) == (1280, 720, 30)
        assert worker_stack.artifact(job, "poster.jpg").read_bytes().startswith(b"\xff\xd8")
    assert worker_stack.work_files() == []


def test_frames_are_counted_against_what_the_input_promises(worker_stack: WorkerStack) -> None:
    job = succeeded(worker_stack.do("video.encode", input="sample:3", preset="mp4"))
    encode = [
        e.data
        for e in worker_stack.events(job.id, "progress")
        if e.data["stage"]["name"] == "encode" and e.data["current"] > 0
    ]
    assert {e["total"] for e in encode} == {90}
    assert {e["unit"] for e in encode} == {"frames"}
    assert [e["current"] for e in encode] == sorted(e["current"] for e in encode)
    assert {"fps", "speed", "size", "time_s"} <= set(encode[-1]["data"])
    stages = [e.data["stage"]["name"] for e in worker_stack.events(job.id, "progress")]
    assert list(dict.fromkeys(stages))[-2:] == ["encode", "publish"]


def test_hls_has_a_ladder_and_every_file_of_it(worker_stack: WorkerStack) -> None:
    job = succeeded(worker_stack.do("video.encode", input="sample:5", preset="hls", height=480))
    assert [r["height"] for r in job.result["renditions"]] == [240, 360, 480]
    assert job.result["duration_s"] == pytest.approx(5, abs=0.1)
    assert job.artifacts[0].name == "hls/master.m3u8"
    master = worker_stack.artifact(job, "hls/master.m3u8")
    playlists = [line for line in master.read_text().splitlines() if line and not line.startswith("#")]
    assert playlists == ["240p/index.m3u8", "360p/index.m3u8", "480p/index.m3u8"]
    for playlist in playlists:
        lines = (master.parent / playlist).read_text().splitlines()
        segments = [line for line in lines if line and not line.startswith("#")]
        assert len(segments) == 2, "they begin at the same pictures"
        assert all((master.parent / playlist).with_name(segment).is_file() for segment in segments)


def test_an_artifact_and_an_upload_can_be_inputs(worker_stack: WorkerStack) -> None:
    first = succeeded(worker_stack.do("video.encode", input="sample:1", poster=False, width=320))
    assert [a.name for a in first.artifacts] == ["video.mp4"]
    assert (first.result["width"], first.result["height"]) == (320, 180)
    content = worker_stack.artifact(first, "video.mp4").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    for reference in (f"artifact:{first.id}/video.mp4", worker_stack.upload(content)):
        job = succeeded(worker_stack.do("file.checksum", input=reference))
        assert job.result == {"algorithm": "sha256", "hexdigest": digest, "size": len(content)}
        assert job.progress is not None
        assert job.progress.unit == "bytes"
    stranger = worker_stack.do("file.checksum", input=f"artifact:{first.id}/video.mp4", owner="stranger")
    assert "there is no artifact" in invalid(stranger)


def test_a_part_can_be_cut_out(worker_stack: WorkerStack) -> None:
    job = succeeded(
        worker_stack.do(
            "video.encode", input="sample:4", start_s=1, duration_s=1.5, height=120, poster=False
        )
    )
    assert job.result["duration_s"] == pytest.approx(1.5, abs=0.1)
    assert job.result["frames"] == 45
    film = worker_stack.film("cut.mp4", *SECOND, *TONE, *FAST)
    job = succeeded(worker_stack.do("video.encode", input=film, start_s=0.6))
    assert job.result["frames"] == 10
    assert "past the end" in invalid(worker_stack.do("video.encode", input=film, start_s=9))


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("silent.mp4", (*SECOND, *FAST), {"audio_codec": None, "width": 160, "height": 120}),
        (
            "odd.mkv",
            ("-f", "lavfi", "-i", "testsrc2=size=161x121:rate=25:duration=1", "-c:v", "mpeg4"),
            {"width": 160, "height": 120},
        ),
        (
            "vfr.mkv",
            (*SECOND, "-vf", "select='not(mod(n,3))'", "-fps_mode", "vfr", *FAST),
            {"frames": 9},
        ),
        ("flat.mp4", (*SECOND, "-vf", "setsar=2/1", *FAST), {"width": 320, "height": 120}),
        ("moving.gif", SECOND, {"width": 160, "height": 120, "audio_codec": None}),
        ("stream.ts", (*SECOND, *TONE, *FAST), {"frames": 25}),
    ],
)
def test_unusual_inputs_are_encoded(
    worker_stack: WorkerStack, name: str, args: tuple[str, ...], expected: dict[str, object]
) -> None:
    job = succeeded(worker_stack.do("video.encode", input=worker_stack.film(name, *args)))
    assert {key: job.result[key] for key in expected} == expected


def test_a_rotated_video_stands_upright(worker_stack: WorkerStack) -> None:
    worker_stack.film("upright.mp4", *SECOND, *FAST)
    film = worker_stack.film("turned.mp4", "-display_rotation", "90", "-i", "upright.mp4", "-c", "copy")
    job = succeeded(worker_stack.do("video.encode", input=film, width=60))
    assert (job.result["width"], job.result["height"]) == (60, 80)


def test_an_input_that_does_not_tell_its_length_is_measured(worker_stack: WorkerStack) -> None:
    # As a browser's MediaRecorder writes it: without a duration.
    film = worker_stack.film(
        "live.webm",
        *("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=6"),
        *("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-live", "1"),
    )
    job = succeeded(worker_stack.do("video.encode", input=film, preset="mp4"))
    encode = [
        e.data for e in worker_stack.events(job.id, "progress") if e.data["stage"]["name"] == "encode"
    ]
    assert encode
    assert {data["total"] for data in encode} == {150}
    assert all(data["current"] <= data["total"] for data in encode)
    assert job.result["frames"] == 150
    assert job.progress is not None
    assert job.progress.fraction == 1


def test_half_a_film_is_encoded_and_both_log_and_result_say_so(worker_stack: WorkerStack) -> None:
    worker_stack.film("whole.mp4", *SECOND, *TONE, *FAST, "-g", "5", "-movflags", "+faststart")
    whole = (worker_stack.directory / "films" / "whole.mp4").read_bytes()
    reference = worker_stack.upload(whole[: len(whole) // 2], "half.mp4")
    job = succeeded(worker_stack.do("video.encode", input=reference))
    assert job.attempt == 1
    [warning, *_] = job.result["warnings"]
    assert warning.startswith("half.mp4 is cut off or damaged: 0.")
    logs = [e.data for e in worker_stack.events(job.id, "log")]
    assert [log["message"] for log in logs if log["level"] == "warning"] == job.result["warnings"]


def test_sound_alone_is_no_video_and_a_cover_is_none_either(worker_stack: WorkerStack) -> None:
    assert invalid(worker_stack.do("video.encode", input=worker_stack.film("tone.wav", *TONE))) == (
        "tone.wav has no video"
    )
    worker_stack.film("cover.jpg", *SECOND, "-frames:v", "1", "-update", "1")
    film = worker_stack.film(
        "song.mp3",
        *TONE,
        *("-i", "cover.jpg", "-map", "0", "-map", "1", "-c:v", "copy"),
        "-disposition:v",
        "attached_pic",
    )
    assert "has no video" in invalid(worker_stack.do("video.encode", input=film))
    succeeded(worker_stack.do("video.encode", input=film, preset="audio"))
    silent = worker_stack.film("silent.mp4", *SECOND, *FAST)
    assert "has no sound" in invalid(worker_stack.do("video.encode", input=silent, preset="audio"))


def test_what_is_no_media_fails_with_ffmpegs_own_words_and_no_path(worker_stack: WorkerStack) -> None:
    worker_stack.film("whole.mp4", *SECOND, *FAST)
    whole = (worker_stack.directory / "films" / "whole.mp4").read_bytes()
    for content in (b"just text\n", b"", whole[:5000], bytes(range(256)) * 400):
        message = invalid(worker_stack.do("video.encode", input=worker_stack.upload(content, "mine.mp4")))
        assert ("Invalid data found when processing input" if content else "it is empty") in message
        assert "mine.mp4" in message
        assert str(worker_stack.directory) not in message


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list.ffconcat"])
def test_a_playlist_cannot_make_ffmpeg_read_other_files(worker_stack: WorkerStack, name: str) -> None:
    worker_stack.film("secret.ts", *SECOND, *FAST)
    films = worker_stack.directory / "films"
    if name.endswith("ffconcat"):
        # It may only name files beside it, without a flag.
        text = "ffconcat version 1.0\nfile secret.ts\n"
    else:
        text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{films}/secret.ts\n#EXT-X-ENDLIST\n"
    (films / name).write_text(text)
    for reference in (f"file:films/{name}", worker_stack.upload(text.encode(), name)):
        job = worker_stack.do("video.encode", input=reference)
        assert "cannot be read as media" in invalid(job)
        assert job.artifacts == []


@pytest.mark.parametrize(
    "reference",
    [
        "file:/etc/passwd",
        "file:../../../../../../etc/passwd",
        "file:films/link",
        "file:films",
        "file:valkey/valkey.log",
        "file:uploads/../valkey/valkey.log",
        "file:films/second-name",
        "file:films/fifo",
        "file:run.lock",
        "file:Secret",
        "file:.hidden",
        "file:nothing",
        "file:nul\0byte",
        "upload:../valkey",
        "upload:AAAAAAAAAAAAAAAAAAAAAA",
        "artifact:0-AAAAAAAAAAAAAAAAAAAAAA/video.mp4",
        "artifact:nonsense",
        "sample:0",
        "sample:nan",
        "sample:3601",
        "sample:1:size=9x9",
    ],
)
def test_a_reference_to_what_may_not_be_read_is_invalid(worker_stack: WorkerStack, reference: str) -> None:
    link = worker_stack.directory / "films" / "link"
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(Path("/etc/passwd"))
        (link.parent / "second-name").hardlink_to(worker_stack.directory / "valkey" / "valkey.conf")
        os.mkfifo(link.parent / "fifo")
    for name in ("run.lock", "Secret", ".hidden"):
        (worker_stack.directory / name).touch()
    message = invalid(worker_stack.do("file.checksum", input=reference))
    assert str(worker_stack.directory) not in message


def test_what_another_owner_uploaded_or_made_is_as_absent(worker_stack: WorkerStack) -> None:
    upload = worker_stack.upload(b"secret", "secret.txt")
    made = worker_stack.do("video.encode", input="sample:0.2", poster=False)
    for reference in (upload, f"artifact:{made.id}/{made.artifacts[0].name}"):
        kind, rest = reference.split(":")
        absent = f"{kind}:" + ("A" * 22 if kind == "upload" else f"0-{'A' * 22}/{rest.partition('/')[2]}")
        words = {
            invalid(worker_stack.do("file.checksum", owner="eve", input=r)).replace(
                r.partition(":")[2], "X"
            )
            for r in (reference, absent)
        }
        assert len(words) == 1, words
        assert worker_stack.do("file.checksum", input=reference).result["size"] > 0


def test_a_crf_that_the_codec_does_not_know_is_invalid(worker_stack: WorkerStack) -> None:
    assert "at most 51" in invalid(worker_stack.do("video.encode", input="sample:1", crf=60))


@pytest.fixture
def small_artifacts(tmp_path: Path) -> Iterator[Path]:
    """A DATA_DIR whose artifacts have a disk of their own, of 64 KiB."""
    with small_disk(tmp_path / "artifacts", "size=64k"):
        yield tmp_path


@pytest.mark.long
def test_an_encode_that_makes_more_than_it_may_fails_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    with WorkerStack(tmp_path, LEASE_S="12", MAX_OUTPUT_BYTES="400000") as stack:
        # A film of its own is one file; of a ladder, each file is small.
        for params in ({"preset": "mp4", "crf": 5}, {"preset": "hls"}):
            job = stack.do("video.encode", input="sample:20", **params)
            assert "larger than 400000 bytes together (MAX_OUTPUT_BYTES)" in invalid(job)
            assert not job.artifacts
            assert stack.work_files() == []
            assert not list((tmp_path / "artifacts").glob(f"{job.id}/*/*"))
        succeeded(stack.do("video.encode", input="sample:1", preset="mp4", height=64, poster=False))


@pytest.mark.long
def test_a_disk_that_is_full_when_the_artifacts_are_moved_is_told_as_such(small_artifacts: Path) -> None:
    with WorkerStack(small_artifacts, LEASE_S="12") as stack:
        for preset in ("mp4", "hls"):
            job = stack.do("video.encode", input="sample:2", preset=preset, crf=10)
            assert job.error is not None
            assert (job.error.code, job.attempt) == (ErrorCode.NO_SPACE, 1)
            assert not job.artifacts
            assert stack.work_files() == []
            kept = small_artifacts / "artifacts" / job.id
            assert [file for file in kept.rglob("*") if file.is_file()] == []
        succeeded(stack.do("video.encode", input="sample:1", preset="mp4", height=64, poster=False))
