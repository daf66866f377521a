"""Where packets lie in time (worker/media/timeline.py), and what a result is checked for by it."""

from __future__ import annotations

import pytest

from worker.media import verify
from worker.media.probe import Audio, Media, Video
from worker.media.timeline import Clock, Scan, Timeline, end_last_packets


def packets(*, length_s: float | None, step_s: float = 0.04, count: int = 40) -> Timeline:
    timeline = Timeline()
    for n in range(count):
        timeline.add(n * step_s, length_s, 100)
    return timeline


def test_timestamps_that_start_anew_go_on_where_they_were() -> None:
    clock = Clock(joined=True)
    at = [n * 0.04 for n in range(50)]
    ends = [dts + clock.shift(0, dts, 0.04) for dts in [*at, *at]]
    assert ends == pytest.approx([n * 0.04 for n in range(100)])
    assert not clock.went_back


def test_what_is_overtaken_by_a_new_start_stays_where_it_was_if_that_can_be_told() -> None:
    """The last sound of the first recording comes behind the first picture of the second one."""
    first = [(0, 0.0), (1, 0.0), (0, 1.0), (1, 1.0), (0, 2.0)]
    order = [*first, (0, 0.0), (1, 2.0), (0, 1.0), (1, 0.0), (1, 1.0)]

    def placed(jump_s: float) -> tuple[list[float], bool]:
        clock = Clock(joined=True, jump_s=jump_s)
        return [at + clock.shift(index, at, 1.0) for index, at in order], clock.torn_apart

    assert placed(1.5) == ([0, 0, 1, 1, 2, 3, 2, 4, 3, 4], False)
    assert placed(10) == ([0, 0, 1, 1, 2, 3, 5, 4, 6, 7], True)


def test_elsewhere_it_is_noticed_that_timestamps_start_anew() -> None:
    clock = Clock(joined=False)
    assert [clock.shift(0, dts, 0.04) for dts in (0.0, 100.0, 99.9)] == [0, 0, 0]
    assert not clock.went_back
    clock.shift(0, 1.0, 0.04)
    assert clock.went_back


@pytest.mark.parametrize("said_s", [0.04, None, 2.1], ids=["true", "not said", "false"])
def test_a_last_picture_lasts_as_long_as_the_others_did(said_s: float | None) -> None:
    scan = Scan({0: packets(length_s=said_s)})
    end_last_packets(scan)
    assert scan.end_s == pytest.approx(1.6)


@pytest.mark.parametrize(("promised_s", "end_s"), [(1.58, 1.58), (1.2, 1.6), (9.0, 1.6), (None, 1.6)])
def test_a_last_packet_without_a_length_ends_with_the_file_if_that_is_sooner(
    promised_s: float | None, end_s: float
) -> None:
    scan = Scan({0: packets(length_s=None)})
    end_last_packets(scan, promised_s)
    assert scan.end_s == pytest.approx(end_s)


def test_a_last_picture_that_alone_lasts_longer_does() -> None:
    timeline = packets(length_s=0.1, step_s=0.1, count=9)
    timeline.add(0.9, 1.5, 100)
    scan = Scan({0: timeline})
    end_last_packets(scan)
    assert scan.end_s == pytest.approx(2.4)


def test_a_result_whose_sound_is_there_twice_is_not_fit() -> None:
    tracks = (Video(0, "video", "h264", width=64, height=48), Audio(1, "audio", "aac", channels=2))
    media = Media("hls", 1.6, 0, None, tracks)

    def check(sound: Timeline) -> None:
        made = verify.Made(media, Scan({0: packets(length_s=0.04), 1: sound}), 100)
        verify.check_streams(made, ("h264", "aac"), shape=(64, 48), sound=True)

    check(packets(length_s=0.02, step_s=0.02, count=80))
    with pytest.raises(verify.ResultUnfit, match="there twice"):
        check(packets(length_s=0.02, step_s=0.01, count=160))


def test_a_result_that_takes_long_to_read_lasts_as_long_as_its_header_says() -> None:
    media = Media("mov,mp4", 36_000.0, 0, None, (Video(0, "video", "h264", width=64, height=48),))
    read = packets(length_s=0.04)
    whole = verify.Made(media, Scan({0: read}), 100)
    assert (whole.duration_s, whole.pictures) == (pytest.approx(1.6), 40)
    partly = verify.Made(media, Scan({0: read}, complete=False), 100)
    assert (partly.duration_s, partly.pictures) == (36_000, None)
