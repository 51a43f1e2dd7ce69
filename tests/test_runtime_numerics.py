"""The runtime's arithmetic against exact integers, float64 and torch."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from coverage_flags import coverage_flags
from integer_arithmetic import align, encode_factor, float_delta, quantize_error, scale
from integer_reference import DelayedScale
from native_model import CFLAGS, NUMERICS, ROOT, WARNINGS, _Result, _Scale
from ondevice_compiler.fixed_point import encode_multipliers

SHIM = """
#include "ondevice/gradient.h"
#include "ondevice/square_root.h"
#include "ondevice/update.h"
int32_t scale(int32_t a, int32_t m, int32_t s);
int32_t scale(int32_t a, int32_t m, int32_t s) { return od_scale(a, m, s); }
int32_t clamped(int32_t a, int32_t m, int32_t s, int32_t z, int32_t low, int32_t high);
int32_t clamped(int32_t a, int32_t m, int32_t s, int32_t z, int32_t low, int32_t high) {
    return od_requantize_clamp(a, m, s, z, low, high);
}
int32_t high(int32_t a, int32_t m, int32_t s);
int32_t high(int32_t a, int32_t m, int32_t s) { return od_requantize_high(a, m, s - 33); }
int32_t align(int32_t a, int32_t b, int32_t apart);
int32_t align(int32_t a, int32_t b, int32_t apart) { return od_align_gradients(a, b, apart); }
int32_t delta(int32_t a, float rate);
int32_t delta(int32_t a, float rate) { return od_delta(a, rate); }
int32_t change(int32_t a, float rate);
int32_t change(int32_t a, float rate) {
    const int32_t raised = od_raise(a, od_factor_raise(rate));
    return od_change(raised, od_factor_multiplier(rate), od_factor_shift(rate));
}
float root(float x);
float root(float x) { return od_square_root(x); }
void roots(float *values, uint32_t count);
void roots(float *values, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        values[i] = od_square_root(values[i]);
    }
}
"""
INT32 = st.one_of(
    st.integers(-(2**31) + 1, 2**31 - 1), st.sampled_from([0, 1, -1, 2**31 - 1, 1 - 2**31])
)
MULTIPLIERS = st.one_of(st.just(0), st.integers(2**30, 2**31 - 1), st.integers(-(2**24), 2**24))
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
HISTORIES = st.one_of(
    st.floats(0, 2.0**127, width=32), st.integers(-110, 40).map(lambda e: 127.0 * 2.0**e)
)
many = settings(max_examples=400, deadline=None)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("runtime")
    (folder / "shim.c").write_text(SHIM, encoding="utf-8")
    sources = [folder / "shim.c", *NUMERICS]
    include = f"-I{ROOT / 'runtime/include'}"
    trap = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    command = ["gcc", *CFLAGS, *WARNINGS, *trap, *coverage_flags(), include, "-shared", "-fPIC"]
    library = folder / "runtime.so"
    subprocess.run([*command, "-o", library, *sources], check=True)
    loaded = ctypes.CDLL(str(library))
    for name in ("delta", "change"):
        getattr(loaded, name).argtypes = [ctypes.c_int32, ctypes.c_float]
    for name in ("od_expf", "od_logf", "root"):
        function = getattr(loaded, name)
        function.argtypes, function.restype = [ctypes.c_float], ctypes.c_float
    loaded.od_quantize_error.restype = ctypes.c_float
    return loaded


def exact_scale(accumulator: int, multiplier: int, shift: int) -> int:
    """The specification in Python's own unbounded integers."""
    product = accumulator * multiplier
    if product == 0 or shift > 62:
        return 0
    sign, limit = (1 if product > 0 else -1), 2**31 - 1
    if shift < 1:
        return sign * min(limit, abs(product) << -shift)
    return sign * min(limit, (abs(product) + (1 << (shift - 1))) >> shift)


@many
@given(INT32, MULTIPLIERS, st.integers(-40, 200))
def test_scaling_is_exact_at_every_shift(
    runtime: Any, accumulator: int, multiplier: int, shift: int
) -> None:
    expected = exact_scale(accumulator, multiplier, shift)
    assert runtime.scale(accumulator, multiplier, shift) == expected
    assert int(scale(accumulator, multiplier, shift)) == expected


