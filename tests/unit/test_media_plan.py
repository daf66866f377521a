"""From what was measured of a file to what ffmpeg is told: the parts without a process."""

from __future__ import annotations

import errno
import math
import random
import signal
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from headway.sdk.meter import Stage, StageWeight
from headway.sdk.stopping import InvalidInput, NoSpace, Stop
from worker.media import failure, hls, selection, tonemap, verify
from worker.media.command import CAP, CONSTANT_CAP, Cut, Picture, output_rate, pictures, size, sound_filters
from worker.media.ffmpeg import FFmpegFailed, Tick
from worker.media.inspection import unread, with_later
from worker.media.probe import Audio, Color, Media, Shape, Track, Video, media
from worker.media.rate import Rate, measure_rate
from worker.media.said import Said
from worker.media.samples import Later, on_time
from worker.media.sandbox import OutOfMemory
from worker.media.source import Source
from worker.media.timeline import Scan, Timeline
from worker.media.yardstick import Yardstick


def stream(**fields: Any) -> dict[str, Any]:
    return {"index": 0, "codec_type": "video", "codec_name": "h264", "width": 640, "height": 480, **fields}


CROPPING = {"side_data_type": "Frame Cropping"}

PLAIN = Audio(1, "audio", "aac", channels=2, layout="stereo")


def only(**fields: Any) -> Video:
    return media({"streams": [stream(**fields)]}).videos[0]


# -- probe ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, (640, 480)),
        ({"sample_aspect_ratio": "4:3"}, (853, 480)),
        ({"sample_aspect_ratio": "0:1"}, (640, 480)),
        ({"side_data_list": [{"side_data_type": "ICC"}, {"rotation": -90}]}, (480, 640)),
        ({"side_data_list": [{"rotation": 44}]}, (640, 480)),
        ({"side_data_list": [{"rotation": -89}]}, (480, 640)),
        ({"side_data_list": [{**CROPPING, "crop_left": 40, "crop_bottom": 20}]}, (600, 460)),
        ({"side_data_list": [{**CROPPING, "crop_right": 640}]}, (640, 480)),
        ({"tags": {"rotate": "180"}}, (640, 480)),
        ({"tags": {"rotate": "270"}}, (480, 640)),
    ],
)
def test_a_picture_is_measured_as_it_is_shown(fields: dict[str, Any], shown: tuple[int, int]) -> None:
    video = only(**fields)
    assert (video.width, video.height) == shown


@pytest.mark.parametrize(
    ("shapes", "shown", "keeps_shape"),
    [
        ((), (640, 480), False),
        ((Shape(640, 480),), (640, 480), False),
        ((Shape(480, 640),), (640, 480), True),
        ((Shape(1280, 720), Shape(1280, 720)), (1280, 720), True),
        ((Shape(640, 480, Fraction(4, 3)),) * 2, (853, 480), False),
    ],
)
def test_the_size_is_the_one_that_most_pictures_have(
    shapes: tuple[Shape, ...], shown: tuple[int, int], keeps_shape: bool
) -> None:
    video = with_later(only(), Later(shapes=shapes))
    assert (video.width, video.height, video.keeps_shape) == (*shown, keeps_shape)


@pytest.mark.parametrize(("position", "warned"), [(950, False), (600, True)])
def test_what_lies_behind_the_last_packet_that_was_read_is_missed(
    tmp_path: Path, position: int, warned: bool
) -> None:
    (tmp_path / "x.ts").write_bytes(bytes(1000))
    found = Media("mpegts", 9, 0, None, (only(),))
    scanned = Scan({0: Timeline(packets=9, start_s=0, end_s=9)}, position=position)
    missed = unread(Source("x.ts", tmp_path / "x.ts"), found, scanned, {}, found.videos)
    assert [words.partition(" of")[0] for words in missed] == (["the last 40%"] if warned else [])


