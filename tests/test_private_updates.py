"""DP-SGD on the device: against PyTorch's per-sample gradients and the NumPy reference."""

from __future__ import annotations

import ctypes
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from native_model import NativeModel, _Result
from noise_reference import DEVIATION, cumulated, noise
from ondevice_compiler import CompileOptions
from ondevice_compiler.errors import UserError
from ondevice_compiler.private_updates import NOISE_DEVIATION, PrivateSum
from ondevice_compiler.samples import pack_sample
from sequence_reference import SequenceMachine
from small_networks import NETWORKS, Compilation, compiled, labels
from test_gradients import as_stored, torch_loss

KEY = bytes(range(1, 33))
LOT, CLIP = 4, 0.3
NO_KEY = -5  # OD_ERROR_NOISE_KEY
STEPS = 12


def made(name: str = "perceptron", sigma: float = 0.5, **options: Any) -> Compilation:
    lot = {"dp_clip_norm": CLIP, "dp_noise_multiplier": sigma, "accumulation_steps": LOT}
    return compiled(name, **{**lot, **options})


def with_key(native: NativeModel, key: bytes = KEY) -> NativeModel:
    for index, entry in enumerate(native.manifest["parameters"]):
        if entry["format"] == "noise key":
            native.write(index, np.frombuffer(key, "<u4"))
    return native


def sums(native: NativeModel) -> NDArray[np.int64]:
    parts = [v for k, v in native.parameters().items() if k.endswith(".sum")]
    return np.concatenate([part.reshape(-1) for part in parts]).astype(np.int64)


def clipped_gradient(module: Any, x: NDArray[Any], y: Any) -> dict[str, torch.Tensor]:
    """Of one sample."""
    module.zero_grad()
    torch_loss(module, x, y).backward()
    found = {k: p.grad.clone() for k, p in module.named_parameters()}
    norm = torch.sqrt(sum((g.double() ** 2).sum() for g in found.values()))
    return {k: g * min(1.0, CLIP / float(norm)) for k, g in found.items()}


@pytest.mark.parametrize(("sigma", "optimizer"), [(0.0, "sgd"), (0.5, "momentum"), (0.5, "adam")])
def test_float_updates_are_those_of_per_sample_gradients_in_torch(
    sigma: float, optimizer: str
) -> None:
    native = with_key(made(sigma=sigma, dtype="float32", optimizer=optimizer).native())
    module = NETWORKS["perceptron"].module()
    kinds = {"sgd": torch.optim.SGD, "momentum": torch.optim.SGD, "adam": torch.optim.AdamW}
    extra = {"sgd": {}, "momentum": {"momentum": 0.9}, "adam": {"weight_decay": 0.0}}[optimizer]
    reference = kinds[optimizer](module.parameters(), lr=0.02, **extra)
    xs, ys = NETWORKS["perceptron"].samples(STEPS, seed=3), labels(STEPS)
    for update in range(STEPS // LOT):
        total = {k: torch.zeros_like(p) for k, p in module.named_parameters()}
        for i in range(update * LOT, update * LOT + LOT):
            native.train(xs[i], ys[i], 0.02)
            for key, gradient in clipped_gradient(module, xs[i], ys[i]).items():
                total[key] += gradient
        native.apply(0.02)
        if sigma:
            real = sigma * CLIP / DEVIATION
            for index, summed in enumerate(total.values()):
                drawn = noise(KEY, update, index, summed.numel())
                summed += torch.from_numpy(drawn * real).reshape(summed.shape).float()
        for key, parameter in module.named_parameters():
            parameter.grad = total[key] / LOT
        reference.step()
    stored = native.parameters()
    for key, parameter in module.named_parameters():
        expected = as_stored(parameter, stored[key].shape)
        np.testing.assert_allclose(stored[key], expected, 1e-5, 1e-5, err_msg=key)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("perceptron", {}),
        ("perceptron", {"optimizer": "adam"}),
        ("wearer", {"optimizer": "momentum", "scheme": "last-2"}),
    ],
)
def test_int8_updates_equal_the_reference_bit_for_bit(name: str, options: dict[str, Any]) -> None:
    compilation = made(name, **options)
    native, program = with_key(compilation.native()), compilation.program
    error = native.loss_error("cross_entropy")
    machine = SequenceMachine(program, compilation.histories, error)
    machine.noise_key = KEY
    before, scales = native.parameters(), native.scales()
    for count, x in enumerate(NETWORKS[name].samples(2 * LOT, seed=3), start=1):
        y = labels(2 * LOT)[count - 1]
        native.train(x, y, 0.5)
        machine.train(np.frombuffer(pack_sample(native.manifest, x), np.int8), y, 0.5)
        if count % LOT == 0:
            native.apply(0.5)
            machine.apply()
        for key, value in native.parameters().items():
            np.testing.assert_array_equal(value, machine.values[key], f"sample {count}, {key}")
    after = native.parameters()
    assert any((after[key] != before[key]).any() for key in before)
    assert [s[0] for s in native.scales()] == [s[0] for s in scales]  # they follow no sample


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(-3, 12).map(lambda power: 10.0**power),
    st.sampled_from(["int8", "float32"]),
)
def test_one_sample_moves_the_sums_by_the_limit_at_most(seed: int, size: float, dtype: str) -> None:
    """Exactly: the sums are integers."""
    native = _kept(dtype)
    x = (NETWORKS["perceptron"].samples(1, seed=seed)[0] * size).astype(np.float32)
    before = sums(native)
    native.feed(x, seed % 5)
    native.model.train(0.1, ctypes.byref(_Result()), None)  # its loss may be no number
    moved = sums(native) - before
    limit = PrivateSum(CLIP, 0.5, LOT).units * CLIP
    assert float(np.sqrt((moved.astype(object) ** 2).sum())) <= limit


