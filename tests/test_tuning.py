"""The tuning loop: proposals, resume, bit-exactness, database, tracker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from layers import forward
from typer.testing import CliRunner

from ondevice.cli import app
from ondevice.errors import UserError
from ondevice.measure.bench import Measurement
from ondevice.measure.task import KernelSource, Task
from ondevice.search.trial_log import TrialLog
from ondevice.tune.plot import best_so_far
from ondevice.tune.run import WORTH, Trial, TuneOutcome, TuneSettings, choose, tune
from ondevice.tune.simulators import Simulators
from ondevice.tune.tasks import TuningTask, tuning_tasks
from ondevice.tune.tracker import TrackedWorkers, parse_address, worker
from ondevice_compiler.errors import UserError as CompilerError
from ondevice_compiler.lower import lower
from ondevice_compiler.tiling.database import (
    Entry,
    chooser,
    read_database,
    shipped_entries,
    write_database,
)
from ondevice_compiler.tiling.tile import Tile, Workload, candidates, default_tile

Costs = dict[tuple[str, str], int]
LAYERS = ((6, 32, 24), (4, 48, 16), (12, 16, 40), (8, 96, 8))


@pytest.fixture(scope="module")
def tasks() -> list[TuningTask]:
    return tuning_tasks(forward(f"{layer}", *layer).program for layer in LAYERS)


class Landscape:
    """Counts instructions by a formula: what a tile saves in loads, less what it spills."""

    machine, unit = "formula", "instructions"

    def __init__(self, costs: Costs) -> None:
        self.measured = 0
        self._costs = costs

    @staticmethod
    def cost(tile: Tile) -> int:
        sums = tile.pixels * tile.channels
        loads = (tile.pixels + tile.channels) / sums
        return round(1000 * (1 + loads + 1 / (tile.unroll * sums) + 0.3 * max(0, sums - 8)))

    def measure_all(
        self, pairs: Sequence[tuple[Task, KernelSource]]
    ) -> Iterator[Measurement | UserError]:
        for task, kernel in pairs:
            self.measured += 1
            yield Measurement(self._costs[task.name, kernel.definitions], 100, 0, 7)


@pytest.fixture(scope="module")
def costs(tasks: list[TuningTask]) -> Costs:
    """Of every tile, by the name of its task and the text of its kernel."""
    return {
        (task.task.name, task.kernel(tile).definitions): Landscape.cost(tile)
        for task in tasks
        for tile in task.tiles
    }


def _tuned(
    tasks: Sequence[TuningTask], runner: Landscape, folder: Path, settings: TuneSettings
) -> TuneOutcome:
    with TrialLog(folder / "trials.jsonl") as log:
        return tune(tasks, runner, log, settings)


def test_the_cost_model_needs_fewer_trials_than_chance(
    tasks: list[TuningTask], costs: Costs, tmp_path: Path
) -> None:
    runner, trials = Landscape(costs), 12
    guided, random = (
        np.mean(
            [
                best_so_far(_tuned(tasks, runner, tmp_path, TuneSettings(trials, 4, 0.25, way, s)))
                for s in range(2)
            ],
            axis=0,
        )
        for way in (True, False)
    )
    assert guided[-1] < random[-1]
    optimum = [min(map(runner.cost, t.tiles)) / runner.cost(t.tiles[0]) for t in tasks]
    assert guided[-1] < 1.02 * np.exp(np.mean(np.log(optimum)))


def test_the_default_and_the_known_best_are_tried_first(
    tasks: list[TuningTask], costs: Costs, tmp_path: Path
) -> None:
    known = replace(tasks[0], known=tasks[0].tiles[5])
    outcome = _tuned([known], Landscape(costs), tmp_path, TuneSettings(trials=4))
    (trials,) = outcome.trials.values()
    assert [t.tile for t in trials[:2]] == [default_tile(known.workload), known.known]
    assert len({t.tile for t in trials}) == 4


def test_a_killed_search_goes_on_without_measuring_again(
    tasks: list[TuningTask], costs: Costs, tmp_path: Path
) -> None:
    settings, whole, runner = TuneSettings(trials=8), Landscape(costs), Landscape(costs)
    (tmp_path / "whole").mkdir()
    expected = _tuned(tasks, whole, tmp_path / "whole", settings)
    stops = iter([False] * 5 + [True])
    with TrialLog(tmp_path / "trials.jsonl") as log:
        first = tune(tasks, runner, log, settings, should_stop=lambda: next(stops))
    assert first.interrupted
    with (tmp_path / "trials.jsonl").open("ab") as torn:
        torn.write(b'{"key": "12')
    again = _tuned(tasks, runner, tmp_path, settings)
    assert not again.interrupted
    assert runner.measured == whole.measured
    assert [t.tile for t in again.best()] == [t.tile for t in expected.best()]


def test_a_tile_that_writes_other_values_is_refused(
    tasks: list[TuningTask], costs: Costs, tmp_path: Path
) -> None:
    class Wrong(Landscape):
        def measure_all(
            self, pairs: Sequence[tuple[Task, KernelSource]]
        ) -> Iterator[Measurement | UserError]:
            for index, found in enumerate(super().measure_all(pairs)):
                assert isinstance(found, Measurement)
                yield replace(found, count=1, checksum=8) if index else found

    outcome = _tuned(tasks[:1], Wrong(costs), tmp_path, TuneSettings(trials=4))
    (trials,) = outcome.trials.values()
    assert "other values" in trials[1].refusal
    assert [t.tile for t in outcome.best()] == [tasks[0].tiles[0]]


def test_of_tiles_that_take_about_as_long_the_one_of_least_code_is_chosen(
    tasks: list[TuningTask],
) -> None:
    found = [(1000, 900), (1040, 300), (1030, 300), (1041, 100), (None, 50)]
    trials = [
        Trial(tasks[0], Tile(unroll=number), count, size)
        for number, (count, size) in enumerate(found)
    ]
    assert choose(trials) is trials[2]


def test_tiles_write_the_same_bytes_in_qemu_and_the_best_is_hardly_slower(
    tasks: list[TuningTask], tmp_path: Path
) -> None:
    with Simulators(2) as simulators, TrialLog(tmp_path / "trials.jsonl") as log:
        outcome = tune(tasks[:2], simulators, log, TuneSettings(trials=5))
    for trials in outcome.trials.values():
        assert not [trial.refusal for trial in trials if trial.refusal]
        assert len({trial.count for trial in trials}) > 1
    for best, task in zip(outcome.best(), tasks, strict=False):
        untuned = outcome.trials[task.workload.text][0].count
        assert untuned is not None
        assert best.count is not None
        assert best.count <= WORTH * untuned


def test_the_database_decides_the_kernel(tasks: list[TuningTask], tmp_path: Path) -> None:
    task = tasks[0]
    file = tmp_path / "tuning.jsonl"
    write_database(file, [Entry(task.workload.text, task.tiles[-1], 12)])
    assert read_database(file) == {
        task.workload.text: Entry(task.workload.text, task.tiles[-1], 12)
    }
    tuned = str(lower(task.task.program, tiles=chooser(read_database(file))))
    assert tuned == str(lower(task.task.program, tiles=lambda workload: task.tiles[-1]))
    assert tuned != str(lower(task.task.program, tiles=default_tile))


def test_a_tile_that_the_workload_does_not_allow_is_not_used() -> None:
    workload = Workload("dot", {"pixels": 4, "channels": 4, "steps": 4})
    wrong = Tile(99, 1, 1)
    assert wrong not in candidates(workload)
    assert chooser({workload.text: Entry(workload.text, wrong, 1)})(workload) == default_tile(
        workload
    )


@pytest.mark.parametrize("line", ['{"workload": "a"}', "nonsense", '{"workload": "a", "tile": 3}'])
def test_a_damaged_database_is_one_line_that_names_file_and_line(line: str, tmp_path: Path) -> None:
    file = tmp_path / "tuning.jsonl"
    file.write_text(f"{line}\n")
    with pytest.raises(CompilerError, match=r"tuning.jsonl:1: .*ondevice tune"):
        read_database(file)


@pytest.mark.parametrize("text", ["here", "host:", "host:0", ":9190", "host:port"])
def test_a_tracker_is_host_and_port(text: str) -> None:
    with pytest.raises(UserError, match="HOST:PORT"):
        parse_address(text)


@contextmanager
def _tracker() -> Iterator[str]:
    """TVM's tracker on a free port; ends with it."""
    code = (
        "import sys\nfrom tvm.rpc.tracker import Tracker\n"
        "t = Tracker('127.0.0.1', port=19190, port_end=19290, silent=True)\n"
        "print(t.port, flush=True)\nsys.stdin.read()\nt.terminate()\n"
    )
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"


