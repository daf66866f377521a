"""The event stream interpretation, against a reading of the specification that sees all bytes at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headway.client.sse import Decoder, Frame


def decode(chunks: Iterable[bytes]) -> tuple[list[Frame], str, int | None]:
    decoder = Decoder()
    frames = [frame for chunk in chunks for frame in decoder.feed(chunk)]
    return frames, decoder.last_event_id, decoder.retry_ms


def by_the_book(stream: bytes) -> tuple[list[Frame], str, int | None]:
    """Decode, split, and process, each step as the specification words it."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _ = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    frames, last, retry = list[Frame](), "", None
    data, event, event_id = "", "", ""
    for line in lines:
        if line == "":
            last = event_id
            if data != "":
                frames.append(Frame(event or "message", data.removesuffix("\n"), last))
            data, event = "", ""
        elif not line.startswith(":"):
            field, colon, value = line.partition(":")
            if colon and value.startswith(" "):
                value = value[1:]
            if field == "event":
                event = value
            elif field == "data":
                data += value + "\n"
            elif field == "id" and "\0" not in value:
                event_id = value
            elif field == "retry" and value and all(c in "0123456789" for c in value):
                retry = int(value)
    return frames, last, retry


@pytest.mark.parametrize(
    ("stream", "frames"),
    [
        (b"id: 1-0\nevent: log\ndata: {}\n\n", [Frame("log", "{}", "1-0")]),
        (b"data: a\ndata:b\ndata\n\n", [Frame("message", "a\nb\n", "")]),
        (b"data\n\n", [Frame("message", "", "")]),
        (b": heartbeat\nretry: 5\n\n", []),
        (b"id: 7-0\n\n", []),
        (b"id: 7-0\n\ndata: x\n\n", [Frame("message", "x", "7-0")]),
        (b"id: 7-0\ndata: x\n\nid\ndata: y\n\n", [Frame("message", "x", "7-0"), Frame("message", "y", "")]),
        (b"id: 7-0\n\nid: 8\x00\ndata: x\n\n", [Frame("message", "x", "7-0")]),
        (b"id: 7-0\r\nevent: end\r\ndata: \xc3\xa9\r\n\r\n", [Frame("end", "é", "7-0")]),
        (b"id: 7-0\revent: end\rdata: x\r\r", [Frame("end", "x", "7-0")]),
        (b"\xef\xbb\xbfdata: x\n\n", [Frame("message", "x", "")]),
        (b"data: x\n\n\xef\xbb\xbfdata: y\n\n", [Frame("message", "x", "")]),
        (b"data:  x\nDATA: y\n data: z\n\n", [Frame("message", " x", "")]),
        (b"event: end\ndata: cut off", []),
        (b"event: end\ndata: cut off\n", []),
        (b"data: a\xe2\x80\xa8b\x0bc\x85\n\n", [Frame("message", "a\u2028b\x0bc\ufffd", "")]),
    ],
)
def test_the_stream_is_decoded_as_the_specification_says(stream: bytes, frames: list[Frame]) -> None:
    assert decode([stream])[0] == frames
    assert decode([stream[i : i + 1] for i in range(len(stream))])[0] == frames
    assert by_the_book(stream)[0] == frames


@pytest.mark.parametrize(
    ("line", "retry"),
    [
        ("retry: 1545", 1545),
        ("retry:0", 0),
        ("retry: -1", None),
        ("retry: 1.5", None),
        ("retry: ²", None),
        ("retry", None),
        ("retry: " + "9" * 5000, None),
    ],
)
def test_retry_is_a_number_of_milliseconds_and_takes_effect_at_once(line: str, retry: int | None) -> None:
    assert decode([line.encode() + b"\n"])[2] == retry


def test_an_event_is_there_as_soon_as_its_blank_line_has_come() -> None:
    decoder = Decoder()
    assert list(decoder.feed(b"data: x\r\n\r")) == [Frame("message", "x", "")]
    assert list(decoder.feed(b"\ndata: y\r\r")) == [Frame("message", "y", "")]


def test_what_is_cut_off_moves_no_cursor() -> None:
    assert decode([b"id: 1-0\ndata: x\n\nid: 2-0\ndata: y\n"])[1] == "1-0"
    assert decode([b"id: 1-0\ndata: x\n\nid: 2-0\n\n"])[1] == "2-0"


PIECES = st.sampled_from(
    [
        b"data",
        b"event",
        b"id",
        b"retry",
        b":",
        b": ",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"1-0",
        b"12",
        b"x",
        b"\xc3\xa9\xe2\x98\x83",
        b"\xf0\x9f",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\0",
        b"\xe2\x80\xa8",
        b"\x85",
        b"\v",
    ]
)


@given(st.lists(PIECES, max_size=60), st.lists(st.integers(0, 300), max_size=30))
@example([b"data: a", b"\r", b"b", b"\n", b"\n"], [9])
def test_it_does_not_matter_where_a_chunk_ends(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces)
    at = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[a:b] for a, b in itertools.pairwise(at)]
    chunks[1:1] = [b""]
    assert decode(chunks) == decode([stream]) == by_the_book(stream)
