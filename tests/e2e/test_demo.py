"""`make demo`: the main job by itself, and one clear line when it fails."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.support.command import make, service
from tests.support.stack import Stack
from tests.support.wait import until

pytestmark = pytest.mark.long


def test_it_encodes_cuts_resumes_checks_and_leaves_only_the_result(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with make("demo", data=tmp_path / "var", TMPDIR=str(scratch)) as demo:
        assert demo.wait(200) == 0, demo.output
        demo.nothing_left()
        moved = [int(number) for number in re.findall(r"bar +moved (\d+) times", demo.output)]
        assert moved[-1] >= 20, demo.output
        assert len(re.findall(r"(?m)  running  \d+ %.*  encode 2/3 ", demo.output)) >= 20
        assert "cut      the stream" in demo.output
        missed = re.search(r"none missing, none double; (\d+) of them came after the cut", demo.output)
        assert missed, demo.output
        assert int(missed[1]) > 0
        assert re.search(r"(?m)^video    h264\+aac, \d+x\d+, [\d.]+ s, as ffprobe reads it$", demo.output)
        result = re.search(r"result   (\S+\.mp4) \([\d,]+ bytes\)", demo.output)
        assert result, demo.output
        assert Path(result[1]).is_relative_to(tmp_path / "var" / "demo")
        assert Path(result[1]).stat().st_size > 100_000
        assert re.search(r"done     in [\d.]+ s\n$", demo.output)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_interrupted_and_leaves_nothing(tmp_path: Path, signum: int) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with service("demo", data=tmp_path / "var", TMPDIR=str(scratch)) as demo:
        until(lambda: "%" in demo.output, what="the bar")
        demo.process.send_signal(signum)
        assert demo.wait(15) == 130
        demo.nothing_left()
        assert "Traceback" not in demo.output
    assert list(scratch.iterdir()) == []


def test_killed_it_takes_its_stack_with_it(tmp_path: Path) -> None:
    with service("demo", data=tmp_path / "var", TMPDIR=str(tmp_path)) as demo:
        until(lambda: "%" in demo.output, what="the bar")
        demo.process.kill()
        demo.nothing_left(15)


def test_it_uses_the_headway_it_is_given_and_leaves_it_alone(stack: Stack, tmp_path: Path) -> None:
    with service("demo", data=tmp_path / "var", HEADWAY_URL=stack.url + "/") as demo:
        until(lambda: "%" in demo.output, what="the bar")
        assert demo.output.startswith(f"Headway at {stack.url}, ready after 0.")
        assert not any("valkey" in line for line in demo.processes().values())
        demo.process.send_signal(signal.SIGINT)
        assert demo.wait(15) == 130
        demo.nothing_left()
    assert stack.get("/readyz")[0] == 200
    for job in stack.get("/jobs?type=video.encode&state=running")[1]["items"]:
        stack.call("POST", f"/jobs/{job['id']}/cancel", b"")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"HEADWAY_URL": "http://127.0.0.1:9"}, "http://127.0.0.1:9 does not answer: .*refused"),
        ({"HEADWAY_URL": "ftp://127.0.0.1"}, "is not the URL of a Headway, such as http://"),
    ],
)
def test_a_failure_is_one_clear_line_and_exit_1(
    tmp_path: Path, environ: dict[str, str], words: str
) -> None:
    with service("demo", data=tmp_path / "var", **environ) as demo:
        assert demo.wait(60) == 1
        assert demo.output.count("\n") == 1
        assert re.search(rf"headway: the demo failed: .*{words}", demo.output), demo.output


def test_a_bad_setting_is_one_clear_line_and_exit_2(tmp_path: Path) -> None:
    with service("demo", data=tmp_path / "var", LEASE_S="soon") as demo:
        assert demo.wait(60) == 2
        assert demo.output.startswith("headway: LEASE_S='soon'")
