"""What ffmpeg may touch and take, and which ffmpeg is too old."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from headway.sdk.sandbox import Policy, Sandbox
from worker.media import ffmpeg, release
from worker.media.sandbox import DECODERS, LIMITS, memory_for, sandbox_for

MIB = 1 << 20


def test_an_encoder_reads_its_inputs_and_writes_its_working_directory() -> None:
    command = ["ffmpeg", "-f", "lavfi", "-i", "testsrc", *LIMITS, "-i", "file:/d/in put", "/w/out.mp4"]
    box = sandbox_for(command, Path("/w"), 1000)
    assert (box.read, box.write, box.run, box.processes) == ([Path("/d/in put")], [Path("/w")], (), False)
    assert box.memory_bytes == memory_for(1000)
    probe = sandbox_for(["ffprobe", "-i", "file:/d/in"])
    assert (probe.read, probe.write, probe.memory_bytes) == ([Path("/d/in")], (), None)


@pytest.mark.parametrize(
    ("pixels", "measured_mib"),
    [
        (2 * 1280 * 720, 350),
        (2 * 1920 * 1080, 594),
        (2 * 3840 * 2160, 1918),
        (2 * 7680 * 4320, 4971),
    ],
)
def test_an_encode_may_take_half_as_much_again_as_was_measured_and_at_most_four_times(
    pixels: int, measured_mib: int
) -> None:
    allowed = memory_for(pixels, cores=2)
    assert 1.4 * measured_mib * MIB < allowed < 4 * measured_mib * MIB


def test_the_operators_limits_hold_for_every_sandbox() -> None:
    own = Sandbox(memory_bytes=2000, file_bytes=3000)
    limits = own.spec("/bin/true", Policy("auto", 1000, 4000))["limits"]
    assert (limits["RLIMIT_AS"], limits["RLIMIT_FSIZE"]) == (1000, 3000)
    limits = Sandbox().spec("/bin/true", Policy("auto", 1000, 4000))["limits"]
    assert (limits["RLIMIT_AS"], limits["RLIMIT_FSIZE"]) == (1000, 4001)
    assert "RLIMIT_AS" not in Sandbox().spec("/bin/true", Policy())["limits"]


def test_the_decoders_are_names_that_ffmpeg_knows_and_not_the_one_with_the_last_hole() -> None:
    listed = subprocess.run(
        [ffmpeg.locate("ffmpeg"), "-hide_banner", "-decoders"], capture_output=True, text=True, check=True
    ).stdout
    known = {line.split()[1] for line in listed.splitlines() if line.startswith((" V", " A", " S"))}
    names = DECODERS.split(",")
    assert len(set(names)) == len(names)
    assert "magicyuv" in known
    assert "magicyuv" not in names
    # The rest are built in elsewhere.
    assert {name for name in names if not name.startswith("lib")} - known <= {"apv", "vvc", "png"}


@pytest.mark.parametrize(
    ("text", "version", "old"),
    [
        ("ffmpeg version n8.1.2 Copyright (c) 2000-2026", (8, 1, 2), False),
        ("ffmpeg version 8.1.1 Copyright", (8, 1, 1), True),
        ("ffmpeg version 8.2 Copyright", (8, 2, 0), False),
        ("ffmpeg version 9.0 Copyright", (9, 0, 0), False),
        ("ffmpeg version 7.1.5-1 Copyright", (7, 1, 5), False),
        ("ffmpeg version 6.1.1-3ubuntu5 Copyright", (6, 1, 1), True),
        ("ffmpeg version 5.1.9-0+deb12u1 Copyright", (5, 1, 9), True),
        ("ffmpeg version 4.4.6 Copyright", (4, 4, 6), True),
    ],
)
def test_a_release_is_old_if_its_series_has_closed_a_hole_since(
    text: str, version: tuple[int, ...], old: bool
) -> None:
    assert release.parse(text) == version
    assert release.is_old(version) is old


@pytest.mark.parametrize("text", ["ffmpeg version N-117000-gabcdef Copyright", "", "something else"])
def test_a_build_from_git_is_not_judged(text: str) -> None:
    assert release.parse(text) is None


def test_an_old_ffmpeg_is_warned_of_and_the_one_of_the_requirements_is_not(tmp_path: Path) -> None:
    old = tmp_path / "ffmpeg"
    old.write_text("#!/bin/sh\necho ffmpeg version 7.1.4 Copyright\n")
    old.chmod(0o700)
    warned = release.warning(str(old))
    assert warned is not None
    assert "7.1.5" in warned
    assert release.warning(ffmpeg.locate("ffmpeg")) is None
    assert release.warning(str(tmp_path / "none")) is None
