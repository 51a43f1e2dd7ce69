"""The runtime where a model or a board lacks something, and its functions of one number."""

from __future__ import annotations

import ctypes
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from coverage_flags import coverage_flags
from native_model import CFLAGS, NUMERICS, ROOT, WARNINGS

EPSILON = 2.0**-23


class _Adam(ctypes.Structure):
    _fields_ = (("rate", ctypes.c_float), ("root", ctypes.c_float))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("edges") / "runtime.so"
    flags = [*CFLAGS, *WARNINGS, *coverage_flags(), f"-I{ROOT / 'runtime/include'}"]
    subprocess.run(["gcc", *flags, "-shared", "-fPIC", "-o", path, *NUMERICS], check=True)
    library = ctypes.CDLL(str(path))
    for name in ("od_sigmoidf", "od_tanhf", "od_erff", "od_square_root"):
        function = getattr(library, name)
        function.argtypes, function.restype = [ctypes.c_float], ctypes.c_float
    library.od_clip_factor.argtypes = [ctypes.c_float, ctypes.c_float]
    library.od_clip_factor.restype = ctypes.c_float
    library.od_add_squares.argtypes = [ctypes.c_float, ctypes.c_void_p, ctypes.c_uint32]
    library.od_add_squares.restype = ctypes.c_float
    library.od_adam_begin.argtypes = [
        ctypes.c_float, ctypes.c_uint32, ctypes.c_float, ctypes.c_float,
    ]  # fmt: skip
    library.od_adam_begin.restype = _Adam
    return library


def test_a_board_that_lends_nothing_but_a_way_out_is_answered(
    compile_c: Callable[[str], Path],
) -> None:
    done = subprocess.run([compile_c("bare_board")], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


def test_sigmoid_tanh_and_erf_are_close_to_float64(runtime: Any) -> None:
    """erf to the 1.5e-7 of its source, Abramowitz and Stegun 7.1.26, and float32's rounding."""
    points = np.concatenate([np.linspace(-100, 100, 4001), np.linspace(-1, 1, 4001)])
    for x in points.astype(np.float32).tolist():
        assert abs(runtime.od_tanhf(x) - math.tanh(x)) <= 4 * EPSILON * abs(math.tanh(x)) + 1e-38
        exact = 1 / (1 + math.exp(-x))
        # exp(-x) is cut at 88: beyond, the sigmoid is 6e-39 instead of less.
        assert abs(runtime.od_sigmoidf(x) - exact) <= 6 * EPSILON * exact + 1e-38
        assert abs(runtime.od_erff(x) - math.erf(x)) <= 1.5e-7 + 4 * EPSILON


def test_the_square_root_of_infinity_is_infinite_and_of_no_number_0(runtime: Any) -> None:
    assert runtime.od_square_root(math.inf) == math.inf
    assert runtime.od_square_root(math.nan) == 0.0


@given(st.floats(0, 2.0**100, width=32), st.floats(2.0**-10, 2.0**30, width=32))
def test_clipping_by_norm_is_that_of_its_definition(
    runtime: Any, squares: float, largest: float
) -> None:
    expected = min(1.0, largest / (math.sqrt(squares) + 1e-6))
    assert runtime.od_clip_factor(squares, largest) == pytest.approx(expected, rel=4 * EPSILON)


@given(st.lists(st.floats(-1e6, 1e6, width=32), max_size=40))
def test_squares_are_added_in_order(runtime: Any, values: list[float]) -> None:
    given_values: NDArray[np.float32] = np.array(values, np.float32)
    expected = np.float32(3)
    for value in given_values:
        expected = np.float32(expected + value * value)
    pointer = ctypes.c_void_p(given_values.ctypes.data)
    assert runtime.od_add_squares(3.0, pointer, len(values)) == expected


@given(st.integers(1, 2**32 - 1), st.sampled_from([0.5, 0.1, 0.01, 0.001]))
def test_the_bias_correction_of_adam_is_that_of_its_paper_at_any_step(
    runtime: Any, step: int, fresh: float
) -> None:
    """Kingma and Ba, Adam, 2014, algorithm 1; 1 - beta is what the device is given."""
    exact = -math.expm1(step * math.log1p(-float(np.float32(fresh))))
    found = runtime.od_adam_begin(1.0, step, fresh, fresh)
    assert found.rate == pytest.approx(1 / exact, rel=64 * EPSILON)
    assert found.root == pytest.approx(1 / math.sqrt(exact), rel=64 * EPSILON)