def _kept(dtype: str, kept: dict[str, NativeModel] = {}) -> NativeModel:  # noqa: B006
    if dtype not in kept:
        kept[dtype] = with_key(made(dtype=dtype).native())
    return kept[dtype]


def test_a_clipped_gradient_keeps_its_direction_and_length() -> None:
    native = with_key(made(dtype="float32").native())
    x, y = NETWORKS["perceptron"].samples(1, seed=3)[0] * 5, 2
    native.train(x, y, 0.1)
    units = PrivateSum(CLIP, 0.5, LOT).units
    wanted = clipped_gradient(NETWORKS["perceptron"].module(), x, y)
    found = native.parameters()
    for key, gradient in wanted.items():
        expected = as_stored(gradient, found[key].shape) * units
        np.testing.assert_allclose(found[f"{key}.sum"], expected, 1e-5, 2)


def test_a_gradient_that_is_no_number_adds_nothing() -> None:
    native = _kept("float32")
    squares, factor = (ctypes.c_float * 2)(), native.library.od_private_factor
    factor.restype, factor.argtypes = ctypes.c_float, [ctypes.c_void_p, *[ctypes.c_float] * 2]
    for bad in (np.inf, np.nan, 3e38):
        values = np.array([1.0, bad], np.float32)
        squares[0] = squares[1] = 0.0
        native.library.od_squares_add(squares, ctypes.c_void_p(values.ctypes.data), 2)
        assert factor(squares, 1.0, 1000.0) == 0.0
    total = np.zeros(2, np.int32)
    address = ctypes.c_void_p(total.ctypes.data)
    native.library.od_private_add(
        address, ctypes.c_void_p(values.ctypes.data), 2, ctypes.c_float(0)
    )
    assert not total.any()


def test_sums_stop_before_they_overflow() -> None:
    native = _kept("float32")
    total, gradient = np.zeros(2, np.int32), np.array([1.0, -1.0], np.float32)
    for _ in range(5):
        native.library.od_private_add(
            ctypes.c_void_p(total.ctypes.data),
            ctypes.c_void_p(gradient.ctypes.data),
            2,
            ctypes.c_float(2.0**29),
        )
    assert total.tolist() == [2**30, -(2**30)]


def drawn(native: NativeModel, count: int, update: int, tensor: int, key: bytes = KEY) -> Any:
    total = np.zeros(count, np.int32)
    words = np.frombuffer(key, "<u4").copy()
    native.library.od_add_noise(
        ctypes.c_void_p(total.ctypes.data),
        count,
        ctypes.c_void_p(words.ctypes.data),
        update,
        tensor,
    )
    return total


