"""Training data from .npz files, checked before anything else runs.

A file holds `x` [n, ...sample shape], `y` [n] integer class labels (or [n, k] float targets),
`x_test` and `y_test` of the same form, and optionally `class_names` [classes] strings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice.npz import NpzError, read_npz

REQUIRED_KEYS = ("x", "y", "x_test", "y_test")
CALIBRATION_SAMPLES = 256
LARGEST_BYTES = 4 << 30  # that a file may unpack to


class DataError(UserError):
    """The data cannot be trained on; the message names file, key and index."""


@dataclass(frozen=True)
class Dataset:
    """Samples to adapt on and held-out samples to judge the result by.

    Attributes:
        x: float32 [n, ...sample shape].
        y: int64 [n] class labels or float32 [n, k] targets.
        x_test: float32 [m, ...sample shape].
        y_test: Like `y`, m of them.
        class_names: One a class, or empty.
        source: File name for messages.
    """

    x: NDArray[np.float32]
    y: NDArray[Any]
    x_test: NDArray[np.float32]
    y_test: NDArray[Any]
    class_names: tuple[str, ...] = ()
    source: str = "data"


def load_dataset(path: Path) -> Dataset:
    """Reads and checks an .npz file.

    Raises:
        DataError: Missing, unreadable or incomplete file; wrong dtypes or shapes; NaN or infinity;
            negative labels.
    """
    arrays = _read_arrays(path)
    missing = [key for key in REQUIRED_KEYS if key not in arrays]
    if missing:
        raise DataError(
            f"{path}: no key {missing[0]!r}; found: {', '.join(arrays) or 'none'}; "
            f"needed: {', '.join(REQUIRED_KEYS)} (x_test and y_test are held out to measure with)"
        )
    return make_dataset(arrays, str(path))


def make_dataset(arrays: Mapping[str, NDArray[Any]], source: str) -> Dataset:
    """Checks arrays by the keys of the file format and gathers them; see `load_dataset`."""
    dataset = Dataset(
        x=_samples(arrays["x"], f"{source}: x"),
        y=_labels(arrays["y"], f"{source}: y"),
        x_test=_samples(arrays["x_test"], f"{source}: x_test"),
        y_test=_labels(arrays["y_test"], f"{source}: y_test"),
        class_names=tuple(str(name) for name in arrays.get("class_names", ())),
        source=source,
    )
    for x_key, y_key, x, y in _pairs(dataset):
        if len(x) != len(y):
            raise DataError(
                f"{source}: {x_key} has {len(x)} samples but {y_key} has {len(y)} labels"
            )
    if dataset.x.shape[1:] != dataset.x_test.shape[1:]:
        raise DataError(
            f"{source}: samples of x_test are {list(dataset.x_test.shape[1:])} "
            f"but those of x are {list(dataset.x.shape[1:])}"
        )
    if dataset.y.dtype != dataset.y_test.dtype or dataset.y.shape[1:] != dataset.y_test.shape[1:]:
        raise DataError(
            f"{source}: y is {dataset.y.dtype} {list(dataset.y.shape)} "
            f"but y_test is {dataset.y_test.dtype} {list(dataset.y_test.shape)}"
        )
    if dataset.class_names:
        _check_classes(dataset, len(dataset.class_names), "class_names has")
    return dataset


def check_loss(dataset: Dataset, loss: str) -> None:
    """Checks that the labels are of the kind a loss needs.

    That is integers for `cross_entropy`, float targets for the others, of `binary_cross_entropy`
    in 0 to 1.

    Raises:
        DataError: They are not.
    """
    if loss == "cross_entropy" and dataset.y.dtype != np.int64:
        raise DataError(
            f"{dataset.source}: y is {dataset.y.dtype} {list(dataset.y.shape)}, but "
            "cross_entropy needs integer class labels [n]: save y.astype(int) or use loss = 'mse'"
        )
    if loss != "cross_entropy" and dataset.y.dtype == np.int64:
        raise DataError(
            f"{dataset.source}: y holds integers, but {loss} needs float targets [n, outputs]: "
            "save y as float32 or use loss = 'cross_entropy'"
        )
    if loss == "binary_cross_entropy":
        for _, key, _, y in _pairs(dataset):
            outside = np.argwhere((y < 0) | (y > 1))
            if len(outside):
                first = [int(i) for i in outside[0]]
                raise DataError(
                    f"{dataset.source}: {key}{first} is {y[tuple(first)]}; allowed for {loss}: "
                    "0 to 1; divide the targets by their largest or use loss = 'mse'"
                )


def check_dataset(dataset: Dataset, manifest: dict[str, Any]) -> None:
    """Checks data against a compiled model: sample shape, label kind and range.

    Args:
        dataset: As loaded.
        manifest: The model's manifest.json.

    Raises:
        DataError: The model cannot take these samples or labels.
    """
    wanted = tuple(manifest["input"]["source_shape"])
    sample = dataset.x.shape[1:]
    if sample != wanted and (1, *sample) != wanted:
        raise DataError(
            f"{dataset.source}: samples of x are {list(sample)} but model {manifest['name']!r} "
            f"takes {list(wanted[1:])}"
        )
    label = manifest["label"]
    check_loss(dataset, manifest["loss"])
    if label["kind"] == "class":
        _check_classes(dataset, int(label["count"]), f"model {manifest['name']!r} has")
    elif dataset.y.reshape(len(dataset.y), -1).shape[1] != label["count"]:
        raise DataError(
            f"{dataset.source}: y is {list(dataset.y.shape)} but model {manifest['name']!r} "
            f"has {label['count']} outputs"
        )


def describe_dataset(dataset: Dataset) -> str:
    """Says in one line how many samples of which shape and class there are."""
    shape = " x ".join(map(str, dataset.x.shape[1:]))
    counts = f"{len(dataset.x)} training and {len(dataset.x_test)} held-out samples of {shape}"
    if dataset.y.dtype != np.int64:
        return f"Data: {counts} from {dataset.source}"
    numbers = np.bincount(dataset.y)
    names = dataset.class_names or tuple(map(str, range(len(numbers))))
    classes = ", ".join(f"{name} {count}" for name, count in zip(names, numbers, strict=False))
    return f"Data: {counts} from {dataset.source} ({classes})"


def calibration_subset(
    x: NDArray[np.float32], y: NDArray[Any], limit: int = CALIBRATION_SAMPLES
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Picks at most `limit` samples, spread evenly over the set."""
    chosen = np.unique(np.linspace(0, len(x) - 1, min(limit, len(x))).round().astype(int))
    return x[chosen], y[chosen]


