"""Section "Classes": confusion matrices before and after, and each class's recall and precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice.events import Evaluated
from ondevice.html_report.history import History

LARGEST_SHOWN = 25  # classes; a larger matrix is read by nobody
MOST_PAIRS = 15
_TITLES = {"before": "Before training", "epoch": "So far", "after": "After training"}


@dataclass(frozen=True)
class Matrix:
    """One measurement.

    Attributes:
        moment: "before", "epoch" or "after".
        title: For people.
        counts: Rows: true classes; columns: predicted ones.
        shares: Each count over its row's sum.
    """

    moment: str
    title: str
    counts: list[list[int]]
    shares: list[list[float]]


@dataclass(frozen=True)
class ClassRow:
    """One class.

    Attributes:
        name: Of the class.
        samples: Held out.
        recall: Share of its samples that were found, per matrix; None: it has none.
        precision: Share of what was taken for it that was right, per matrix; None: nothing was.
    """

    name: str
    samples: int
    recall: list[float | None]
    precision: list[float | None]


@dataclass(frozen=True)
class Classes:
    """The section.

    Attributes:
        names: Of the classes.
        matrices: First and last.
        rows: Classes.
        pairs: True class, predicted class, samples; in the last matrix, most first.
        shown: The matrices are small enough to be read.
    """

    names: list[str]
    matrices: list[Matrix]
    rows: list[ClassRow]
    pairs: list[tuple[str, str, int]]
    shown: bool


def classes(history: History) -> Classes | None:
    """Returns the section; None for regressions and runs of older versions."""
    found = [e for e in history.evaluations if e.confusion is not None]
    if not found:
        return None
    chosen = [found[0], found[-1]] if len(found) > 1 else found
    arrays = [np.array(e.confusion, np.int64) for e in chosen]
    names = history.class_names(len(arrays[0]))
    rows = [
        ClassRow(
            name,
            int(arrays[-1][index].sum()),
            [_share(counts, counts[index].sum(), index) for counts in arrays],
            [_share(counts, counts[:, index].sum(), index) for counts in arrays],
        )
        for index, name in enumerate(names)
    ]
    return Classes(
        names,
        [_matrix(e, counts) for e, counts in zip(chosen, arrays, strict=True)],
        rows,
        _pairs(arrays[-1], names),
        len(names) <= LARGEST_SHOWN,
    )


def _share(counts: NDArray[np.int64], of: np.int64, index: int) -> float | None:
    return float(counts[index, index] / of) if of else None


def _matrix(event: Evaluated, counts: NDArray[np.int64]) -> Matrix:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return Matrix(event.moment, _TITLES[event.moment], counts.tolist(), shares.tolist())


def _pairs(counts: NDArray[np.int64], names: list[str]) -> list[tuple[str, str, int]]:
    wrong = counts * (1 - np.eye(len(names), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    places = [divmod(int(at), len(names)) for at in order]
    return [(names[i], names[j], int(wrong[i, j])) for i, j in places if wrong[i, j]]
