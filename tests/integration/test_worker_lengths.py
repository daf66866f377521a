"""The bar of video.encode with files whose headers tell another length than they have."""

from __future__ import annotations

import pytest

from headway.contract.states import State
from tests.media.inputs import Studio
from tests.media.lies import LENGTH_S, LIES, RATE, lie
from tests.support.worker_stack import WorkerStack

pytestmark = pytest.mark.long


@pytest.mark.parametrize("claim", LIES)
@pytest.mark.parametrize("name", ["lie.mp4", "fragments.mp4", "lie.mkv", "lie.avi", "lie.flv"])
def test_a_header_that_lies_moves_no_bar_and_changes_no_result(
    worker_stack: WorkerStack, name: str, claim: str
) -> None:
    films = worker_stack.directory / "lies"
    films.mkdir(exist_ok=True)
    studio = Studio(films, name)
    lie(studio, LIES[claim])
    # So large that it takes long enough to be told of.
    job = worker_stack.do("video.encode", input=f"file:lies/{name}", width=640, poster=False)
    assert job.error is None
    assert job.state is State.SUCCEEDED
    assert job.result["duration_s"] == pytest.approx(LENGTH_S, abs=0.12)
    progress = [e.data for e in worker_stack.events(job.id, "progress")]
    assert all(told["total"] is None or told["current"] <= told["total"] for told in progress)
    assert all(told["eta_s"] is None or told["current"] < told["total"] for told in progress)
    encode = [told for told in progress if told["stage"]["name"] == "encode" and told["current"]]
    assert encode
    assert {told["unit"] for told in encode} == {"frames"}
    assert all(told["total"] == pytest.approx(LENGTH_S * RATE, rel=0.03) for told in encode)
