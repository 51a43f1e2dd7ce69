"""Accuracy of update schemes on the host board: runs that are kept, and rows of a table.

The host board runs the generated C and the runtime, so what is measured is the device's code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.compiled_model import ModelDirectory
from ondevice.config import DeviceSettings, TrainingSettings
from ondevice.data import Dataset
from ondevice.link.device import Device
from ondevice.target import open_target, target_board
from ondevice.train import run_training

ROOT = Path(__file__).resolve().parent.parent
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
        self._known: dict[str, tuple[float, float]] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # The last line of a run that was killed.
                    continue
                self._known[json.dumps(entry["key"], sort_keys=True)] = (
                    entry["before"],
                    entry["after"],
                )

    def run(
        self, key: dict[str, Any], measure: Callable[[], tuple[float, float]]
    ) -> tuple[float, float]:
        """Accuracy before and after; measured only where it is not known yet."""
        text = json.dumps(key, sort_keys=True)
        if text not in self._known:
            before, after = measure()
            self._known[text] = before, after
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "before": before, "after": after}) + "\n")
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

    def measure(
        self, model: ModelDirectory, scheme: str, on_run: Callable[[], None] = lambda: None
    ) -> Row:
        """Chooses the learning rate, then runs every data set and seed."""
        settings = DeviceSettings(board="host")
        target = open_target(settings, target_board(settings), model, BUILD)
        with target.device as device:

            def accuracy(data: Dataset, part: str, rate: float, seed: int) -> tuple[float, float]:
                key = {
                    "model": model.manifest["model_id"],
                    "data": f"{data.source} {part}",
                    "rate": rate,
                    "seed": seed,
                    "epochs": self.epochs,
                }
                found = self.log.run(
                    key, lambda: _train(device, model, data, self.epochs, rate, seed)
                )
                on_run()
                return found

            scores = [
                np.mean([accuracy(self.validation, "validation", r, s)[1] for s in self.rate_seeds])
                for r in self.rates
            ]
            rate = self.rates[int(np.argmax(scores))]
            runs = np.asarray(
                [[accuracy(d, "test", rate, s) for s in self.seeds] for d in self.data_sets]
            )
        memory = model.manifest["memory"]
        return Row(
            scheme,
            str(model.manifest["dtype"]),
            rate,
            runs[:, 0, 0],
            runs[:, :, 1],
            memory["ram_bytes"],
            memory["arena_bytes"],
            sum(op["macs"] for op in model.manifest["ops"]),
        )

    def runs_a_row(self) -> int:
        """Number of runs behind one row."""
        return len(self.rates) * len(self.rate_seeds) + len(self.data_sets) * len(self.seeds)


def _train(
    device: Device, model: ModelDirectory, data: Dataset, epochs: int, rate: float, seed: int
) -> tuple[float, float]:
    """Accuracy before and after one run from the pretrained weights."""
    device.reset_model()
    settings = TrainingSettings(epochs=epochs, learning_rate=rate, seed=seed)
    outcome = run_training(device, model.manifest, data, settings)
    assert outcome.before is not None
    assert outcome.after is not None
    return float(outcome.before.accuracy or 0), float(outcome.after.accuracy or 0)
