"""Accuracy and loss on held-out samples, measured on the device."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.events import LARGEST_CONFUSION, Evaluated, Moment
from ondevice.training_device import TrainingDevice
from ondevice_compiler.samples import pack_label, pack_sample


def evaluate(
    device: TrainingDevice,
    manifest: dict[str, Any],
    samples: Sequence[tuple[bytes, bytes]],
    moment: Moment = "after",
    step: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
) -> Evaluated | None:
    """Measures accuracy and loss on the device.

    Args:
        device: Running the manifest's model.
        manifest: Of the compiled model.
        samples: Packed by `pack_samples`; at least one.
        moment: Goes into the result.
        step: Goes into the result.
        should_stop: Asked before each sample.

    Returns:
        The measurement, or None where it was stopped.
    """
    correct = 0
    loss = 0.0
    classes = int(manifest["label"]["count"])
    counted = manifest["label"]["kind"] == "class" and classes <= LARGEST_CONFUSION
    confusion = np.zeros((classes, classes), np.int64) if counted else None
    for sample, label in samples:
        if should_stop():
            return None
        device.write_input(sample)
        device.write_label(label)
        result = device.evaluate()
        correct += result.correct
        loss += result.loss
        if confusion is not None and result.predicted < classes:  # it comes over a link
            confusion[int.from_bytes(label, "little"), result.predicted] += 1
    has_right_answers = manifest["label"]["kind"] != "vector"
    accuracy = correct / len(samples) if has_right_answers else None
    rows = tuple(map(tuple, confusion.tolist())) if confusion is not None else None
    return Evaluated(moment, step, len(samples), correct, accuracy, loss / len(samples), rows)


def pack_samples(
    manifest: dict[str, Any], x: NDArray[np.float32], y: NDArray[Any]
) -> list[tuple[bytes, bytes]]:
    """Packs samples [n, ...sample shape] and labels [n] into the bytes that the device takes."""
    shaped = x.reshape(len(x), *manifest["input"]["source_shape"][1:])
    return [
        (pack_sample(manifest, sample), pack_label(manifest, label))
        for sample, label in zip(shaped, y, strict=True)
    ]
