"""The audit: every row's updates made by the device, attacked, and scored."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice.privacy.attack import AttackName, Problem, Reconstruction, attack_of
from ondevice.privacy.device_update import DeviceUpdates
from ondevice.privacy.labels import infer_labels
from ondevice.privacy.network import AttackedModule
from ondevice.privacy.results import Audit, AuditSettings, Row
from ondevice.privacy.scenarios import Scenario
from ondevice.privacy.score import Judge, matched
from ondevice.privacy.subject import Subject
from ondevice.privacy.update import Update

GOOD_MATCH = 1e-4  # of the squared norm of the gradient, or of 1 - cosine


def run_audit(
    subject: Subject,
    module: AttackedModule,
    scenarios: Sequence[Scenario],
    settings: AuditSettings,
    build_root: Path,
    on_row: Callable[[Row], None] = lambda row: None,
    on_start: Callable[[Scenario], None] = lambda scenario: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Audit:
    """Measures all rows; the same settings give the same figures.

    Args:
        subject: Network and data.
        module: The network for the attacker.
        scenarios: Rows.
        settings: Samples, restarts, seed.
        build_root: Where models are compiled.
        on_row: Told each row.
        on_start: Told each scenario before it.
        should_stop: Asked between attacks.

    Raises:
        UserError: No scenario can be compiled, or the data has too few samples.
    """
    data = subject.data
    chosen = private_samples(data.y, settings.samples, settings.seed)
    x, y = data.x[list(chosen)], data.y[list(chosen)]
    judge = Judge.of(data.x, data.y, chosen)
    rows: list[Row] = []
    left_out: list[tuple[str, str]] = []
    stopped = False
    with _repeatable(), _Boards(subject, build_root) as boards:
        for scenario in scenarios:
            if stopped := should_stop():
                break
            on_start(scenario)
            try:
                updates = _updates(boards, scenario, x, y, settings.seed)
                for attack in settings.attacks or scenario.attacks:
                    if stopped := should_stop():
                        break
                    row = _attack_row(
                        subject, module, scenario, attack, updates, x, y, judge, settings
                    )
                    rows.append(row)
                    on_row(row)
            except UserError as error:
                left_out.append((scenario.title, str(error)))
    if not rows and left_out:
        raise UserError(f"no row of the audit could be measured: {left_out[0][1]}")
    return Audit(
        subject,
        settings,
        chosen,
        x,
        y,
        judge.typical_mse,
        tuple(rows),
        tuple(left_out),
        bool(stopped),
    )


def private_samples(y: NDArray[np.int64], count: int, seed: int) -> tuple[int, ...]:
    """Indices of samples: of a class each, as long as there are classes, in random order.

    Raises:
        UserError: There are not so many.
    """
    if count > len(y):
        raise UserError(f"{count} private samples are asked for; the data has {len(y)}")
    order = np.random.default_rng(seed).permutation(len(y))
    rounds: dict[int, int] = {}
    keyed = []
    for place, index in enumerate(order):
        label = int(y[index])
        rounds[label] = rounds.get(label, 0) + 1
        keyed.append((rounds[label], place, int(index)))
    return tuple(index for _, _, index in sorted(keyed)[:count])


class _Boards:
    """The boards of an audit: one for each set of options, open until the end."""

    def __init__(self, subject: Subject, build_root: Path) -> None:
        self._subject, self._build_root = subject, build_root
        self._open: list[tuple[dict[str, object], DeviceUpdates]] = []
        self._stack = ExitStack()

    def of(self, scenario: Scenario) -> DeviceUpdates:
        """A board compiled for a scenario."""
        options = scenario.compiled
        for known, board in self._open:
            if known == options:
                return board
        made = DeviceUpdates(self._subject.config, options, self._build_root)
        self._open.append((options, self._stack.enter_context(made)))
        return made

    def __enter__(self) -> _Boards:
        return self

    def __exit__(self, *unused: object) -> None:
        self._stack.close()


@dataclass(frozen=True, eq=False)
class _Sent:
    """An update with the samples in it."""

    update: Update
    members: list[int]
    noise_to_gradient: float


def _updates(
    boards: _Boards, scenario: Scenario, x: NDArray[np.float32], y: NDArray[Any], seed: int
) -> list[_Sent]:
    """The updates of all private samples, in groups of a batch."""
    if len(x) % scenario.batch:
        raise UserError(
            f"{len(x)} private samples cannot be split into batches of {scenario.batch}"
        )
    board, found = boards.of(scenario), []
    for start in range(0, len(x), scenario.batch):
        members = list(range(start, start + scenario.batch))
        update = board.train(x[members], y[members], scenario.learning_rate, scenario.passes)
        ratio = 0.0
        if scenario.defence is not None:
            power = update.mean_square
            if scenario.defence.kind != "prune":
                ratio = scenario.defence.amount / max(power, 1e-30)
            update = scenario.defence.apply(update, seed=seed * 1000 + start)
        found.append(_Sent(update, members, ratio))
    return found


def _attack_row(
    subject: Subject,
    module: AttackedModule,
    scenario: Scenario,
    attack: AttackName,
    updates: Sequence[_Sent],
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    judge: Judge,
    settings: AuditSettings,
) -> Row:
    low, high = float(subject.data.x.min()), float(subject.data.x.max())
    found = np.zeros_like(x)
    recovered, losses, evaluations = 0, [], 0
    for sent in updates:
        update, members = sent.update, sent.members
        problem = Problem(
            target=module.target(update, scenario.sent_only),
            shape=(len(members), *x.shape[1:]),
            classes=module.classes,
            labels=infer_labels(update, module.arrangement.last_layer, len(members)),
            label_smoothing=float(str(scenario.options.get("label_smoothing", 0.0))),
            low=low,
            high=high,
            centre=float(subject.data.x.mean()),
            spread=float(subject.data.x.std()),
        )
        best, taken = _best(problem, attack, settings)
        evaluations += taken
        order = matched(best.x, x[members])
        found[members] = best.x[order]
        recovered += common_labels(best.labels, y[members])
        losses.append(best.matching_loss)
    update = updates[0].update
    return Row(
        scenario=scenario,
        attack=attack,
        scores=tuple(judge.score(one, which) for which, one in enumerate(found)),
        labels_recovered=recovered / len(x),
        matching_loss=float(np.mean(losses)),
        size_bytes=update.size_bytes if scenario.defence is None else None,
        sent_share=update.sent_elements / update.elements,
        noise_to_gradient=float(np.mean([sent.noise_to_gradient for sent in updates])),
        evaluations=evaluations,
        found=found,
    )


def _best(
    problem: Problem, name: AttackName, settings: AuditSettings
) -> tuple[Reconstruction, int]:
    """Of several searches the one that the attacker would take: the best match.

    A search that matched well needs no other.
    """
    attack, usual = attack_of(name)
    iterations = settings.iterations if settings.iterations is not None else usual
    tries: list[Reconstruction] = []
    for restart in range(settings.restarts):
        tries.append(attack(problem, iterations, settings.seed * 1000 + restart))
        if tries[-1].matching_loss < GOOD_MATCH:
            break
    best = min(tries, key=lambda one: np.nan_to_num(one.matching_loss, nan=np.inf))
    return best, sum(one.evaluations for one in tries)


def common_labels(found: NDArray[np.int64], true: NDArray[np.int64]) -> int:
    """How many labels two batches have in common, each counted as often as it is in both."""
    return sum(min(int(np.sum(found == label)), int(np.sum(true == label))) for label in set(true))


@contextmanager
def _repeatable() -> Iterator[None]:
    """One thread and deterministic kernels: the same sums in the same order.

    Without oneDNN, which takes twice as long for maps as small as these.
    """
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # oneDNN's, on hardware that is not here
            with torch.backends.mkldnn.flags(enabled=False):
                yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
