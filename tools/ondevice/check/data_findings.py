"""What can be wrong with data that are well formed."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ondevice.check.findings import Finding
from ondevice.data import Dataset

FEW_SAMPLES = 5  # of a class
OUTSIDE_SHARE = 0.01
UNBALANCED = 10


def data_findings(
    data: Dataset, input_shape: tuple[int, ...], outputs: int, loss: str
) -> Iterator[Finding]:
    """Compares data with the model's input and output.

    Args:
        data: As loaded.
        input_shape: Of a sample, as the model takes it.
        outputs: Of the model.
        loss: Of the settings.
    """
    sample = data.x.shape[1:]
    if sample != input_shape and (1, *sample) != (1, *input_shape):
        turned = len(sample) == len(input_shape) and sample == (*input_shape[1:], input_shape[0])
        hint = " (its axes are in another order: --layout, or transpose them)" if turned else ""
        yield Finding(
            "error",
            f"samples are {list(sample)}, but the model takes {list(input_shape)}{hint}",
        )
    if loss == "cross_entropy" and data.y.dtype == np.int64:
        yield from _class_findings(data, outputs)
    elif data.y.dtype != np.int64 and data.y.reshape(len(data.y), -1).shape[1] != outputs:
        yield Finding(
            "error", f"targets are {list(data.y.shape[1:])}, but the model has {outputs} outputs"
        )


def _class_findings(data: Dataset, outputs: int) -> Iterator[Finding]:
    counts = np.bincount(data.y)
    classes = max(len(counts), int(data.y_test.max()) + 1)
    if classes > outputs:
        yield Finding(
            "error",
            f"the data have {classes} classes, but the model has {outputs} outputs; give it a new "
            f"last layer (--head {classes}), or drop classes",
        )
    elif classes < outputs:
        yield Finding(
            "warning",
            f"the data have {classes} classes, the model {outputs} outputs: the others are never "
            f"trained (a last layer of its own: --head {classes})",
        )
    names = data.class_names or tuple(map(str, range(len(counts))))
    few = [f"{names[i]} ({n})" for i, n in enumerate(counts) if 0 < n < FEW_SAMPLES]
    if few:
        yield Finding("warning", f"few training samples of {', '.join(few)}")
    seen = counts[counts > 0]
    if len(seen) > 1 and seen.max() > UNBALANCED * seen.min():
        most, least = (
            names[int(counts.argmax())],
            names[int(np.where(counts, counts, 2**62).argmin())],
        )
        yield Finding(
            "warning",
            f"{most} has {seen.max()} training samples, {least} {seen.min()}: accuracy will say "
            "little of the rare class",
        )


def range_findings(data: Dataset, low: float, high: float) -> Iterator[Finding]:
    """Says what the int8 input would clip.

    Args:
        data: As loaded.
        low: Of the calibrated range of the input.
        high: Likewise.
    """
    for part, x in (("training", data.x), ("held-out", data.x_test)):
        share = _share_outside(x, low, high)
        if share > OUTSIDE_SHARE:
            yield Finding(
                "warning",
                f"{100 * share:.1f} % of the {part} values lie outside {low:.3g} to {high:.3g}, "
                "which the int8 input holds, and will be clipped: calibrate on data like these "
                "(--calibration)",
            )


def _share_outside(x: NDArray[np.float32], low: float, high: float) -> float:
    return float(np.mean((x < low) | (x > high)))
