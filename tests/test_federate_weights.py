"""Weights between the device's integers and real numbers, and the dense delta."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.federate.delta import Codec, DeltaError, decode_delta, encode_dense
from ondevice.federate.weights import (
    Q88_RANGE,
    weight_formats,
    weights_from_device,
    weights_to_device,
)
from small_networks import compiled

MANIFEST = compiled("perceptron").model.manifest
FLOAT_MANIFEST = compiled("perceptron", dtype="float32").model.manifest


@pytest.mark.parametrize("manifest", [MANIFEST, FLOAT_MANIFEST])
def test_what_the_device_holds_survives_the_way_through_real_numbers(manifest: dict) -> None:  # type: ignore[type-arg]
    formats = weight_formats(manifest)
    rng = np.random.default_rng(0)
    parameters = []
    for entry in manifest["parameters"]:
        low, high = Q88_RANGE if entry["dtype"] == "int16" else (-(2**31), 2**31)
        values = rng.integers(low, high, entry["shape"])
        parameters.append(values.astype(np.dtype(entry["dtype"])).tobytes())
    weights = weights_from_device(formats, parameters)
    assert weights_to_device(formats, weights) == [parameters[form.index] for form in formats]


def test_weights_beyond_what_the_device_holds_saturate() -> None:
    form = next(f for f in weight_formats(MANIFEST) if f.dtype == "int16")
    huge = form.to_device(np.full(form.shape, 1e9))
    assert np.all(np.frombuffer(huge, "<i2") == Q88_RANGE[1])


@given(st.integers(0, 2**32 - 1))
def test_a_dense_delta_is_the_difference_of_the_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    formats = weight_formats(MANIFEST)

    def some() -> list[bytes]:
        limit = {"int16": 2**13, "int32": 2**29}
        return [
            rng.integers(-limit[f.dtype], limit[f.dtype], f.shape).astype(f.dtype).tobytes()
            for f in formats
        ]

    before, after = some(), some()
    delta = decode_delta(MANIFEST, encode_dense(formats, before, after))
    for form, old, new, change in zip(formats, before, after, delta, strict=True):
        np.testing.assert_allclose(change, form.to_real(new) - form.to_real(old), rtol=1e-9)


def test_a_change_beyond_its_type_saturates() -> None:
    formats = weight_formats(MANIFEST)
    low = [np.full(f.shape, np.iinfo(f.dtype).min, f.dtype).tobytes() for f in formats]
    high = [np.full(f.shape, np.iinfo(f.dtype).max, f.dtype).tobytes() for f in formats]
    for form, change in zip(
        formats, decode_delta(MANIFEST, encode_dense(formats, low, high)), strict=True
    ):
        expected = np.iinfo(form.dtype).max * form.unit
        assert np.allclose(change, np.broadcast_to(expected, form.shape), rtol=1e-12)


@pytest.mark.parametrize("message", [b"", bytes([200]), bytes([Codec.DENSE]) + bytes(3)])
def test_bytes_that_are_no_delta_are_refused(message: bytes) -> None:
    with pytest.raises(DeltaError):
        decode_delta(MANIFEST, message)
