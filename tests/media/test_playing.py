"""Results played in real browsers: what they say of the length and the size, and that time goes on."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.media.inputs import INPUTS, made
from tests.support.browser import Browser
from tests.support.encode_bench import run_encode
from tests.support.firefox import Firefox
from tests.support.npm import package
from tests.support.programs import missing

pytestmark = pytest.mark.long

PAGE = """<!doctype html><meta charset="utf-8"><script src="/hls.min.js"></script><video muted></video>"""
PLAY = """
const [url, streamed] = arguments;
const video = document.querySelector("video");
window.trouble = "";
video.addEventListener("error", () => { window.trouble = video.error.message; });
video.addEventListener("ended", () => { window.ended = video.currentTime; });
if (streamed) {
  const hls = new Hls({ enableWorker: false });
  hls.on(Hls.Events.ERROR, (_, data) => { if (data.fatal) window.trouble = data.details; });
  hls.loadSource(url);
  hls.attachMedia(video);
} else {
  video.src = url;
}
video.play().catch((error) => { if (error.name !== "AbortError") window.trouble ||= String(error); });
return null;
"""
SEEN = """
const video = document.querySelector("video");
return [window.trouble, window.ended ?? null, video.duration || 0, video.videoWidth, video.videoHeight];
"""
CAN_PLAY = """
return document.createElement("video").canPlayType('video/mp4; codecs="avc1.42c01e, mp4a.40.2"');
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A directory and its address."""
    directory = tmp_path_factory.mktemp("served")
    shutil.copy(package("hls.js/dist/hls.min.js"), directory)
    (directory / "index.html").write_text(PAGE)
    handler = functools.partial(Quiet, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield directory, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module", params=["chromium", "firefox"])
def player(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    browser: Any = {"chromium": Browser, "firefox": Firefox}[request.param]
    with browser(tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("source", "preset", "length_s", "size"),
    [
        ("h264.mp4", "mp4", 1.6, (160, 120)),
        ("turned90.mp4", "mp4", 1.6, (120, 160)),
        ("podcast.mp4", "mp4", 2.2, (160, 120)),
        ("delays.gif", "mp4", 2.4, (160, 120)),
        ("recorder.webm", "webm", 1.6, (160, 120)),
        ("h264.ts", "hls", 1.6, (160, 120)),
        ("podcast.mp4", "hls", 2.2, (160, 120)),
        ("screen.webm", "hls", 1.6, (160, 120)),
        ("short400.mp4", "hls", 0.4, (160, 120)),
    ],
)
def test_a_browser_plays_it_to_the_end(
    player: Any, served: tuple[Path, str], source: str, preset: str, length_s: float, size: tuple[int, int]
) -> None:
    directory, url = served
    (directory / "in").mkdir(exist_ok=True)
    wanted = next(each for each in INPUTS if each.name == source)
    shutil.copy(made(wanted), directory / "in")
    came = run_encode(directory, input=f"file:in/{source}", preset=preset, poster=False)
    assert came.error is None
    path = came.files[came.result["artifact"]].relative_to(directory)
    player.load(f"{url}/index.html")
    if preset in ("mp4", "hls") and not player.run(CAN_PLAY):
        missing("a decoder for H.264 in this browser")
    player.run(PLAY, f"{url}/{path}", preset == "hls")
    seen: list[Any] = []

    def over() -> bool:
        seen[:] = player.run(SEEN)
        return bool(seen[0]) or seen[1] is not None

    player.until(over, "it to play to the end")
    trouble, ended, duration, *shown = seen
    assert trouble == ""
    assert duration == pytest.approx(length_s, abs=0.1)
    assert ended == pytest.approx(duration, abs=0.1)
    assert tuple(shown) == size