def test_rates_and_durations_that_say_nothing_are_none() -> None:
    found = media(
        {"format": {"duration": "N/A"}, "streams": [stream(avg_frame_rate="0/0", r_frame_rate="0/0")]}
    )
    assert found.duration_s is None
    assert found.videos[0].fps is None
    found = media({"streams": [stream(avg_frame_rate="30000/1001", duration="2.5", nb_frames="75")]})
    assert found.duration_s == 2.5
    assert found.videos[0].fps == pytest.approx(29.97, abs=0.001)
    assert found.videos[0].frames == 75


def test_properties_of_the_picture_are_seen() -> None:
    assert only(pix_fmt="yuva420p").alpha
    assert only(tags={"ALPHA_MODE": "1"}).alpha
    assert only(field_order="tt").interlaced
    assert not only(field_order="progressive").interlaced
    assert only(color_transfer="smpte2084").color.hdr
    assert media({"streams": [{"index": 0, "codec_type": "video", "width": 0, "height": 0}]}).videos == []


# -- rates ---------------------------------------------------------------------------------------------


def milliseconds(fps: float, count: int) -> list[float]:
    """When pictures are shown, as Matroska has it."""
    return [round(n * 1000 / fps) / 1000 for n in range(count)]


@pytest.mark.parametrize(
    "fps",
    [
        Fraction(25),
        Fraction(30000, 1001),
        Fraction(60000, 1001),
        Fraction(24000, 1001),
        Fraction(10),
        Fraction(1, 2),
        Fraction(120),
    ],
)
def test_a_constant_rate_is_found_though_timestamps_are_rounded(fps: Fraction) -> None:
    assert measure_rate(milliseconds(float(fps), 200)) == Rate(fps, True)


def test_lost_pictures_and_another_order_leave_a_rate_constant() -> None:
    times = [n / 25 for n in range(100) if n % 20]
    random.Random(1).shuffle(times)
    assert measure_rate(times) == Rate(Fraction(25), True)


def test_a_variable_rate_is_that_of_the_usual_interval() -> None:
    times = [0, 0.03, 0.065, 0.1, 1.5, 1.53, 1.57, 4.0]
    found = measure_rate([float(time) for time in times])
    assert found is not None
    assert not found.constant
    assert 20 < found.fps < 40
    assert measure_rate([0.0]) is None


def test_reference_pictures_that_are_not_shown_do_not_count() -> None:
    times = [n / 25 for n in range(50)] + [n / 25 + 0.001 for n in range(0, 50, 10)]
    found = measure_rate(times)
    assert found is not None
    assert float(found.fps) == pytest.approx(25, abs=0.3)


@pytest.mark.parametrize(
    ("measured", "whole", "rate"),
    [
        (Rate(Fraction(25), True), True, Fraction(25)),
        (Rate(Fraction(120), True), False, Fraction(120)),
        (Rate(Fraction(1000), True), False, CONSTANT_CAP),
        (Rate(Fraction(1000), False), False, CAP),
        (Rate(Fraction(3), False), False, Fraction(20)),
        (Rate(Fraction(1, 2), True), False, Fraction(1, 2)),
        (Rate(Fraction(1, 2), True), True, Fraction(10)),
        (None, True, Fraction(10)),
    ],
)
def test_the_rate_of_a_result_is_measured_and_capped(
    measured: Rate | None, whole: bool, rate: Fraction
) -> None:
    assert output_rate(measured, length_s=4.0, whole=whole) == rate


def test_pictures_are_counted_to_the_nearest() -> None:
    assert pictures(1.0, Fraction(30)) == 30
    assert pictures(0.001, Fraction(30)) == 1
    assert pictures(1.6016, Fraction(30000, 1001)) == 48


# -- selection -----------------------------------------------------------------------------------------


def scanned(**packets: int) -> Scan:
    return Scan({int(name[1:]): Timeline(packets=count) for name, count in packets.items()})


