"""The tuning loop: propose, build, measure, learn, repeat."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ondevice.errors import UserError
from ondevice.measure.bench import Measurement
from ondevice.measure.task import KernelSource, Task, measured_source
from ondevice.search.trial_log import TrialLog
from ondevice.tune.proposals import Proposer
from ondevice.tune.surrogate import Sample, Surrogate
from ondevice.tune.tasks import TuningTask
from ondevice_compiler.tiling.tile import Choose, Tile, default_tile

FEWEST_SAMPLES = 8  # Before that, the cost model knows less than chance.
WORTH = 1.04  # A tile that takes up to 4 % more, but has less code, is better: flash is scarce too.


class Runner(Protocol):
    """Whatever measures: simulators here, workers behind a tracker, a board."""

    @property
    def machine(self) -> str:
        """Whose counts these are; counts of two machines are not compared."""

    @property
    def unit(self) -> str:
        """ "instructions" or "cycles"."""

    def measure_all(
        self, pairs: Sequence[tuple[Task, KernelSource]]
    ) -> Iterator[Measurement | UserError]:
        """Measures all, several at a time; in order."""


@dataclass(frozen=True)
class TuneSettings:
    """How long to search, and how.

    Attributes:
        trials: Of each workload.
        batch: Tiles of a workload that are proposed together.
        epsilon: Share of random proposals.
        guided: Use the cost model; without it the search is random.
        seed: Of all random choices.
    """

    trials: int = 24
    batch: int = 4
    epsilon: float = 0.25
    guided: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Trial:
    """One tile of one workload.

    Attributes:
        task: What it is of.
        tile: What was tried.
        count: Instructions or cycles that it took; None: it was refused.
        code_bytes: Of its kernel.
        refusal: Why, or "".
        recalled: It was measured before, and read from the log.
    """

    task: TuningTask
    tile: Tile
    count: int | None
    code_bytes: int = 0
    refusal: str = ""
    recalled: bool = False


@dataclass(frozen=True)
class TuneOutcome:
    """What a search found.

    Attributes:
        trials: Of each workload's text, in the order in which they were measured.
        interrupted: It was stopped.
    """

    trials: Mapping[str, Sequence[Trial]]
    interrupted: bool

    def best(self) -> list[Trial]:
        """The best trial of each workload: of those near the least count, the least code."""
        return [choose(tried) for tried in self.trials.values() if any(t.count for t in tried)]


def choose(trials: Sequence[Trial]) -> Trial:
    """The trial of least code among those whose count is within `WORTH` of the least."""
    counted = [(trial.count, trial) for trial in trials if trial.count]
    most = WORTH * min(count for count, _ in counted)
    near = [(trial.code_bytes, count, trial) for count, trial in counted if count <= most]
    return min(near, key=lambda found: found[:2])[2]


def tune(
    tasks: Sequence[TuningTask],
    runner: Runner,
    log: TrialLog,
    settings: TuneSettings,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    should_stop: Callable[[], bool] = lambda: False,
    others: Choose = default_tile,
) -> TuneOutcome:
    """Searches the tiles of all workloads, a batch each in turn.

    Args:
        tasks: From `tuning_tasks`.
        runner: Measures.
        log: Keeps every measurement by the content of what was measured; what it has is not
            measured again.
        settings: Effort.
        on_trial: Told of each trial.
        should_stop: Asked between batches.
        others: Tiles of a kernel's other workloads.
    """
    random = np.random.default_rng(settings.seed)
    surrogate = Surrogate([task.workload for task in tasks], settings.seed)
    trials: dict[str, list[Trial]] = {task.workload.text: [] for task in tasks}
    checksums: dict[str, int] = {}
    measuring = _Measuring(runner, log, others, checksums)
    most = max((min(settings.trials, len(task.tiles)) for task in tasks), default=0)
    for _ in range(-(-most // settings.batch)):
        samples = _samples(tasks, trials)
        learnt = settings.guided and len(samples) >= FEWEST_SAMPLES
        if learnt:
            surrogate.fit(samples)
        proposer = Proposer(surrogate if learnt else None, settings.epsilon)
        for task in tasks:
            if should_stop():
                return TuneOutcome(trials, True)
            done = trials[task.workload.text]
            left = min(settings.batch, settings.trials - len(done))
            tried = {trial.tile for trial in done}
            tiles = proposer.propose(task, tried, left, random)
            for trial in measuring.trials(task, tiles):
                done.append(trial)
                on_trial(trial)
    return TuneOutcome(trials, False)


def _samples(tasks: Sequence[TuningTask], trials: Mapping[str, Sequence[Trial]]) -> list[Sample]:
    samples: list[Sample] = []
    for task in tasks:
        done = trials[task.workload.text]
        first = next((t.count for t in done if t.tile == task.tiles[0]), None)
        if first:
            samples += [(task.workload, t.tile, t.count / first) for t in done if t.count]
    return samples


class _Measuring:
    """Recalls or measures; a kernel that does not write what the first tile's writes is refused."""

    def __init__(
        self, runner: Runner, log: TrialLog, others: Choose, checksums: dict[str, int]
    ) -> None:
        self._runner, self._log, self._others = runner, log, others
        self._checksums = checksums

    def trials(self, task: TuningTask, tiles: Sequence[Tile]) -> list[Trial]:
        kernels = [task.kernel(tile, self._others) for tile in tiles]
        keys = [_key(self._runner.machine, task, kernel) for kernel in kernels]
        new = {k: kernel for k, kernel in zip(keys, kernels, strict=True) if k not in self._log}
        results = self._runner.measure_all([(task.task, kernel) for kernel in new.values()])
        tile_of = dict(zip(keys, tiles, strict=True))
        for key, found in zip(new, results, strict=True):
            record: dict[str, object] = {"workload": task.workload.text, "tile": str(tile_of[key])}
            if isinstance(found, Measurement):
                record |= {
                    "count": found.count,
                    "checksum": found.checksum,
                    "code_bytes": found.code_bytes,
                }
            else:
                record["refusal"] = str(found)
            self._log.append(key, record)
        return [
            self._trial(task, tile, key, key not in new)
            for tile, key in zip(tiles, keys, strict=True)
        ]

    def _trial(self, task: TuningTask, tile: Tile, key: str, recalled: bool) -> Trial:
        record = self._log[key]
        if "refusal" in record:
            return Trial(task, tile, None, 0, str(record["refusal"]), recalled)
        checksum = int(record["checksum"])
        if self._checksums.setdefault(task.workload.text, checksum) != checksum:
            refusal = "it writes other values than the first tile"
            return Trial(task, tile, None, 0, refusal, recalled)
        size = int(record.get("code_bytes", 0))  # A log of an earlier version has none.
        return Trial(task, tile, int(record["count"]), size, "", recalled)


def _key(machine: str, task: TuningTask, kernel: KernelSource) -> str:
    """Of everything that decides the count, but the C compiler's version."""
    digest = hashlib.sha256(machine.encode())
    digest.update(measured_source(task.task, kernel).encode())
    digest.update(task.task.operands())
    return digest.hexdigest()[:24]
