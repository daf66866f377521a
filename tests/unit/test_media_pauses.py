"""Which jumps of timestamps are pauses (worker/media/pauses.py)."""

from __future__ import annotations

import math

from worker.media.pauses import Pauses


def read(*packets: tuple[int, float]) -> tuple[float, float]:
    pauses = Pauses()
    for index, at in packets:
        pauses.add(index, at, 1.0)
    pause_s, jump_s = pauses.measure()
    return round(pause_s, 3), jump_s


def test_a_track_that_pauses_while_another_goes_on_has_a_pause() -> None:
    sound = [(1, float(n)) for n in range(20)]
    assert read((0, 0.0), *sound, (0, 15.0)) == (14.0, math.inf)
    # As in a program stream: far ahead of the sound in the file.
    assert read((0, 0.0), (1, 0.0), (0, 15.0), *sound[1:]) == (14.0, math.inf)


def test_tracks_that_jump_together_start_anew() -> None:
    assert read((0, 0.0), (1, 0.0), (0, 50.0), (1, 1.0), (1, 2.0), (1, 50.0)) == (0.0, 47.0)
    assert read((0, 0.0), (0, 50.0)) == (0.0, 49.0)


def test_both_are_told_apart_in_one_file() -> None:
    sound = [(1, float(n)) for n in range(20)]
    assert read((0, 0.0), *sound, (0, 15.0), (0, 100.0), (1, 100.0)) == (14.0, 80.0)


def test_what_another_recording_has_at_that_time_is_no_other_track() -> None:
    second = [(1, float(n)) for n in range(20)]
    assert read((0, 0.0), (1, 0.0), (0, 15.0), (1, 15.0), (0, 0.0), *second) == (0.0, 14.0)


def test_a_first_packet_that_comes_late_in_the_file_is_no_new_start() -> None:
    sound = [(1, float(n)) for n in range(30)]
    assert read(*sound, (0, 1.0)) == (29.0, math.inf)
    assert read(*sound, (0, 5000.0)) == (0.0, math.inf)


def test_usual_files_have_neither() -> None:
    assert read(*((index, n / 2) for n in range(20) for index in (0, 1))) == (0.0, math.inf)


def test_how_far_apart_tracks_may_begin_is_less_than_the_shortest_recording_lasts() -> None:
    def apart_s(*lengths: int) -> float | None:
        pauses = Pauses()
        for length in lengths:
            for n in range(length):
                pauses.add(0, n / 2, 0.5)
        return pauses.apart_s()

    assert apart_s(20) is None
    assert apart_s(20, 20) == 1.0
    assert apart_s(2, 20) == 0.5
