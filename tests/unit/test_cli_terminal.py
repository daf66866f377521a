"""What is drawn is drawn to its end."""

from __future__ import annotations

import signal

import pytest

from headway.cli.terminal import TerminalGuard


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_ends_the_block_but_nothing_half_drawn(number: int, error: type[BaseException]) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    done: list[str] = []

    def draw(drawing: TerminalGuard) -> None:
        with drawing.whole():
            signal.raise_signal(number)
            done.append("drawn")
        done.append("not reached")

    with pytest.raises(error), TerminalGuard() as drawing:
        draw(drawing)
    assert done == ["drawn"]
    with pytest.raises(error), TerminalGuard():
        signal.raise_signal(number)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
