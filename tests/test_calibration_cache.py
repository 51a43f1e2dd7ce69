"""Calibrations kept between compilations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ondevice_compiler.calibrate import Calibration
from ondevice_compiler.calibration_cache import cached_calibration

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def _calibration() -> Calibration:
    generator = np.random.default_rng(0)
    peaks = {name: generator.random((2, 3)).astype(np.float32) for name in ("d.a", "d.b/c")}
    low, high = {"x": -0.1, "a.relu": 0.0}, {"x": 1 / 3, "a.relu": 6.02e-5}
    return Calibration(low, high, peaks, generator.random((2, 4)).astype(np.float32))


class Counted:
    """Gives a calibration and counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Calibration:
        self.calls += 1
        return _calibration()


def _recalled(
    folder: Path | None, measure: Counted, text: str = "model", x: NDArray[np.float32] = X
) -> Calibration:
    return cached_calibration(folder, [text], [x], measure)


def test_what_is_recalled_is_what_was_measured_to_the_last_bit(tmp_path: Path) -> None:
    measure = Counted()
    first, again = (_recalled(tmp_path / "new", measure) for _ in range(2))
    assert measure.calls == 1
    assert (again.low, again.high) == (first.low, first.high)
    assert list(again.low) == list(first.low)
    np.testing.assert_array_equal(again.errors, first.errors)
    assert list(again.gradient_peaks) == list(first.gradient_peaks)
    for name, values in first.gradient_peaks.items():
        np.testing.assert_array_equal(again.gradient_peaks[name], values)
        assert again.gradient_peaks[name].dtype == values.dtype


@pytest.mark.parametrize(
    ("text", "x"),
    [("other model", X), ("model", X + 1), ("model", X.reshape(3, 2)), ("model", X[:1])],
)
def test_another_model_or_other_samples_are_measured(
    text: str, x: NDArray[np.float32], tmp_path: Path
) -> None:
    measure = Counted()
    _recalled(tmp_path, measure)
    _recalled(tmp_path, measure, text, x)
    assert measure.calls == 2


def test_a_torn_file_is_measured_again(tmp_path: Path) -> None:
    measure = Counted()
    _recalled(tmp_path, measure)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    _recalled(tmp_path, measure)
    _recalled(tmp_path, measure)
    assert measure.calls == 2


def test_without_a_folder_nothing_is_kept() -> None:
    measure = Counted()
    _recalled(None, measure)
    _recalled(None, measure)
    assert measure.calls == 2
