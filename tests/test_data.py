"""Training data: what is refused, and in which words."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ondevice.data import (
    DataError,
    Dataset,
    calibration_subset,
    check_dataset,
    check_loss,
    load_dataset,
)
from toy_training import toy_arrays, toy_dataset, toy_manifest, write_toy_data


def _spoilt(key: str, index: Any, value: float) -> dict[str, NDArray[Any]]:
    array = toy_arrays()[key].copy()
    array[index] = value
    return {key: array}


def test_a_good_file_is_read_as_float32_samples_and_integer_labels(tmp_path: Path) -> None:
    arrays = toy_arrays()
    path = write_toy_data(
        tmp_path / "a.npz",
        x=arrays["x"].astype(np.float64),
        y=arrays["y"].astype(np.uint8),
        class_names=np.array(["rest", "walk"]),
    )
    data = load_dataset(path)
    assert data.x.dtype == np.float32
    assert data.y.dtype == np.int64
    np.testing.assert_array_equal(data.x, arrays["x"])
    np.testing.assert_array_equal(data.y_test, arrays["y_test"])
    assert data.class_names == ("rest", "walk")
    check_dataset(data, toy_manifest())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (_spoilt("x", (4, 1), np.nan), r"x\[4, 1\] is nan; .*drop sample 4 \(1 of 20"),
        (_spoilt("x_test", (0, 2), np.inf), r"x_test\[0, 2\] is inf"),
        ({"x": np.full((20, 3), 1e300)}, r"x\[0, 0\] is inf; .*\(20 of 20"),
        (_spoilt("y", 5, -1), r"y\[5\] is -1; allowed labels: 0 or more"),
        ({"y": np.zeros(19, dtype=int)}, "x has 20 samples but y has 19 labels"),
        ({"y": np.zeros((20, 2), dtype=int)}, r"integer class labels are \[n\]"),
        ({"y": np.array(["a"] * 20)}, "y is <U1; allowed: integers"),
        ({"x": np.zeros((20, 3), dtype=complex)}, "x is complex128; allowed"),
        ({"x": np.zeros((20, 3), dtype=bool)}, "x is bool; allowed"),
        ({"x": np.zeros((0, 3))}, r"x has shape \[0, 3\]"),
        ({"x": np.zeros(20)}, r"x has shape \[20\]; needed"),
        ({"x_test": np.zeros((20, 4))}, r"x_test are \[4\] but those of x are \[3\]"),
        ({"y_test": np.zeros(20)}, "y_test is float32"),
        ({"class_names": np.array(["one"])}, r"is 1; allowed labels: 0 to 0; class_names has 1"),
        ({"y": np.array([None] * 20)}, "y holds Python objects"),
    ],
)
def test_bad_data_is_refused_with_file_key_and_index(
    tmp_path: Path, changes: dict[str, NDArray[Any]], message: str
) -> None:
    path = write_toy_data(tmp_path / "bad.npz", **changes)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named_with_those_found(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((2, 3)), labels=np.zeros(2, dtype=int))
    with pytest.raises(DataError, match="no key 'y'; found: x, labels; needed: x, y, x_test"):
        load_dataset(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"hello" * 50])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"not a readable \.npz"):
        load_dataset(path)


def test_a_truncated_npz_is_refused(tmp_path: Path) -> None:
    path = write_toy_data(tmp_path / "a.npz")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"not a readable \.npz"):
        load_dataset(path)


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(DataError, match="a single array"):
        load_dataset(tmp_path / "a.npy")


def test_samples_of_another_shape_than_the_model_are_refused() -> None:
    manifest = toy_manifest()
    manifest["input"] = {**manifest["input"], "source_shape": [1, 5]}
    with pytest.raises(DataError, match=r"samples of x are \[3\] but model 'toy' takes \[5\]"):
        check_dataset(toy_dataset(), manifest)


def test_labels_beyond_the_model_are_refused() -> None:
    data = toy_dataset()
    data.y_test[3] = 2
    with pytest.raises(DataError, match=r"y_test\[3\] is 2; allowed labels: 0 to 1; model 'toy'"):
        check_dataset(data, toy_manifest())


def test_the_labels_must_be_of_the_kind_that_the_loss_needs() -> None:
    classes = toy_dataset()
    targets = Dataset(classes.x, np.zeros((20, 2), np.float32), classes.x_test, classes.y_test)
    check_loss(classes, "cross_entropy")
    check_loss(targets, "mse")
    with pytest.raises(DataError, match="y is float32"):
        check_loss(targets, "cross_entropy")
    with pytest.raises(DataError, match="y holds integers"):
        check_loss(classes, "mse")


def test_targets_of_binary_cross_entropy_lie_in_0_to_1() -> None:
    x, y = toy_dataset().x, np.linspace(0, 1, 40, dtype=np.float32).reshape(20, 2)
    check_loss(Dataset(x, y, x, y), "binary_cross_entropy")
    bad = y.copy()
    bad[7, 1] = -0.5
    with pytest.raises(DataError, match=r"y_test\[7, 1\] is -0.5; allowed .*: 0 to 1"):
        check_loss(Dataset(x, y, x, bad), "binary_cross_entropy")


def test_calibration_takes_samples_from_the_whole_set() -> None:
    x = np.arange(1000, dtype=np.float32).reshape(1000, 1)
    chosen, labels = calibration_subset(x, np.arange(1000), limit=5)
    assert chosen[:, 0].tolist() == labels.tolist() == [0, 250, 500, 749, 999]
    assert len(calibration_subset(x[:3], np.arange(3), limit=5)[0]) == 3
