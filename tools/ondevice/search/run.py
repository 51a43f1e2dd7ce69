"""A whole search, from settings to the winning scheme: what `ondevice search` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ondevice.compiled_model import analyse_model, compile_options
from ondevice.config import Config
from ondevice.data import Dataset
from ondevice.errors import UserError
from ondevice.search.bench import Bench, Protocol
from ondevice.search.comparison import Contender, Row, common_schemes, compare, winner
from ondevice.search.contribution import Contributions, analyse_contributions, analysis_size
from ondevice.search.events import GenerationFinished, PhaseStarted, SearchEvent
from ondevice.search.evolution import Cost, EvolutionSettings, Limits, Scored, budget_ladder, evolve
from ondevice.search.report import results_record
from ondevice.search.scheme_file import scheme_to_toml
from ondevice.search.space import Candidate, SearchSpace, search_space
from ondevice.search.tasks import make_tasks
from ondevice.search.trial_log import TrialLog
from ondevice.sources import Sources, compile_request
from ondevice.target import target_board
from ondevice_compiler.atomic_file import write_text_atomically
from ondevice_compiler.errors import UserError as CompilerError
from ondevice_compiler.scheme import UpdateScheme

if TYPE_CHECKING:
    from ondevice_compiler.compile import Analysis, CompileOptions

LOG_NAME = "runs.jsonl"


@dataclass(frozen=True)
class SearchSettings:
    """What to search for, and how.

    Attributes:
        limits: Budget; RAM is of the model's buffers and the board's stack.
        protocol: How schemes are trained.
        evolution: How long to search.
        finalists: Candidates of the evolution that are trained: of the budget and of smaller ones.
        folder: Of the log, which all budgets share; results go to a folder in it.
    """

    limits: Limits
    protocol: Protocol
    evolution: EvolutionSettings
    finalists: int
    folder: Path

    @property
    def results_folder(self) -> Path:
        """Of this budget."""
        macs = "" if self.limits.macs is None else f"-macs-{self.limits.macs}"
        return self.folder / f"ram-{self.limits.ram_bytes}{macs}"


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        space: What was searched.
        contributions: Measured.
        rows: Trained finalists and common schemes.
        best: The one to use.
        scheme_file: It, for `--scheme sparse:FILE`.
    """

    space: SearchSpace
    contributions: Contributions
    rows: Sequence[Row]
    best: Row
    scheme_file: Path


def run_search(
    config: Config,
    sources: Sources,
    data_sets: Sequence[Dataset],
    settings: SearchSettings,
    build_root: Path,
    say: Callable[[str], None],
    on_event: Callable[[SearchEvent], None],
    should_stop: Callable[[], bool],
) -> SearchResult:
    """Measures contributions, searches, trains the best beside the common schemes, writes results.

    Args:
        config: Model, training and board.
        sources: Model and calibration samples.
        data_sets: What the scheme must be good at; accuracies are averaged over them.
        settings: Budget and effort.
        build_root: Where compiled models and firmware are kept.
        say: Takes lines for the person.
        on_event: Told of all progress.
        should_stop: Asked between training steps.

    Raises:
        UserError: Settings are wrong, or nothing fits the budget.
        SearchInterrupted: It was stopped; the log has all finished runs.
    """
    _check(config, sources)
    board = target_board(config.device, connect=False)
    stack_bytes = board.stack_bytes if board is not None and board.run != "host" else 0
    tasks = make_tasks(data_sets)
    full = replace(config, model=replace(config.model, scheme="full"))
    request = compile_request(full, sources, build_root)
    say(f"Compiling {sources.model} ...")
    analysis, options = analyse_model(request), compile_options(request)
    space = space_of(analysis)
    cost = _cost_function(analysis, options, space, stack_bytes)
    _check_smallest(cost(space.smallest), settings.limits, stack_bytes)
    settings.results_folder.mkdir(parents=True, exist_ok=True)
    with TrialLog(settings.folder / LOG_NAME) as log:
        if len(log):
            say(f"Going on with {len(log)} runs of {settings.folder / LOG_NAME}")
        bench = Bench(
            analysis, request, tasks, settings.protocol, log, build_root, on_event, should_stop
        )
        on_event(PhaseStarted("contribution", analysis_size(space) * bench.validation_runs()))
        contributions = analyse_contributions(
            space, lambda candidate: bench.validate(space.scheme(candidate)).mean
        )
        contenders = [
            Contender("searched", space.scheme(one.candidate), one.cost, one.gain)
            for one in _finalists(space, contributions, cost, settings, on_event)
        ]
        layers = len({name.rpartition(".")[0] for name in analysis.joint.program.gradients})
        for group, name in common_schemes(layers):
            scheme, price = _planned(analysis, options, name, stack_bytes)
            contenders.append(Contender(group, scheme, price, None))
        runs = len(contenders) * (bench.validation_runs() + bench.test_runs())
        on_event(PhaseStarted("comparison", runs))
        rows = compare(contenders, settings.limits.allow, bench)
    return _written(space, contributions, rows, settings, sources.model.stem)


