"""Coded deltas on the host: what goes in comes out, and no bytes harm the server."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.federate.delta import (
    Codec,
    DeltaError,
    decode_changes,
    decode_delta,
    encode_dense,
    encode_sparse,
)
from ondevice.federate.weights import weight_formats
from small_networks import compiled

MANIFESTS = {
    dtype: compiled("perceptron", dtype=dtype).model.manifest for dtype in ("int8", "float32")
}
DTYPES = st.sampled_from(sorted(MANIFESTS))


@given(DTYPES, st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_sparse_delta_is_the_dense_one(dtype: str, seed: int, share: float) -> None:
    formats, rng = weight_formats(MANIFESTS[dtype]), np.random.default_rng(seed)
    before, after = [], []
    for form in formats:
        old = rng.integers(-9999, 9999, form.shape).astype(form.dtype)
        new = rng.integers(-9999, 9999, form.shape).astype(form.dtype)
        before.append(old.tobytes())
        after.append(np.where(rng.random(form.shape) < share, new, old).tobytes())
    dense = decode_changes(formats, encode_dense(formats, before, after))
    sparse = decode_changes(formats, encode_sparse(formats, before, after))
    for one, other in zip(dense, sparse, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_sparse_delta_of_few_elements_is_short() -> None:
    formats = weight_formats(MANIFESTS["int8"])
    before = [bytes(form.size_bytes) for form in formats]
    after = [bytes([1]) + bytes(form.size_bytes - 1) for form in formats]
    assert len(encode_sparse(formats, before, before)) == 1
    assert len(encode_sparse(formats, before, after)) <= 1 + 3 * len(formats)


@given(DTYPES, st.binary(max_size=400), st.sampled_from([None, *Codec]))
def test_any_bytes_are_a_delta_of_the_models_shape_or_refused(
    dtype: str, body: bytes, codec: Codec | None
) -> None:
    message = body if codec is None else bytes([codec]) + body
    try:
        delta = decode_delta(MANIFESTS[dtype], message)
    except DeltaError:
        return
    formats = weight_formats(MANIFESTS[dtype])
    assert [array.shape for array in delta] == [form.shape for form in formats]
    assert all(np.all(np.isfinite(array)) for array in delta)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("00", "ends within"),
        ("ffffffffff01", "more than 32 bits"),
        ("ffffffff7f02", "more than 32 bits"),
        ("ffff0302", "element 65535"),
        ("80", "ends within"),
    ],
)
def test_a_broken_top_k_delta_is_refused_in_words(body: str, complaint: str) -> None:
    with pytest.raises(DeltaError, match=complaint):
        decode_delta(MANIFESTS["int8"], bytes([Codec.TOPK]) + bytes.fromhex(body))


def test_a_level_that_is_no_number_is_refused() -> None:
    formats = weight_formats(MANIFESTS["float32"])
    nan = np.float32("nan").tobytes()
    body = b"".join(nan + bytes(-(-form.elements // 8)) for form in formats)
    with pytest.raises(DeltaError, match="no finite number"):
        decode_delta(MANIFESTS["float32"], bytes([Codec.SIGN]) + body)
