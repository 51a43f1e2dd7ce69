"""The device's rounds and codecs against NumPy, bit for bit."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import round_reference as reference
from native_model import NativeModel
from ondevice.federate.delta import decode_changes
from ondevice.federate.weights import weight_formats
from ondevice_compiler.compression import CODECS
from small_networks import compiled

SENDING = [codec for codec in CODECS if codec != "none"]
BETWEEN, IN_ROUND, SENT = 0, 1, 2
SEEDS = st.integers(0, 2**32 - 1)

_UPLOAD = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_bool)
_PLAIN = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_PULL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_float)
_ENCODE = ctypes.CFUNCTYPE(
    ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32
)


class _Operations(ctypes.Structure):
    _fields_ = (("upload", _UPLOAD), ("begin", _PLAIN), ("end", _PLAIN), ("pull", _PULL))


class _Codec(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("compress", _PLAIN), ("encode", _ENCODE))


class NativeRound:
    """A model's rounds, called as the session calls them."""

    def __init__(self, codec: str, **options: Any) -> None:
        made = compiled("perceptron", compress=codec, compress_ratio=0.1, **options)
        self.native = NativeModel(made.model.files, made.model.manifest)
        self.formats = weight_formats(made.model.manifest)
        self.pointer = self.native.model.round
        self.operations = _Operations.in_dll(self.native.library, "od_round_operations")
        self.codec = codec
        if codec != "none":
            self._codec = _Codec.in_dll(self.native.library, f"od_codec_{codec}")
        self.kept = max(1, round(0.1 * sum(form.elements for form in self.formats)))
        self.units = [np.broadcast_to(form.unit, form.shape) for form in self.formats]

    def entries(self) -> list[dict[str, Any]]:
        return list(self.native.manifest["parameters"])

    def put(self, kind: str, arrays: list[NDArray[Any]]) -> None:
        names = [entry["name"] for entry in self.entries()]
        for form, array in zip(self.formats, arrays, strict=True):
            self.native.write(names.index(form.name + kind), array)

    def get(self, kind: str) -> list[NDArray[Any]]:
        found = self.native.parameters()
        return [found[form.name + kind] for form in self.formats]

    def phase(self) -> int:
        index = [e["name"] for e in self.entries()].index("round_phase")
        stored = self.native.model.parameters[index]
        return int.from_bytes(ctypes.string_at(stored.data, 4), "little")

    def encoded(self, part: int = 7) -> bytes:
        """Read in parts, as over the link."""
        length = self._codec.encode(self.pointer, 0, None, 0)
        message = b""
        while len(message) < length:
            window = ctypes.create_string_buffer(part)
            assert self._codec.encode(self.pointer, len(message), window, part) == length
            message += window.raw[: min(part, length - len(message))]
        return message


@cache
def native_round(codec: str, **options: Any) -> NativeRound:
    return NativeRound(codec, **options)