def space_of(analysis: Analysis) -> SearchSpace:
    """The search space of a model."""
    from ondevice_compiler.scheme.channels import channel_count, strongest_channels

    program = analysis.joint.program

    def channels(weight: str, ratio: float) -> tuple[int, ...] | None:
        try:
            chosen = strongest_channels(program, weight, ratio)
        except CompilerError:  # a weight that is trained whole or not at all
            return None
        return chosen if len(chosen) < channel_count(program, weight) else None

    return search_space(list(program.gradients), channels)


def _finalists(
    space: SearchSpace,
    contributions: Contributions,
    cost: Callable[[Candidate], Cost],
    settings: SearchSettings,
    on_event: Callable[[SearchEvent], None],
) -> list[Scored]:
    """The best candidate of the budget, and of smaller ones; those that gain nothing left out."""

    def on_generation(generation: int, best: Scored) -> None:
        name, price = space.label(best.candidate), best.cost
        on_event(GenerationFinished(generation, name, best.gain, price.ram_bytes, price.macs))

    found: list[Scored] = []
    for limits in budget_ladder(cost(space.smallest), settings.limits, settings.finalists):
        on_event(PhaseStarted("evolution", settings.evolution.generations))
        best = evolve(space, contributions.gain, cost, limits, settings.evolution, on_generation)[0]
        if best not in found and (best.gain > 0 or not found):
            found.append(best)
    return found


def _check(config: Config, sources: Sources) -> None:
    if config.model.scheme != "full":
        raise UserError(
            f"--scheme {config.model.scheme}: a search finds the scheme itself; leave it out"
        )
    if sources.model.is_dir():
        raise UserError(
            f"{sources.model}: is compiled already, for one scheme; give the model's own file"
        )
    if config.model.loss != "cross_entropy":
        raise UserError(
            f"--loss {config.model.loss}: a search compares accuracies; allowed: cross_entropy"
        )


def _planned(
    analysis: Analysis, options: CompileOptions, scheme: str | UpdateScheme, stack_bytes: int
) -> tuple[UpdateScheme, Cost]:
    from ondevice_compiler.compile import plan_scheme

    planned = plan_scheme(analysis, replace(options, scheme=scheme))
    return planned.scheme, Cost(planned.memory.ram_bytes + stack_bytes, planned.macs)


def _cost_function(
    analysis: Analysis, options: CompileOptions, space: SearchSpace, stack_bytes: int
) -> Callable[[Candidate], Cost]:
    """Exact cost of a candidate, planned once."""

    @cache
    def cost(candidate: Candidate) -> Cost:
        return _planned(analysis, options, space.scheme(candidate), stack_bytes)[1]

    return cost


def _check_smallest(smallest: Cost, limits: Limits, stack_bytes: int) -> None:
    if smallest.ram_bytes > limits.ram_bytes:
        raise UserError(
            f"--ram {limits.ram_bytes}: training the last layer alone needs "
            f"{smallest.ram_bytes} B, a stack of {stack_bytes} B included; allowed: at least that "
            f"({smallest.ram_bytes - limits.ram_bytes} B more); choose a smaller model"
        )
    if limits.macs is not None and smallest.macs > limits.macs:
        raise UserError(
            f"--macs {limits.macs}: training the last layer alone takes {smallest.macs} "
            "multiply-accumulates a step; allowed: at least that, or a smaller model"
        )


def _written(
    space: SearchSpace,
    contributions: Contributions,
    rows: Sequence[Row],
    settings: SearchSettings,
    model: str,
) -> SearchResult:
    # Matplotlib takes half a second to import: not for every command.
    from ondevice.search.plot import write_accuracy_against_ram

    folder, limits = settings.results_folder, settings.limits
    best = winner(rows)
    record = results_record(space, contributions, rows, best, limits)
    write_text_atomically(folder / "results.json", json.dumps(record, indent=1) + "\n")
    comment = f"{best.contender.scheme.name}: found by `ondevice search` for {model}"
    scheme_file = folder / "scheme.toml"
    write_text_atomically(scheme_file, scheme_to_toml(best.contender.scheme, comment))
    count = len(rows[0].test.runs)
    over = f", mean of {count} data sets" if count > 1 else ""
    title = f"{model}: accuracy of update schemes{over}"
    write_accuracy_against_ram(folder / "accuracy_ram.svg", rows, limits.ram_bytes, title)
    return SearchResult(space, contributions, rows, best, scheme_file)
