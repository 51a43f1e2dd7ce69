"""The short form of `make soak`: thousands of frames instead of a million."""

from collections.abc import Callable
from pathlib import Path

import pytest
from soak import soak
from spoilt_line import KINDS

from cut_link import fake_data, fake_manifest


@pytest.mark.parametrize("break_every", [0, 400])
def test_a_soak_ends_with_the_weights_of_a_clean_line(
    compile_c: Callable[[str], Path], break_every: int
) -> None:
    argv = [str(compile_c("fake_device"))]
    result = soak(argv, fake_manifest(), fake_data(), 400, rate=0.05, break_every=break_every)
    assert result.equal
    assert result.steps == 400
    assert result.frames > 6 * 400
    assert all(result.faults[kind] > 5 for kind in KINDS)
    assert result.retries > 50
    assert (result.sessions > 3) == (break_every > 0)