def test_the_picture_meant_is_the_default_the_moving_the_largest() -> None:
    art = Video(0, "video", "mjpeg", width=900, height=900)
    small = Video(1, "video", "h264", width=64, height=48)
    large = Video(2, "video", "h264", width=640, height=480)
    cover = Video(3, "video", "png", frozenset({"attached_pic", "default"}), width=999, height=999)
    found = Media("mov", 1, 0, None, (art, small, large, cover))
    order = selection.videos(found, scanned(t0=1, t1=50, t2=50, t3=1))
    assert [track.index for track in order] == [2, 1, 0]
    chosen = Video(1, "video", "h264", frozenset({"default"}), width=64, height=48)
    found = Media("mov", 1, 0, None, (chosen, large))
    assert selection.videos(found, scanned(t1=50, t2=50))[0] is chosen


def test_the_sound_meant_is_of_the_program_the_default_and_no_commentary() -> None:
    video = Video(0, "video", "h264", width=64, height=48)
    comment = Audio(1, "audio", "aac", frozenset({"comment", "default"}), channels=2)
    titled = Audio(2, "audio", "aac", frozenset({"default"}), title="Director's Commentary", channels=2)
    hearing = Audio(6, "audio", "aac", frozenset({"hearing_impaired", "default"}), channels=2)
    described = Audio(
        7, "audio", "aac", frozenset({"default"}), title="English Audio Description", channels=2
    )
    plain = Audio(3, "audio", "aac", channels=2)
    default = Audio(4, "audio", "aac", frozenset({"default"}), channels=2)
    empty = Audio(5, "audio", "aac", frozenset({"default"}), channels=2)
    tracks = (video, comment, titled, plain, default, empty, hearing, described)
    packets = scanned(t0=9, t1=9, t2=9, t3=9, t4=9, t6=9, t7=9)
    found = Media("mov", 1, 0, None, tracks)
    assert [track.index for track in selection.audios(found, packets, video)] == [4, 3, 1, 2, 6, 7]
    programs = (frozenset({0, 3}), frozenset({4}))
    found = Media("mpegts", 1, 0, None, tracks, programs)
    assert selection.audios(found, packets, video)[0] is plain
    said = selection.left_out(found, (video, plain), picture=True)
    assert said is not None
    assert "commentary" in said


def test_a_track_of_which_nothing_is_known_is_meant_if_there_is_something_in_it() -> None:
    silent, there = Audio(1, "audio", "aac"), Audio(2, "audio", "aac")
    dark = Track(0, "video", "h264")
    found = Media("mpegts", 1, 0, None, (dark, silent, there))
    assert selection.audios(found, scanned(t0=9, t2=9), None) == [there]
    assert selection.unseen(found, scanned(t0=9, t2=9)) == [dark]
    assert selection.unseen(found, scanned(t2=9)) == []


# -- filters -------------------------------------------------------------------------------------------


def chain(video: Video, cut: Cut | None = None) -> str:
    return Picture(video, 64, 48, Fraction(25), cut or Cut()).filters


def test_the_filters_follow_what_the_picture_is() -> None:
    assert "bwdif" not in chain(only(pix_fmt="yuv420p"))
    assert "bwdif=mode=send_frame:deint=all" in chain(only(pix_fmt="yuv420p", field_order="tt"))
    assert "lut3d" in chain(only(pix_fmt="yuv420p10le", color_transfer="smpte2084"))
    assert "premultiply" in chain(only(pix_fmt="yuva444p"))
    assert "in_color_matrix=smpte170m" in chain(only(pix_fmt="yuv420p"))
    assert "in_color_matrix=bt709" in chain(only(pix_fmt="yuv420p", height=1080))
    assert "in_color_matrix" not in chain(only(pix_fmt="bgra", color_space="gbr"))


def test_a_part_is_cut_by_the_filters_and_its_last_picture_held() -> None:
    cut = chain(only(pix_fmt="yuv420p"), Cut(1.0, 2.0))
    assert "fps=25:start_time=0" in cut
    assert cut.endswith("tpad=stop=-1:stop_mode=clone,trim=end=2.000000")
    assert "tpad" not in chain(only(pix_fmt="yuv420p"))
    assert sound_filters(Cut(), PLAIN, from_zero=False) == "aresample=async=1"
    assert sound_filters(Cut(1, 2), PLAIN, from_zero=True).startswith("atrim=start=0:end=2")