@many
@given(INT32, st.one_of(st.just(0), st.integers(2**30, 2**31 - 1)), st.integers(33, 63))
def test_scaling_by_the_high_word_is_exact(
    runtime: Any, accumulator: int, multiplier: int, shift: int
) -> None:
    assert runtime.high(accumulator, multiplier, shift) == exact_scale(
        accumulator, multiplier, shift
    )


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shift", range(33, 62))
def test_a_tie_is_rounded_away_from_zero_by_the_high_word(
    runtime: Any, sign: int, shift: int
) -> None:
    accumulator = sign * 3 * 2 ** (shift - 31)  # times 2^30: three halves of 2^shift
    if abs(accumulator) < 2**31:
        assert runtime.high(accumulator, 2**30, shift) == sign * 2


@many
@given(INT32, st.integers(2**30, 2**31 - 1), st.integers(1, 62), st.integers(-128, 127))
def test_a_saturated_activation_does_not_wrap_around_at_its_zero_point(
    runtime: Any, accumulator: int, multiplier: int, shift: int, zero: int
) -> None:
    value = exact_scale(accumulator, multiplier, shift) + zero
    expected = max(-128, min(127, value))
    assert runtime.clamped(accumulator, multiplier, shift, zero, -128, 127) == expected


def test_a_saturated_activation_stays_at_its_bound(runtime: Any) -> None:
    assert runtime.clamped(2**31 - 1, 2**31 - 1, 1, 127, -128, 127) == 127
    assert runtime.clamped(1 - 2**31, 2**31 - 1, 1, -128, -128, 127) == -128


@many
@given(st.integers(-127, 127), st.integers(-127, 127), st.integers(-140, 140))
def test_two_gradients_align_at_every_distance(runtime: Any, a: int, b: int, apart: int) -> None:
    expected = int(align(np.int64(a), np.int64(b), apart))  # type: ignore[arg-type]
    assert runtime.align(a, b, apart) == expected


@pytest.mark.parametrize("apart", [-43, -42, -41, -13, -12, -1, 0, 1, 12, 13, 41, 42, 43])
def test_alignment_is_exact_at_its_limits(runtime: Any, apart: int) -> None:
    for b in (-127, -1, 0, 1, 127):
        assert runtime.align(3, b, apart) == int(align(np.int64(3), np.int64(b), apart))  # type: ignore[arg-type]


@many
@given(INT32, FLOATS)
def test_the_change_of_a_parameter_is_the_exact_product_rounded(
    runtime: Any, accumulator: int, rate: float
) -> None:
    found = runtime.delta(accumulator, rate)
    assert found == int(float_delta(accumulator, rate))
    exact = accumulator * rate
    if abs(rate) >= 2.0**-126 and abs(exact) < 2**30:
        assert abs(found - exact) <= 0.5 + 1e-6


@many
@given(INT32, st.one_of(FLOATS, st.integers(-140, 127).map(lambda e: 1.25 * 2.0**e)))
def test_the_change_from_a_factor_is_the_same_where_16_bits_do_not_saturate(
    runtime: Any, accumulator: int, rate: float
) -> None:
    changes = [runtime.change(accumulator, rate), runtime.delta(accumulator, rate)]
    assert len(set(np.clip(changes, -(2**17), 2**17))) == 1, changes


@many
@given(st.floats(0, 2.0**28))
def test_factors_are_encoded_to_31_bits(real: float) -> None:
    (multiplier,), (shift,) = encode_multipliers(real)
    assert (int(multiplier), int(shift)) == encode_factor(real)
    if real > 2.0**-31:
        assert abs(multiplier * 2.0 ** -int(shift) / real - 1) <= 2.0**-31


def pointer(array: NDArray[Any]) -> Any:
    return ctypes.c_void_p(array.ctypes.data)


@many
@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(-130, 60))
def test_the_quantized_error_equals_the_reference(
    runtime: Any, count: int, seed: int, power: float
) -> None:
    generator = np.random.default_rng(seed)
    error = (generator.standard_normal(count) * 2.0**power).astype(np.float32)
    error[generator.random(count) < 0.2] = 0
    fold = (2.0 ** generator.uniform(-10, 3, count)).astype(np.float32)
    found = np.zeros(count, np.int8)
    unit = runtime.od_quantize_error(pointer(error), pointer(fold), count, pointer(found))
    expected, expected_unit = quantize_error(error, fold)
    assert unit == expected_unit
    np.testing.assert_array_equal(found, expected)


@many
@given(HISTORIES, st.integers(0, 2**31 - 1))
def test_delayed_scales_follow_the_largest_magnitude(
    runtime: Any, history: float, amax: int
) -> None:
    native = _Scale(history, 0, 5, 0, 0)
    reference = DelayedScale(np.float32(history), amax=5)
    runtime.od_scales_begin(ctypes.byref(native), 1)
    reference.begin()
    assert (native.exponent, native.amax) == (reference.exponent, 0)
    native.amax = reference.amax = amax
    runtime.od_scales_end(ctypes.byref(native), 1)
    reference.end()
    assert np.float32(native.history) == reference.history


