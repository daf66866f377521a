"""The main job with everything real: web under gunicorn, a Celery worker, ffmpeg, Valkey, a reader."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headway.contract.states import State
from tests.support.manual_jobs import running_by_hand
from tests.support.sse import Reader, Seen, follow
from tests.support.stack import Stack
from tests.support.wait import until
from worker.media import ffmpeg

pytestmark = pytest.mark.long


def has_ended(events: list[Seen]) -> bool:
    return events[-1].event == "end"


def everything(stack: Stack, job_id: str) -> list[Seen]:
    with Reader(stack.url, f"/jobs/{job_id}/events", "0") as reader:
        return reader.until_end()


def test_a_real_job_watched_through_200_cuts_gives_what_an_uncut_stream_gives(stack: Stack) -> None:
    job = stack.submit("simulate", {"duration_s": 12, "rate": 50, "log_every": 1, "stages": 3})
    path = f"/jobs/{job['id']}/events"
    uncut: list[Seen] = []
    with Reader(stack.url, path, "0") as reader:
        whole = threading.Thread(target=lambda: uncut.extend(reader.until_end()))
        whole.start()
        cut = follow(stack.url, path, has_ended, cuts=200)
        whole.join(60)
    assert cut == uncut == everything(stack, job["id"])
    assert cut[-1].data["state"] == "succeeded"
    assert sum(e.event == "log" for e in cut) >= 500


def test_20_real_jobs_on_one_connection_through_200_cuts_miss_nothing(stack: Stack) -> None:
    jobs = [
        stack.submit("simulate", {"duration_s": 1, "rate": 50, "log_every": 2}, group="twenty")["id"]
        for _ in range(20)
    ]
    # However fast the others are, this one goes on until there were as many cuts.
    last = running_by_hand(stack, group="twenty")
    jobs.append(last.ref.id)

    def all_ended(events: list[Seen]) -> bool:
        return sum(e.event == "end" for e in events) == len(jobs)

    def followed(path: str) -> list[Seen]:
        after_cuts = threading.Event()
        cut.append(after_cuts)
        return follow(stack.url, path, all_ended, cuts=200, after_cuts=after_cuts)

    cut: list[threading.Event] = []
    as_list = "/events?" + "&".join(f"job={job_id}" for job_id in jobs)
    with ThreadPoolExecutor() as threads:
        feeds = [threads.submit(followed, path) for path in ("/events?group=twenty", as_list)]
        until(lambda: len(cut) == 2 and all(event.is_set() for event in cut), 120, "200 cuts of both")
        stack.store.end(last, State.SUCCEEDED)
        of_group, listed = (feed.result(60) for feed in feeds)

    def in_order(events: list[Seen]) -> list[Seen]:
        return sorted(events, key=lambda e: tuple(map(int, e.id.split("-"))))

    stored = in_order([e for job_id in jobs for e in everything(stack, job_id)])
    assert listed == stored
    # What is said of the group itself is not kept, and told by nobody else.
    of_group = [e for e in of_group if e.event != "group"]
    assert of_group == in_order(of_group)
    assert len({e.id for e in of_group}) == len(of_group)
    assert [e for e in of_group if e.event != "progress"] == [e for e in stored if e.event != "progress"]


def test_a_clip_is_encoded_with_a_bar_that_moves_and_never_falls(stack: Stack, tmp_path: Path) -> None:
    job = stack.submit("video.encode", {"input": "sample:20", "preset": "mp4", "width": 640})
    events = follow(stack.url, f"/jobs/{job['id']}/events", has_ended, cuts=3)
    ended = events[-1].data
    assert ended["state"] == "succeeded", ended["error"]
    fractions = [
        e.data["fraction"] for e in events if e.event == "progress" and e.data["fraction"] is not None
    ]
    assert len(set(fractions)) >= 5
    assert fractions == sorted(fractions)
    assert max(fractions) < 1, "all of it is only there when it succeeded"
    assert ended["progress"]["fraction"] == 1
    made = {artifact["name"]: artifact for artifact in ended["artifacts"]}
    status, headers, body = stack.call("GET", made["video.mp4"]["url"])
    assert (status, headers["content-type"], len(body)) == (200, "video/mp4", made["video.mp4"]["size"])
    video = tmp_path / "video.mp4"
    video.write_bytes(body)
    options, shown = (
        "-v error -count_frames -of default=nw=1 -show_entries",
        "stream=codec_name,width,nb_read_frames",
    )
    probed = subprocess.run(
        [ffmpeg.locate("ffprobe"), *options.split(), shown, video],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert {"codec_name=h264", "width=640", "nb_read_frames=600"} <= set(probed.split())


def test_an_upload_is_encoded_and_one_that_is_no_video_fails_with_ffmpegs_own_words(
    stack: Stack, tmp_path: Path
) -> None:
    sample = stack.submit("video.encode", {"input": "sample:2", "preset": "webm", "width": 320})
    first = stack.wait_ended(sample["id"])
    assert first["state"] == "succeeded", first["error"]
    clip = stack.call("GET", first["artifacts"][0]["url"])[2]
    for content, state in ((clip, "succeeded"), (b"no video at all", "failed"), (clip[:200], "failed")):
        status, _, upload = stack.call("PUT", "/uploads/clip.webm", content)
        assert status == 201
        upload_id = json.loads(upload)["id"]
        job = stack.submit("video.encode", {"input": f"upload:{upload_id}", "preset": "mp4"})
        ended = stack.wait_ended(job["id"])
        assert ended["state"] == state, ended["error"]
        if state == "failed":
            assert ended["error"]["code"] == "invalid_input"
            assert "Traceback" not in ended["error"]["message"]
            assert ended["artifacts"] == []


def test_params_that_no_worker_would_take_are_refused_before_there_is_a_job(stack: Stack) -> None:
    for params in (
        {"input": "sample:5", "preset": "vhs"},
        {"input": "sample:5", "unknown": 1},
        {"preset": "mp4"},
        {"input": "sample:5", "width": "wide"},
    ):
        status, headers, _ = stack.call("POST", "/jobs", {"type": "video.encode", "params": params})
        assert (status, headers["content-type"]) == (422, "application/problem+json")


def test_a_running_job_is_canceled_and_says_so(stack: Stack) -> None:
    job = stack.submit("video.encode", {"input": "sample:600", "preset": "av1"})
    with Reader(stack.url, f"/jobs/{job['id']}/events", "0") as reader:
        for event in reader:
            if event.event == "progress" and event.data["fraction"]:
                assert stack.call("POST", f"/jobs/{job['id']}/cancel")[0] == 202
                break
        rest = reader.until_end()
    assert rest[-1].event == "end"
    ended = rest[-1].data
    assert (ended["state"], ended["error"]["code"]) == ("canceled", "canceled")
    assert ended["artifacts"] == []


def test_attempts_fail_and_the_last_one_succeeds(stack: Stack) -> None:
    job = stack.submit("simulate", {"duration_s": 1, "fail_at": 0.5, "fail_attempts": 2}, max_attempts=3)
    events = follow(stack.url, f"/jobs/{job['id']}/events", has_ended)
    states = [(e.data["state"], e.data["attempt"]) for e in events if e.event == "state"]
    assert states == [
        ("queued", 0), ("running", 1), ("retrying", 1), ("running", 2), ("retrying", 2), ("running", 3),
    ]  # fmt: skip
    assert (events[-1].data["state"], events[-1].data["attempt"]) == ("succeeded", 3)


def test_a_checksum_of_a_file_below_data_dir_is_right(stack: Stack) -> None:
    data = random.Random(1).randbytes(5_000_000)
    (stack.directory / "big.bin").write_bytes(data)
    job = stack.submit("file.checksum", {"input": "file:big.bin"})
    ended = stack.wait_ended(job["id"])
    assert ended["state"] == "succeeded", ended["error"]
    assert hashlib.sha256(data).hexdigest() in str(ended["result"])
    job = stack.submit("file.checksum", {"input": "file:../../../../../etc/passwd"})
    assert stack.wait_ended(job["id"])["error"]["code"] == "invalid_input"