def test_no_channel_is_left_out_because_nobody_says_what_it_is() -> None:
    def filters(channels: int, layout: str) -> str:
        return sound_filters(Cut(), replace(PLAIN, channels=channels, layout=layout), from_zero=False)

    assert filters(6, "5.1") == filters(2, "unknown") == "aresample=async=1"
    assert filters(6, "unknown") == "aresample=ochl=stereo:lfe_mix_level=1,aresample=async=1"
    assert filters(9, "unknown").startswith("pan=stereo|c0<c0+c2+c3+c4+c5+c6+c7+c8|c1<c1+c2+")
    assert filters(12, "7.1.4").startswith("pan=stereo|c0<c0+c2")


def test_only_a_sound_that_begins_later_gets_a_silence_before_it() -> None:
    assert "first_pts=0" in sound_filters(Cut(), PLAIN, from_zero=True)
    assert "first_pts=0" not in sound_filters(Cut(sound_from_zero=True), PLAIN, from_zero=True)


def test_sizes_keep_the_shape_and_are_even() -> None:
    assert size(161, 121, None, None) == (160, 120)
    assert size(1280, 720, None, 480) == (852, 480)
    assert size(1280, 720, 320, None) == (320, 180)
    assert size(1280, 720, 100, 100) == (100, 100)


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((1280, 720), [240, 360, 480, 720]),
        ((852, 480), [240, 360, 480]),
        ((640, 350), [240, 350]),
        ((360, 640), [240, 360]),
        ((160, 120), [120]),
        ((1920, 800), [360, 480, 800][-2:]),
        ((1080, 1920), [480, 720, 1080][-2:]),
    ],
)
def test_a_ladder_goes_by_the_shorter_side_up_to_the_size_itself(
    shape: tuple[int, int], sides: list[int]
) -> None:
    steps = hls.ladder(*shape)
    assert [min(step.width, step.height) for step in steps][-len(sides) :] == sides
    assert (steps[-1].width, steps[-1].height) == shape
    assert len({step.name for step in steps}) == len(steps) <= hls.MAX_RENDITIONS
    for step in steps:
        assert step.width / step.height == pytest.approx(shape[0] / shape[1], rel=0.02)
    assert all(a.limit_kbits <= b.limit_kbits for a, b in pairwise(steps))


# -- pictures without times of display -----------------------------------------------------------------

DECODED = [0.04 * n for n in range(40)]


@pytest.mark.parametrize(
    ("container", "packets", "shown", "late_s"),
    [
        ("avi", DECODED, [at + 0.08 for at in DECODED], 0.08),
        ("avi", DECODED, DECODED, 0),
        ("avi", DECODED, [at + 0.8 for at in DECODED], 0.08),  # the first twenty are lost
        ("avi", DECODED, [None, *(at + 0.08 for at in DECODED[1:])], 0.08),
        ("mov,mp4", DECODED, [0, *(at + 0.08 for at in DECODED[1:])], 0.08),
        ("mov,mp4", [0, 0.12, 0.04, 0.08], DECODED, 0),
        ("asf", DECODED, [at + 0.08 for at in DECODED], 0),
    ],
)
def test_pictures_that_come_out_of_the_decoder_late_are_shown_when_their_turn_is(
    container: str, packets: list[float], shown: list[float | None], late_s: float
) -> None:
    """The file begins at 5 s."""
    line = Timeline()
    for at in packets:
        line.add(at, 0.04, 1)
    told = tuple(None if at is None else at + 5 for at in shown)
    video = Video(0, "video", "h264", held_back=2, shown_s=told)
    assert on_time(video, Media(container, None, 5.0, None, ()), line).late_s == pytest.approx(late_s)


# -- tone mapping --------------------------------------------------------------------------------------


