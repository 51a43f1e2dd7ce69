"""The best candidates beside the common schemes: last-K, bias-only and full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ondevice.search.bench import Accuracy, Bench
from ondevice.search.evolution import Cost
from ondevice_compiler.scheme import UpdateScheme

EVERY_LAST = 8  # From here on only doublings: last-8, last-16, ...


@dataclass(frozen=True)
class Contender:
    """A scheme of the comparison, before it is trained.

    Attributes:
        group: "searched", "last", "bias" or "full".
        scheme: What it trains.
        cost: What it takes.
        gain: Summed contribution; None where the search did not propose it.
    """

    group: str
    scheme: UpdateScheme
    cost: Cost
    gain: float | None


@dataclass(frozen=True)
class Row:
    """A trained scheme.

    Attributes:
        contender: What was trained.
        fits: Within the budget.
        validation: On the held-out part of the training data; what the choice is made by.
        test: On test data, after training on all training data.
    """

    contender: Contender
    fits: bool
    validation: Accuracy
    test: Accuracy


def common_schemes(layers: int) -> list[tuple[str, str]]:
    """(group, name) of last-1, ... (all up to 8 layers, then doublings), bias and full."""
    counts = [k for k in range(1, layers) if k <= EVERY_LAST or k & (k - 1) == 0]
    return [*(("last", f"last-{k}") for k in counts), ("bias", "bias"), ("full", "full")]


def compare(
    contenders: Sequence[Contender], allow: Callable[[Cost], bool], bench: Bench
) -> list[Row]:
    """Trains all of them: on validation data for the learning rate and the choice, then on test."""
    rows = []
    for contender in contenders:
        validation = bench.validate(contender.scheme)
        test = bench.test(contender.scheme, validation.learning_rate)
        rows.append(Row(contender, allow(contender.cost), validation, test))
    return rows


def winner(rows: Sequence[Row]) -> Row:
    """The best on validation data of those that fit; of equals, the one with the least RAM."""
    fitting = [row for row in rows if row.fits]
    return max(fitting, key=lambda row: (row.validation.mean, -row.contender.cost.ram_bytes))


def pareto_front(rows: Sequence[Row]) -> list[Row]:
    """Rows than which none is at once more accurate (test data) and smaller, by RAM."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda r: (r.contender.cost.ram_bytes, -r.test.mean)):
        if not front or row.test.mean > front[-1].test.mean:
            front.append(row)
    return front