def _when_registered(address: str) -> TrackedWorkers:
    """The workers, as soon as there is one."""
    for _ in range(600):
        try:
            return TrackedWorkers(address)
        except UserError:
            time.sleep(0.1)
    return TrackedWorkers(address)


def test_a_worker_behind_tvms_tracker_counts_what_is_counted_here(
    tasks: list[TuningTask],
) -> None:
    pytest.importorskip("tornado")
    pairs = [(tasks[0].task, tasks[0].kernel(tile)) for tile in tasks[0].tiles[:2]]
    broken = (tasks[0].task, KernelSource("int broken", "x"))
    with _tracker() as address, worker(address, "127.0.0.1"):
        workers = _when_registered(address)
        remote = list(workers.measure_all([*pairs, broken]))
        del workers
    with Simulators(2) as simulators:
        assert remote[:2] == list(simulators.measure_all(pairs))
    assert "expected" in str(remote[2])


def test_the_verb_writes_database_and_plot_and_compile_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["tune", "--trials", "2", "--scheme", "last"])
    assert result.exit_code == 0, result.output
    assert len(read_database(Path("tuning.jsonl"))) >= 2
    assert Path("runs/tune/best-so-far.svg").is_file()
    assert "ondevice train --tuning tuning.jsonl" in result.output


def test_the_shipped_database_is_what_a_compilation_uses(tasks: list[TuningTask]) -> None:
    entries = shipped_entries()
    assert len(entries) > 100
    assert list(entries) == sorted(entries)
    for task in tasks:
        assert str(lower(task.task.program)) == str(
            lower(task.task.program, tiles=chooser(entries))
        )