def test_the_table_keeps_black_and_order_and_does_not_clip_white_paper() -> None:
    rows = [
        line.split()
        for line in tonemap.table(Color("bt2020nc", "bt2020", "smpte2084"), 1000).splitlines()[1:]
    ]
    greys = [float(rows[n * (tonemap.SIZE**2 + tonemap.SIZE + 1)][1]) for n in range(tonemap.SIZE)]
    assert greys[0] == 0
    assert greys == sorted(greys)
    white = 0.581 * (tonemap.SIZE - 1)
    assert 0.85 < greys[math.floor(white)] < 0.95
    assert greys[-1] == 1
    assert not tonemap.needed(Color("bt709", "bt709", "bt709"))


# -- HLS -----------------------------------------------------------------------------------------------

WHOLE = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:0\n#EXTINF:0.400000,\n00000.ts\n#EXT-X-ENDLIST\n"
SEGMENT = (b"G" + b"\x00\x00\x01\x09\xf0\x00\x00\x00\x01\x67\x42\xc0\x1e").ljust(2 * 188, b"\0")


def rendition(directory: Path, playlist: str, segment: bytes) -> Path:
    (directory / "120p").mkdir()
    (directory / "120p" / "00000.ts").write_bytes(segment)
    (directory / "120p" / "index.m3u8").write_text(playlist)
    return directory / "120p" / "index.m3u8"


def test_a_master_names_what_was_looked_at(tmp_path: Path) -> None:
    path = rendition(tmp_path, WHOLE, SEGMENT)
    [playlist] = hls.finish(tmp_path, [hls.Rendition(160, 120)], Fraction(25), sound=True)
    assert playlist.duration_s == 0.4
    assert "TARGETDURATION:1\n" in path.read_text()
    master = (tmp_path / "master.m3u8").read_text()
    assert 'RESOLUTION=160x120,FRAME-RATE=25.000,CODECS="avc1.42c01e,mp4a.40.2"' in master
    assert master.endswith("120p/index.m3u8\n")


@pytest.mark.parametrize(
    ("playlist", "segment"),
    [
        ("", SEGMENT),
        (WHOLE.replace("#EXT-X-ENDLIST\n", ""), SEGMENT),
        (WHOLE, b""),
        (WHOLE, SEGMENT[:-1]),
        (WHOLE.replace("00000", "1"), SEGMENT),
        ("#EXTM3U\n#EXT-X-ENDLIST\n", SEGMENT),
    ],
)
def test_a_stream_with_a_hole_is_none(tmp_path: Path, playlist: str, segment: bytes) -> None:
    rendition(tmp_path, playlist, segment)
    with pytest.raises(hls.BadPlaylist):
        hls.finish(tmp_path, [hls.Rendition(160, 120)], Fraction(25), sound=True)


# -- progress ------------------------------------------------------------------------------------------


def stage(yardstick: Yardstick) -> Stage:
    return Stage("encode", yardstick.total, yardstick.unit, StageWeight(), 0.0, Stop())


def test_progress_never_exceeds_its_total_which_is_unknown_once_it_was_wrong() -> None:
    yardstick = Yardstick.of(4.0, Fraction(25), None)
    seen = stage(yardstick)
    for frame in (50, 100, 102):
        yardstick.note(seen, Tick(frame=frame))
        assert seen.total == 100
        assert seen.current <= 100
    yardstick.note(seen, Tick(frame=150))
    assert (seen.total, seen.current) == (None, 150)
    yardstick.note(seen, Tick())
    assert seen.current == 150


def test_what_has_no_known_length_is_measured_by_the_position_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(1000))
    yardstick = Yardstick.of(None, Fraction(25), tmp_path / "x")
    assert (yardstick.unit, yardstick.total) == ("bytes", 1000)
    assert yardstick.read(Tick(frame=7, position=250)) == 250
    assert Yardstick.of(None, Fraction(25), None).total is None
    assert Yardstick.of(2.5, None, None) == Yardstick("s", 2.5)


# -- losses and failures -------------------------------------------------------------------------------