def test_exp_and_log_are_close_to_float64(runtime: Any) -> None:
    exponents = np.linspace(-86.9, 87.9, 20011).astype(np.float32)
    found = np.array([runtime.od_expf(float(x)) for x in exponents])
    assert np.abs(found / np.exp(exponents.astype(np.float64)) - 1).max() < 3e-7
    assert runtime.od_expf(-88.0) == 0.0
    assert runtime.od_expf(-1e30) == 0.0
    assert runtime.od_expf(0.0) == 1.0
    arguments = np.exp(np.linspace(-80, 80, 20011)).astype(np.float32)
    arguments = np.append(arguments, np.linspace(0.5, 2, 5001).astype(np.float32))
    found = np.array([runtime.od_logf(float(x)) for x in arguments])
    expected = np.log(arguments.astype(np.float64))
    assert (np.abs(found - expected) <= 2e-7 + 2e-7 * np.abs(expected)).all()


def test_square_roots_are_correctly_rounded(runtime: Any) -> None:
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 0x7F800001, 200_000, dtype=np.uint32)
    squares = generator.integers(0, 2**12, 1000).astype(np.float32) ** 2
    edges = np.array([0, 1, 2, 3, 0x7FFFFF, 0x800000, 0x800001, 0x7F7FFFFF], np.uint32)
    values = np.concatenate([bits.view(np.float32), squares, edges.view(np.float32)])
    found = values.copy()
    runtime.roots(pointer(found), found.size)
    np.testing.assert_array_equal(found, np.sqrt(values))
    for below in (-1.0, -0.0, float("nan"), float("-inf")):
        assert runtime.root(below) == 0


def answer_of(
    loss: str, generator: np.random.Generator, x: torch.Tensor
) -> tuple[tuple[Any, ...], torch.Tensor, bool]:
    """What the runtime compares the output x with, torch's loss, and whether x is right."""
    count = len(x)
    if loss == "cross_entropy":
        label, smoothing = int(generator.integers(count)), float(generator.choice([0, 0.1, 0.7]))
        expected = F.cross_entropy(x[None], torch.tensor([label]), label_smoothing=smoothing)
        return (label, ctypes.c_float(smoothing)), expected, int(x.argmax()) == label
    target = generator.standard_normal(count).astype(np.float32)
    if loss == "mse":
        return (target,), F.mse_loss(x, torch.tensor(target, dtype=torch.float64)), False
    target = np.clip(target + np.float32(0.5), 0, 1)
    doubles = torch.tensor(target, dtype=torch.float64)
    right = bool(((x > 0) == (doubles > 0.5)).all())
    return (target,), F.binary_cross_entropy_with_logits(x, doubles), right


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(-8, 5))
def test_losses_and_their_errors_equal_torch(
    runtime: Any, count: int, seed: int, power: float
) -> None:
    generator = np.random.default_rng(seed)
    logits = (generator.standard_normal(count) * 2.0**power).astype(np.float32)
    for loss in ("cross_entropy", "mse", "binary_cross_entropy"):
        error, result = np.zeros(count, np.float32), _Result()
        x = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
        wanted, expected, right = answer_of(loss, generator, x)
        passed = [pointer(w) if isinstance(w, np.ndarray) else w for w in wanted]
        arguments = pointer(logits), count, *passed, pointer(error), ctypes.byref(result)
        status = getattr(runtime, f"od_{loss}")(*arguments)
        expected.backward()
        assert status == 0
        assert result.loss == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
        np.testing.assert_allclose(error, np.asarray(x.grad), 1e-5, 1e-6)
        assert result.correct == right
        one = loss == "binary_cross_entropy" and count == 1
        assert result.predicted == (logits[0] > 0 if one else logits.argmax())


def test_a_loss_that_is_not_finite_or_a_wrong_label_is_an_error(runtime: Any) -> None:
    result, error = _Result(), np.zeros(3, np.float32)
    for bad in (np.nan, np.inf, -np.inf):
        logits = np.array([0, bad, 1], np.float32)
        rest = pointer(error), ctypes.byref(result)
        hard = ctypes.c_float(0)
        assert runtime.od_cross_entropy(pointer(logits), 3, 0, hard, *rest) == -4
        assert runtime.od_binary_cross_entropy(pointer(logits), 3, pointer(error), *rest) == -4
    fine = np.zeros(3, np.float32)
    assert runtime.od_cross_entropy(pointer(fine), 3, 3, hard, None, ctypes.byref(result)) == -1
