"""What the Dockerfile puts into the images is all that web and worker need."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.support.checkout import ROOT
from tests.support.stack import Stack

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def copied(into: Path) -> Path:
    """What COPY takes from the checkout."""
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    for source, target in re.findall(r"(?m)^COPY (?!--from)(\S+) (\S+)$", DOCKERFILE):
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, into / target, ignore=ignored)
        else:
            shutil.copy(ROOT / source, into / target)
    return into


def files(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if "__pycache__" not in path.parts}


def test_web_and_worker_run_from_the_images_files_and_write_nowhere_beside_them(tmp_path: Path) -> None:
    image, data = tmp_path / "image", tmp_path / "data"
    image.mkdir()
    data.mkdir()
    before = files(copied(image))

    class Container(Stack):
        checkout = image

    with Container(data, DRAIN_S="0", PYTHONDONTWRITEBYTECODE="1") as stack:
        stack.start_web()
        stack.start_worker()
        job = stack.submit("video.encode", {"input": "sample:1", "preset": "mp4", "height": 120})
        assert stack.wait_ended(job["id"])["state"] == "succeeded"
        assert stack.call("GET", "/")[0] == 200
        assert stack.call("GET", "/web/jobs.js")[0] == 200
    assert files(image) == before
