"""What `python -m tests.faults.mutations` would take away is still there."""

from __future__ import annotations

import pytest

from tests.faults.mutations import BREAKS, Break
from tests.support.checkout import ROOT


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.name)
def test_an_edit_that_takes_a_protection_away_fits_one_place(broken: Break) -> None:
    assert (ROOT / broken.file).read_text().count(broken.old) == 1
    for test in broken.tests:
        file, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text()
