"""Accuracy of update schemes: runs that are kept, and rows of a table.

The generated C and the runtime's numerics run in this process: what is measured is the device's
code, in int8 bit for bit, without the time that a link takes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.compiled_model import ModelDirectory
from ondevice.config import TrainingSettings
from ondevice.data import Dataset
from ondevice.position import sample_order
from ondevice.schedule import learning_rate_at

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))  # The tests' harness for generated C.
from native_model import NativeModel  # noqa: E402

BUILD = ROOT / "build"


@dataclass(frozen=True)
class Row:
    """One scheme and type.

    Attributes:
        scheme, dtype: What was compiled.
        learning_rate: Chosen on validation data.
        before: Accuracy of the untouched model, [data sets].
        after: Accuracy after training, [data sets, seeds].
        ram_bytes, arena_bytes: Of the plan.
        macs: Multiply-accumulates of a training step.
    """

    scheme: str
    dtype: str
    learning_rate: float
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    ram_bytes: int
    arena_bytes: int
    macs: int


class RunLog:
    """Finished runs in a JSON-lines file, so that an interrupted study goes on where it stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, float] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # The last line of a run that was killed.
                    continue
                self._known[json.dumps(entry["key"], sort_keys=True)] = entry["accuracy"]

    def run(self, key: dict[str, Any], measure: Callable[[], float]) -> float:
        """An accuracy; measured only where it is not known yet."""
        text = json.dumps(key, sort_keys=True)
        if text not in self._known:
            self._known[text] = measure()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "accuracy": self._known[text]}) + "\n")
        return self._known[text]


@dataclass(frozen=True)
class Study:
    """What every row of a table has in common.

    Attributes:
        log: Finished runs.
        validation: Training and held-out part of the training data, to choose the learning rate.
        data_sets: Each is trained and tested on its own, from the same weights.
        rates: Learning rates to choose from.
        rate_seeds: Seeds that the choice is averaged over.
        seeds: Seeds of the runs in the table.
        epochs: Passes over the data.
    """

    log: RunLog
    validation: Dataset
    data_sets: Sequence[Dataset]
    rates: Sequence[float]
    rate_seeds: Sequence[int]
    seeds: Sequence[int]
    epochs: int

    def learning_rate(
        self, models: Sequence[ModelDirectory], on_run: Callable[[], None] = lambda: None
    ) -> float:
        """The rate with the best mean accuracy on validation data, of one model or of several."""
        scores = np.zeros(len(self.rates))
        for model in models:
            native = in_process(model)
            for index, rate in enumerate(self.rates):
                for seed in self.rate_seeds:
                    scores[index] += self._accuracy(native, self.validation, rate, seed)
                    on_run()
        return self.rates[int(np.argmax(scores))]

    def measure(
        self,
        model: ModelDirectory,
        scheme: str,
        rate: float,
        on_run: Callable[[], None] = lambda: None,
    ) -> Row:
        """Trains and tests every data set with every seed."""
        native = in_process(model)
        before: list[float] = []
        after: list[list[float]] = []
        for data in self.data_sets:
            before.append(self._accuracy(native, data, 0.0, 0, epochs=0))
            after.append([])
            for seed in self.seeds:
                after[-1].append(self._accuracy(native, data, rate, seed))
                on_run()
        memory = model.manifest["memory"]
        return Row(
            scheme,
            str(model.manifest["dtype"]),
            rate,
            np.asarray(before),
            np.asarray(after),
            memory["ram_bytes"],
            memory["arena_bytes"],
            sum(op["macs"] for op in model.manifest["ops"]),
        )

    def runs_a_row(self) -> int:
        """Number of runs behind one row."""
        return len(self.rates) * len(self.rate_seeds) + len(self.data_sets) * len(self.seeds)

    def _accuracy(
        self, native: NativeModel, data: Dataset, rate: float, seed: int, epochs: int | None = None
    ) -> float:
        length = self.epochs if epochs is None else epochs
        key = {
            "model": native.manifest["model_id"],
            "data": f"{data.source}: {len(data.x)} / {len(data.x_test)}",
            "rate": rate,
            "seed": seed,
            "epochs": length,
        }
        return self.log.run(key, lambda: adapt(native, data, length, rate, seed))


def validation_split(data: Dataset, share: float) -> Dataset:
    """Training data split into a training part and, the last ones of each class, a held-out one."""
    held = np.zeros(len(data.y), bool)
    for label in np.unique(data.y):
        mine = np.flatnonzero(data.y == label)
        held[mine[len(mine) - max(1, round(len(mine) * share)) :]] = True
    return replace(data, x=data.x[~held], y=data.y[~held], x_test=data.x[held], y_test=data.y[held])


def in_process(model: ModelDirectory) -> NativeModel:
    """A compiled model, built for this process."""
    files = {path.name: path.read_text(encoding="utf-8") for path in model.path.glob("*.[ch]")}
    return NativeModel(files, model.manifest, "-O3")


def adapt(native: NativeModel, data: Dataset, epochs: int, rate: float, seed: int) -> float:
    """Accuracy after one run from the pretrained weights, as `ondevice train` would run it.

    A run whose loss is no finite number any more scores 0.
    """
    native.model.reset()
    if epochs:
        settings = TrainingSettings(epochs=epochs, learning_rate=rate, seed=seed)
        total = settings.total_steps(len(data.x))
        schedule = settings.schedule(total)
        for step, (_, sample) in enumerate(sample_order(len(data.x), total, seed)):
            try:
                native.train(data.x[sample], data.y[sample], learning_rate_at(schedule, step))
            except AssertionError:  # The step refused a loss that is not finite.
                return 0.0
    hits = [native.evaluate(x, y)[1] == y for x, y in zip(data.x_test, data.y_test, strict=True)]
    return float(np.mean(hits))
