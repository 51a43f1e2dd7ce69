"""What a scheme must be good at: data sets, each with a validation part of its training data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ondevice.data import Dataset
from ondevice.errors import UserError

VALIDATION_SHARE = 0.25


@dataclass(frozen=True)
class Task:
    """One data set.

    Attributes:
        full: All training data, and the held-out test data that no choice may depend on.
        validation: Of the training data, a part to train on and, as its test data, a part to judge.
    """

    full: Dataset
    validation: Dataset


def make_tasks(data_sets: Sequence[Dataset]) -> tuple[Task, ...]:
    """Splits every data set.

    Raises:
        UserError: Labels are not classes, or too few samples to hold any out.
    """
    return tuple(Task(data, validation_split(data)) for data in data_sets)


def validation_split(data: Dataset) -> Dataset:
    """Training data split into a training part and, behind it, a validation part.

    Of each class the last quarter is held out: recordings are in time, and neighbours are alike.
    A class with a single sample is only trained on.

    Raises:
        UserError: Labels are not classes, or no class has two samples.
    """
    if data.y.dtype != np.int64:
        raise UserError(
            f"{data.source}: y is {data.y.dtype}; a search compares accuracies and needs integer "
            "class labels"
        )
    held = np.zeros(len(data.y), bool)
    for label in np.unique(data.y):
        (mine,) = np.nonzero(data.y == label)
        if len(mine) > 1:
            held[mine[-max(1, round(len(mine) * VALIDATION_SHARE)) :]] = True
    if not held.any():
        raise UserError(
            f"{data.source}: no class has two samples, so none can be held out for validation; "
            "give more training data"
        )
    return replace(data, x=data.x[~held], y=data.y[~held], x_test=data.x[held], y_test=data.y[held])


def data_digest(data: Dataset) -> str:
    """Hexadecimal digest of all samples and labels."""
    digest = hashlib.sha256()
    for array in (data.x, data.y, data.x_test, data.y_test):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:24]
