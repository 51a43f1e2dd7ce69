"""Accuracy of update schemes by the device's code: the generated C on the host board."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ondevice.compiled_model import (
    CompileRequest,
    ModelDirectory,
    cache_key,
    compile_options,
    load_model_directory,
)
from ondevice.config import DeviceSettings, TrainingSettings
from ondevice.data import Dataset
from ondevice.link.device import Device
from ondevice.places import data_folder
from ondevice.search.events import RunFinished, SchemeMeasured, SchemeStarted, SearchEvent
from ondevice.search.tasks import Task, data_digest
from ondevice.search.trial_log import TrialLog
from ondevice.target import open_target, target_board
from ondevice.train import run_training
from ondevice_compiler.scheme import UpdateScheme

if TYPE_CHECKING:
    from ondevice_compiler.compile import Analysis

HOST = DeviceSettings(board="host")
NEVER = 2**31

Run = tuple[float, int, int]
"""Learning rate, index of the data set, seed."""


class SearchInterrupted(Exception):  # noqa: N818 (not an error: the person asked for it)
    """The person stopped the search; every finished run is in the log."""


@dataclass(frozen=True)
class Protocol:
    """How each scheme is trained.

    Attributes:
        training: Length and learning rate schedule; its learning rate and seed are not read.
        learning_rates: Of which the best on validation data counts; ascending.
        seeds: Of the order of samples; accuracies are averaged over them.
    """

    training: TrainingSettings
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Accuracy:
    """Accuracies of a scheme, 0 to 1.

    Attributes:
        learning_rate: Of all runs.
        runs: [data sets][seeds].
    """

    learning_rate: float
    runs: tuple[tuple[float, ...], ...]

    @property
    def mean(self) -> float:
        """Over data sets and seeds."""
        return float(np.mean(self.runs))

    @property
    def deviation(self) -> float:
        """Standard deviation over seeds of the mean over data sets; 0 for one seed."""
        by_seed = np.mean(self.runs, axis=0)
        return float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else 0.0


class Bench:
    """Trains schemes of one model, or recalls what was trained before.

    Args:
        analysis: The model.
        request: What it was compiled from; its scheme is not read.
        tasks: Data sets.
        protocol: Length, learning rates, seeds.
        log: Where runs are kept.
        build_root: Where compiled models and firmware are kept.
        on_event: Told of every run.
        should_stop: Asked between training steps.
    """

    def __init__(
        self,
        analysis: Analysis,
        request: CompileRequest,
        tasks: Sequence[Task],
        protocol: Protocol,
        log: TrialLog,
        build_root: Path,
        on_event: Callable[[SearchEvent], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._analysis = analysis
        self._options = compile_options(request)
        self._tasks = tasks
        self._protocol = protocol
        self._log = log
        self._build_root = build_root
        self._on_event = on_event
        self._should_stop = should_stop
        base = replace(request, settings=replace(request.settings, scheme="full"))
        self._model_digest = _digest(cache_key(base), _device_code_digest())
        self._data_digests = {
            part: [data_digest(_part(task, part)) for task in tasks]
            for part in ("validation", "test")
        }

    def validate(self, scheme: UpdateScheme) -> Accuracy:
        """Accuracy on the validation data, with the learning rate that does best there."""
        rates = self._protocol.learning_rates
        runs = self._train(scheme, "validation", rates)
        found = [self._gather(runs, "validation", rate) for rate in rates]
        best = max(found, key=lambda accuracy: (accuracy.mean, -accuracy.learning_rate))
        self._tell(scheme, "validation", best)
        return best

    def test(self, scheme: UpdateScheme, learning_rate: float) -> Accuracy:
        """Accuracy on the test data after training on all training data."""
        runs = self._train(scheme, "test", (learning_rate,))
        found = self._gather(runs, "test", learning_rate)
        self._tell(scheme, "test", found)
        return found

    def validation_runs(self) -> int:
        """Training runs of one `validate`."""
        return self.test_runs() * len(self._protocol.learning_rates)

    def test_runs(self) -> int:
        """Training runs of one `test`."""
        return len(self._tasks) * len(self._protocol.seeds)

    def _train(self, scheme: UpdateScheme, part: str, rates: Sequence[float]) -> dict[Run, float]:
        """Accuracy by learning rate, data set and seed."""
        self._on_event(SchemeStarted(scheme.name, part))
        wanted = [
            (rate, index, seed)
            for rate in rates
            for index in range(len(self._tasks))
            for seed in self._protocol.seeds
        ]
        keys = {run: self._key(scheme, part, run) for run in wanted}
        missing = [run for run in wanted if keys[run] not in self._log]
        for run in wanted:
            if run not in missing:
                self._finished(scheme, part, run, self._log[keys[run]]["accuracy"], known=True)
        if missing:
            with self._opened(scheme) as (device, manifest):
                for run in missing:
                    record = self._measure(device, manifest, part, run)
                    self._log.append(keys[run], {"scheme": scheme.name, **record})
                    self._finished(scheme, part, run, record["accuracy"], known=False)
        return {run: float(self._log[keys[run]]["accuracy"]) for run in wanted}

    def _gather(self, runs: dict[Run, float], part: str, rate: float) -> Accuracy:
        return Accuracy(
            rate,
            tuple(
                tuple(runs[rate, index, seed] for seed in self._protocol.seeds)
                for index in range(len(self._tasks))
            ),
        )

    def _measure(
        self, device: Device, manifest: dict[str, Any], part: str, run: Run
    ) -> dict[str, Any]:
        rate, index, seed = run
        data = _part(self._tasks[index], part)
        settings = self._settings(rate, seed)
        device.reset_model()
        outcome = run_training(device, manifest, data, settings, should_stop=self._should_stop)
        if outcome.before is None or outcome.after is None:
            raise SearchInterrupted
        return {
            "data": data.source,
            "part": part,
            "learning_rate": rate,
            "seed": seed,
            "steps": outcome.steps,
            "before": outcome.before.accuracy,
            "accuracy": outcome.after.accuracy,
            "loss": outcome.after.loss,
            "ram_bytes": manifest["memory"]["ram_bytes"],
        }

    @contextmanager
    def _opened(self, scheme: UpdateScheme) -> Iterator[tuple[Device, dict[str, Any]]]:
        """The host board with the scheme's model."""
        if self._should_stop():
            raise SearchInterrupted
        model = self._compiled(scheme)
        try:
            target = open_target(HOST, target_board(HOST), model, self._build_root)
        except Exception:
            # Ctrl-C reaches the C compiler too, and looks like a failed build.
            if self._should_stop():
                raise SearchInterrupted from None
            raise
        with target.device as device:
            yield device, model.manifest

    def _compiled(self, scheme: UpdateScheme) -> ModelDirectory:
        from ondevice_compiler.compile import generate, plan_scheme

        key = _digest(self._model_digest, scheme.name, _content(scheme))
        directory = self._build_root / "models" / key
        if not (directory / "manifest.json").is_file():
            options = replace(self._options, scheme=scheme)
            made = generate(self._analysis, plan_scheme(self._analysis, options), options)
            made.write(directory)
        return load_model_directory(directory)

    def _key(self, scheme: UpdateScheme, part: str, run: Run) -> str:
        """Digest of everything that a run depends on."""
        rate, index, seed = run
        data, settings = self._data_digests[part][index], asdict(self._settings(rate, seed))
        return _digest(self._model_digest, _content(scheme), data, settings)

    def _settings(self, rate: float, seed: int) -> TrainingSettings:
        # Nobody wants the parameters of these runs.
        return replace(
            self._protocol.training,
            learning_rate=rate,
            seed=seed,
            checkpoint_every_steps=NEVER,
            rollbacks=0,
        )

    def _finished(
        self,
        scheme: UpdateScheme,
        part: str,
        run: tuple[float, int, int],
        accuracy: float,
        known: bool,
    ) -> None:
        rate, index, seed = run
        source = self._tasks[index].full.source
        self._on_event(RunFinished(scheme.name, source, part, rate, seed, accuracy, known))

    def _tell(self, scheme: UpdateScheme, part: str, found: Accuracy) -> None:
        self._on_event(SchemeMeasured(scheme.name, part, found.mean, found.learning_rate))


def _part(task: Task, part: str) -> Dataset:
    return task.validation if part == "validation" else task.full


def _content(scheme: UpdateScheme) -> list[object]:
    channels = {weight: list(chosen) for weight, chosen in scheme.channels.items()}
    return [sorted(scheme.parameters), channels]


def _device_code_digest() -> str:
    """Of the runtime and the firmware: they compute the accuracies too."""
    sources = [
        path
        for folder in ("runtime", "firmware")
        for path in sorted(data_folder(folder).rglob("*"))
        if path.suffix in (".c", ".h", ".py", ".ini")
    ]
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