def test_a_loss_is_told_in_words_and_as_a_share() -> None:
    said = Said()
    assert verify.losses("x.mp4", 5.0, 5.01, said, 100) == verify.Losses([], 0)
    for _ in range(30):
        said.add(
            "[vist#0:0/h264 @ 0x1] [dec:h264 @ 0x1] [error] Error submitting packet to decoder: Invalid"
        )
    lost = verify.losses("x.mp4", 5.0, 4.0, said, 100)
    assert "30 of 100 pictures of x.mp4" in lost.words[0]
    assert lost.words[1] == "the result lasts 4.00 s instead of 5.00 s"
    assert lost.share == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("offsets", "pause_s"),
    [
        ([-60, -120, -180], 0),
        ([12, -0.02, 12.01], 12.03),
        ([12, 12.04], 0),
        ([12, 0], 12),
        ([-3600, -3612, -3600], 12),
    ],
)
def test_timestamps_that_are_shifted_to_and_fro_are_told(offsets: list[float], pause_s: float) -> None:
    said = Said()
    for at in offsets:
        jump = f"timestamp discontinuity (stream id=256): 1, new offset= {round(at * 1e6)}"
        said.add(f"[vist#0:0/h264 @ 0x1] [warning] {jump}")
    said.add("[aac @ 0x1] [warning] Queue input is backward in time")
    assert said.pause_s == pytest.approx(pause_s)
    assert (said.complaints, said.lines) == (0, [])
    told = ["the timestamps of x.ts jump: picture and sound may be out of step"] if pause_s else []
    assert verify.losses("x.ts", 5.0, 5.0, said, 100).words == told


def explained(tmp_path: Path, status: int, *words: str) -> Exception:
    path = tmp_path / "secret" / "data"
    lines = [word.replace("PATH", str(path)) for word in words]
    found = failure.explain(FFmpegFailed("ffmpeg", status, lines), "clip.mp4", path, tmp_path)
    assert "clip.mp4" in str(found)
    assert "secret" not in str(found)
    return found


def test_failures_are_told_apart(tmp_path: Path) -> None:
    assert isinstance(
        explained(tmp_path, 228, "[out#0 @ 0x1] Error writing: No space left on device"), NoSpace
    )
    damaged = explained(
        tmp_path,
        183,
        "Error opening input file file:PATH.",
        "PATH: Invalid data found when processing input",
    )
    assert isinstance(damaged, InvalidInput)
    assert str(damaged).startswith("clip.mp4 cannot be encoded: it is damaged")
    memory = explained(tmp_path, 256 - errno.ENOMEM, "Cannot allocate memory")
    assert isinstance(memory, OutOfMemory)
    assert "more memory" in str(memory)
    unopened = explained(
        tmp_path, 187, "[enc:libx264 @ 0x7f] Error while opening encoder - maybe width or height"
    )
    assert isinstance(unopened, failure.EncoderCrashed)
    assert "memory" in str(unopened)
    for number in (signal.SIGSEGV, signal.SIGABRT):
        crash = explained(tmp_path, -number)
        assert isinstance(crash, failure.EncoderCrashed)
        assert number.name in str(crash)
    assert isinstance(explained(tmp_path, -signal.SIGKILL), failure.EncoderKilled)
    old = explained(tmp_path, 8, "Option not found")
    assert isinstance(old, failure.EncoderCrashed)
    rate = explained(
        tmp_path, 234, "The maximum allowed frame rate is 240 fps", "Error opening output file PATH"
    )
    assert "more pictures per second" in str(rate)


def test_a_format_that_is_not_read_is_named(tmp_path: Path) -> None:
    words = ["[png_pipe @ 0x7f] [error] Format not on whitelist 'mov,mp4'", "PATH: Invalid argument"]
    found = failure.unreadable(FFmpegFailed("ffprobe", 1, words), "still.png", tmp_path)
    assert isinstance(found, InvalidInput)
    assert "it is a PNG picture. What can be read: MP4, MOV" in str(found)
    assert "whitelist" not in str(found)
