"""How smoothly a list of 5,000 live jobs scrolls: `python -m tests.support.scrolling`.

Prints the times of frames and the number of elements, as the docs have them: without and with events
coming in. The machine should be quiet.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.support.browser import Browser
from tests.support.manual_jobs import progress, running_by_hand
from tests.support.stack import Stack

JOBS = 5_000
PIXELS_PER_S = 18_000
SCROLL_S = 8
EVENTS_PER_S = 200
ACTIVE = 200
"""So many of the jobs have progress, in turn."""

SCROLL = """
const [speed, ms, done] = arguments;
const frames = [];
let [most, begin, last, way] = [0, performance.now(), performance.now(), 1];
const step = (now) => {
  frames.push(now - last);
  most = Math.max(most, document.querySelectorAll("*").length);
  const top = document.documentElement.scrollHeight - innerHeight;
  if (scrollY >= top - 1) way = -1;
  if (scrollY <= 0) way = 1;
  scrollBy({top: (way * speed * (now - last)) / 1000, behavior: "instant"});
  last = now;
  if (now - begin < ms) requestAnimationFrame(step);
  else done([frames.slice(1), most]);
};
requestAnimationFrame(step);
"""


def measure(browser: Browser) -> str:
    times, elements = browser.driver.execute_async_script(SCROLL, PIXELS_PER_S, SCROLL_S * 1000)
    times.sort()
    half, most = times[len(times) // 2], times[int(len(times) * 0.99)]
    return f"{len(times)} frames: half within {half:.1f} ms, 99 % within {most:.1f} ms; {elements} elements"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="headway-scrolling-") as directory:
        here = Path(directory)
        stack = Stack(here / "stack")
        browser = Browser(here / "browser")
        gone = threading.Event()
        try:
            stack.start_web()
            claims = [
                running_by_hand(stack, lease_s=600, group=f"g{n % 10}", labels={"customer": f"c{n % 99}"})
                for n in range(JOBS)
            ]
            browser.open(stack.url)
            count = ".chip[data-state=running] .count"
            browser.until(lambda: browser.text(count) == str(JOBS), "all of them")
            print("quiet:", measure(browser))
            events = threading.Thread(target=_happen, args=(stack.new_store(), claims, gone))
            events.start()
            print(f"{EVENTS_PER_S} events/s:", measure(browser))
            gone.set()
            events.join()
        finally:
            gone.set()
            browser.close()
            stack.close()


def _happen(store: Any, claims: list[Any], gone: threading.Event) -> None:
    number, begin = 0, time.monotonic()
    while not gone.is_set():
        store.append(claims[-1 - number % ACTIVE], number + 1, [progress(number % 1000 / 1000, "on it")])
        number += 1
        time.sleep(max(0, begin + number / EVENTS_PER_S - time.monotonic()))


if __name__ == "__main__":
    main()