def _pairs(dataset: Dataset) -> list[tuple[str, str, NDArray[np.float32], NDArray[Any]]]:
    return [
        ("x", "y", dataset.x, dataset.y),
        ("x_test", "y_test", dataset.x_test, dataset.y_test),
    ]


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            head = file.read(len(np.lib.format.MAGIC_PREFIX))
        if head == np.lib.format.MAGIC_PREFIX:
            raise DataError(f"{path}: a single array; save several with numpy.savez")
        return read_npz(path, LARGEST_BYTES)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: not a readable .npz file: {error.strerror}") from error
    except NpzError as error:
        raise DataError(f"{path}: not a readable .npz file: {error}") from error


def _samples(values: NDArray[Any], culprit: str) -> NDArray[np.float32]:
    if values.dtype.kind not in "fiu":
        raise DataError(f"{culprit} is {values.dtype}; allowed: floating point or integers")
    if values.ndim < 2 or values.size == 0:
        raise DataError(
            f"{culprit} has shape {list(values.shape)}; "
            "needed: [samples, ...sample shape], not empty"
        )
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(values, dtype=np.float32)
    _check_finite(x, culprit)
    return x


def _labels(values: NDArray[Any], culprit: str) -> NDArray[Any]:
    if values.size == 0 or values.ndim == 0:
        raise DataError(f"{culprit} has shape {list(values.shape)}; it must not be empty")
    if values.dtype.kind in "iu":
        if values.ndim != 1:
            raise DataError(
                f"{culprit} is {values.dtype} {list(values.shape)}; integer class labels are [n]"
            )
        labels = values.astype(np.int64)
        _check_range(labels, None, culprit, "")
        return labels
    if values.dtype.kind == "f":
        targets = np.ascontiguousarray(values, dtype=np.float32)
        _check_finite(targets, culprit)
        return targets
    raise DataError(
        f"{culprit} is {values.dtype}; allowed: integers (classes) or floating point (targets)"
    )


def _check_finite(values: NDArray[np.float32], culprit: str) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        first = [int(i) for i in np.argwhere(~finite)[0]]
        bad = np.unique(np.argwhere(~finite)[:, 0]).size
        raise DataError(
            f"{culprit}{first} is {values[tuple(first)]}; training needs finite float32 numbers: "
            f"repair or drop sample {first[0]} ({bad} of {len(values)} samples are bad)"
        )


def _check_classes(dataset: Dataset, count: int, owner: str) -> None:
    for _, key, _, y in _pairs(dataset):
        if y.dtype == np.int64:
            _check_range(y, count, f"{dataset.source}: {key}", owner)


def _check_range(y: NDArray[np.int64], count: int | None, culprit: str, owner: str) -> None:
    wrong = y < 0 if count is None else (y < 0) | (y >= count)
    if wrong.any():
        index = int(np.argmax(wrong))
        why = f"; {owner} {count} classes" if count is not None else ""
        allowed = "0 or more" if count is None else f"0 to {count - 1}"
        raise DataError(f"{culprit}[{index}] is {y[index]}; allowed labels: {allowed}{why}")