def random_arrays(made: NativeRound, seed: int, spread: int = 16) -> list[NDArray[Any]]:
    """Values of many magnitudes, at times the largest, zeros and equal ones among them."""
    rng = np.random.default_rng(seed)
    arrays = []
    for form in made.formats:
        size = 2.0 ** rng.uniform(0, {"int16": 15, "int32": 31, "float32": 3}[form.dtype])
        values = rng.standard_normal(form.shape) * size * rng.choice([0, 1, 1, 2.0**-spread])
        if form.dtype != "float32":
            limit = reference.LIMITS[form.dtype]
            values = np.clip(np.rint(values), -limit, limit)
        arrays.append(values.astype(form.dtype))
    return arrays


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("codec", SENDING)
@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_round_sends_and_keeps_what_the_reference_does(codec: str, dtype: str, seed: int) -> None:
    made = native_round(codec, dtype=dtype)
    residual = [array // 4 if dtype == "int8" else array for array in random_arrays(made, seed)]
    first, last = random_arrays(made, seed + 1), random_arrays(made, seed + 2)
    made.native.model.reset()
    made.put(".residual", residual)
    made.put("", first)
    made.operations.begin(made.pointer)
    assert made.phase() == IN_ROUND
    start = [reference.reference(w, r) for w, r in zip(first, residual, strict=True)]
    made.put("", last)  # as training would
    made.operations.end(made.pointer)
    assert made.phase() == SENT
    changes = [reference.learnt(w, s) for w, s in zip(last, start, strict=True)]
    wanted = reference.compress(codec, changes, made.units, made.kept)
    for found, want in zip(made.get(""), wanted, strict=True):
        np.testing.assert_array_equal(found, want.sent)
    for found, want in zip(made.get(".residual"), wanted, strict=True):
        np.testing.assert_array_equal(found, reference.clamped(want.kept))
    sent = decode_changes(made.formats, made.encoded())
    for change, want in zip(sent, wanted, strict=True):
        np.testing.assert_array_equal(change, want.sent.reshape(-1))


@pytest.mark.parametrize("codec", SENDING)
def test_nothing_learnt_sends_nothing_and_keeps_nothing(codec: str) -> None:
    made = native_round(codec)
    made.native.model.reset()
    made.operations.begin(made.pointer)
    made.operations.end(made.pointer)
    assert all(not np.any(array) for array in made.get(".residual"))
    assert all(not np.any(change) for change in decode_changes(made.formats, made.encoded()))


@pytest.mark.parametrize("codec", SENDING)
@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_what_was_not_taken_is_sent_with_what_comes(codec: str, seed: int) -> None:
    made = native_round(codec)
    made.native.model.reset()
    first, last = random_arrays(made, seed), random_arrays(made, seed + 1)
    made.put("", first)
    made.operations.begin(made.pointer)
    made.put("", last)
    made.operations.end(made.pointer)
    sent, kept = made.get(""), made.get(".residual")
    made.operations.upload(made.pointer, False)
    assert made.phase() == BETWEEN
    for found, one, other in zip(made.get(".residual"), sent, kept, strict=True):
        np.testing.assert_array_equal(found, reference.put_back(other, one))


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_a_round_that_is_begun_again_keeps_what_it_had_learnt(seed: int) -> None:
    made = native_round("topk")
    made.native.model.reset()
    first, last = random_arrays(made, seed), random_arrays(made, seed + 1)
    made.put("", first)
    made.operations.begin(made.pointer)
    made.put("", last)
    made.operations.upload(made.pointer, True)
    for found, old, new in zip(made.get(".residual"), first, last, strict=True):
        np.testing.assert_array_equal(found, reference.clamped(reference.reference(new, old)))


@pytest.mark.parametrize("codec", SENDING)
@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_what_is_sent_and_kept_is_what_was_learnt_also_at_the_end_of_the_range(
    codec: str, seed: int
) -> None:
    made = native_round(codec)
    rng = np.random.default_rng(seed)
    made.native.model.reset()
    residual, first, last = [], [], []
    for form in made.formats:
        limit, kept = reference.LIMITS[form.dtype], reference.KEPT[form.dtype]
        start = rng.choice([-limit, limit, 0, limit // 2], form.shape)
        moved = np.clip(start + rng.integers(-kept, kept, form.shape), -limit, limit)
        residual.append(rng.integers(-kept, kept + 1, form.shape).astype(form.dtype))
        first.append(start.astype(form.dtype))
        last.append(moved.astype(form.dtype))
    made.put(".residual", residual)
    made.put("", first)
    made.operations.begin(made.pointer)
    made.put("", last)
    made.operations.end(made.pointer)
    sent, left = made.get(""), made.get(".residual")
    for form, r, f, n, s, k in zip(made.formats, residual, first, last, sent, left, strict=True):
        wanted = r.astype(np.int64) + n - f.astype(np.int64)
        found = s.astype(np.int64) + k
        whole = np.abs(k.astype(np.int64)) < reference.KEPT[form.dtype]
        np.testing.assert_array_equal(found[whole], wanted[whole])


def test_the_velocity_of_what_is_sent_is_forgotten() -> None:
    made = native_round("topk", optimizer="momentum")
    made.native.model.reset()
    made.operations.begin(made.pointer)
    velocity = [np.full(form.shape, 5, form.dtype) for form in made.formats]
    made.put(".velocity", velocity)
    made.put("", random_arrays(made, 3, spread=2))
    made.operations.end(made.pointer)
    for sent, after in zip(made.get(""), made.get(".velocity"), strict=True):
        np.testing.assert_array_equal(after, np.where(sent != 0, 0, 5))
    assert any(np.any(sent) for sent in made.get(""))


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("share", [0.0, 0.0625, 0.37, 1.0])
def test_the_pull_moves_the_weights_by_its_share_of_the_way_back(dtype: str, share: float) -> None:
    made = native_round("none", proximal=True, dtype=dtype)
    made.native.model.reset()
    anchor = [array // 4 if dtype == "int8" else array for array in random_arrays(made, 1)]
    made.put("", anchor)
    made.operations.begin(made.pointer)
    weights = [array // 4 if dtype == "int8" else array for array in random_arrays(made, 2)]
    made.put("", weights)
    made.operations.pull(made.pointer, share)
    for found, old, start in zip(made.get(""), weights, anchor, strict=True):
        wanted = old - share * (old.astype(np.float64) - start)
        step = 1e-5 * np.abs(wanted).max() if dtype == "float32" else 0.5 + 1e-6
        assert np.max(np.abs(found - wanted)) <= step
    for kept, start in zip(made.get(".anchor"), anchor, strict=True):
        np.testing.assert_array_equal(kept, start)


def test_the_buffers_of_a_round_are_in_the_plan() -> None:
    plain = compiled("perceptron").model.manifest["memory"]
    weights = plain["parameter_bytes"]
    for options, buffers in (
        ({"compress": "topk"}, 1),
        ({"proximal": True}, 1),
        ({"compress": "int8", "proximal": True}, 2),
    ):
        memory = compiled("perceptron", **options).model.manifest["memory"]
        assert memory["state_bytes"] - plain["state_bytes"] == buffers * weights + 4
        assert memory["ram_bytes"] - plain["ram_bytes"] == buffers * weights + 4
        assert memory["arena_bytes"] == plain["arena_bytes"]


def test_a_model_without_rounds_links_none_of_their_code() -> None:
    assert "od_round" not in compiled("perceptron").model.files["model.c"]
    text = compiled("perceptron", compress="topk").model.files["model.c"]
    assert "od_codec_topk" in text
    assert "od_codec_sign" not in text