def test_the_noise_is_that_of_the_reference_bit_for_bit() -> None:
    native = _kept("int8")
    for update, tensor in ((0, 0), (1, 0), (0, 1), (2**32 - 1, 77)):
        found = drawn(native, 200, update, tensor)
        np.testing.assert_array_equal(found, noise(KEY, update, tensor, 200))
    assert len(cumulated()) == 217
    assert pytest.approx(NOISE_DEVIATION) == DEVIATION


def test_the_noise_is_gaussian_and_independent_between_blocks() -> None:
    native = _kept("int8")
    count = 50_000
    blocks = [drawn(native, count, u, t) / DEVIATION for u, t in ((0, 0), (1, 0), (0, 1))]
    blocks.append(drawn(native, count, 0, 0, bytes(31) + b"\x01") / DEVIATION)
    for block in blocks:
        assert stats.kstest(block, "norm").pvalue > 1e-4
        assert abs(block.mean()) < 4.5 / count**0.5
        assert abs(block.var() - 1) < 4.5 * (2 / count) ** 0.5
        assert abs(stats.kurtosis(block)) < 4.5 * (24 / count) ** 0.5
        assert abs(np.corrcoef(block[1:], block[:-1])[0, 1]) < 4.5 / count**0.5
        assert np.abs(block).max() > 3.5
    for one, other in pairwise(blocks):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4.5 / count**0.5
    low = np.rint(blocks[0] * DEVIATION).astype(np.int64) % 16  # no pattern in the last bits
    assert stats.chisquare(np.bincount(low, minlength=16)).pvalue > 1e-4


def test_noise_differs_from_update_to_update_and_without_samples_moves_weights() -> None:
    native = with_key(made(dtype="float32").native())
    moves = []
    for _ in range(2):
        before = native.parameters()["fc.weight"]
        native.apply(1.0)  # an empty lot
        moves.append(native.parameters()["fc.weight"] - before)
    assert (moves[0] != moves[1]).any()
    real = 0.5 * CLIP / DEVIATION / LOT
    np.testing.assert_allclose(moves[1].ravel(), -noise(KEY, 1, 2, 80) * real, 1e-4, 1e-6)


def test_without_a_key_nothing_is_trained() -> None:
    native = made().native()
    native.feed(NETWORKS["perceptron"].samples(1)[0], 0)
    assert native.model.train(0.1, ctypes.byref(_Result()), None) == NO_KEY
    assert native.model.apply(0.1, None) == NO_KEY
    assert native.update_steps() == 0
    assert not sums(native).any()
    with_key(native).model.reset()
    assert native.model.apply(0.1, None) == NO_KEY


def test_without_noise_no_key_is_asked_for() -> None:
    native = made(sigma=0.0).native()
    assert "noise key" not in {e["format"] for e in native.manifest["parameters"]}
    native.train(NETWORKS["perceptron"].samples(1)[0], 0, 0.1)
    assert sums(native).any()


def test_the_plan_counts_sums_and_the_gradients_of_one_sample() -> None:
    private = made(dtype="float32").model.manifest
    plain = compiled("perceptron", dtype="float32").model.manifest
    elements = 10 * 16 + 16 + 16 * 5 + 5
    assert private["memory"]["state_bytes"] - plain["memory"]["state_bytes"] == 4 * elements + 32
    kept = [t for t in private["memory"]["tensors"] if t["name"].endswith(".real")]
    assert sum(t["bytes"] for t in kept) == 4 * elements
    assert private["memory"]["arena_bytes"] >= 4 * elements


def test_a_model_without_it_has_nothing_of_it() -> None:
    files = compiled("perceptron").model.files
    for text in (files["model.c"], files["kernels.h"]):
        assert "private" not in text
        assert "noise" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dp_clip_norm": 0.0}, "dp_clip_norm 0.0; allowed: above 0"),
        ({"dp_noise_multiplier": 1.0}, "without dp_clip_norm"),
        ({"dp_clip_norm": 1.0, "clip_norm": 1.0, "accumulation_steps": 2}, "exclude each other"),
        ({"dp_clip_norm": 1.0}, "accumulation_steps 1; allowed: 2 or more"),
        (
            {"dp_clip_norm": 1.0, "dp_noise_multiplier": 0.1, "accumulation_steps": 4096},
            "allowed: 0, or 0.38 to 100",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CompileOptions(**options).check()
