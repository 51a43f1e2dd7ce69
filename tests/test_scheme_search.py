"""The search itself, on contributions and costs that are made up: against brute force."""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice import cli
from ondevice.errors import UserError
from ondevice.search import run as search_run
from ondevice.search.bench import SearchInterrupted
from ondevice.search.contribution import Contributions, analyse_contributions, analysis_size
from ondevice.search.events import PhaseStarted, RunFinished, SchemeStarted
from ondevice.search.evolution import (
    Cost,
    EvolutionSettings,
    Limits,
    Scored,
    budget_ladder,
    evolve,
)
from ondevice.search.quantity import parse_bytes, parse_macs
from ondevice.search.space import Candidate, SearchSpace, search_space
from ondevice.search.trial_log import TrialLog

FEW = settings(max_examples=25)
SHORT = EvolutionSettings(population=24, generations=40, patience=15)


def space_of(layers: int, channels: int = 8) -> SearchSpace:
    """Layers of one weight and one bias each."""
    names = [f"{layer}.{kind}" for layer in range(layers) for kind in ("weight", "bias")]
    return search_space(names, lambda weight, ratio: tuple(range(max(1, int(ratio * channels)))))


def everything(space: SearchSpace) -> Iterator[Candidate]:
    choices = [range(len(shares) + 1) for shares in space.shares]
    for biases in range(len(space.biases) + 1):
        for shares in itertools.product(*choices):
            yield Candidate(biases, shares)


def instance(space: SearchSpace, seed: int) -> tuple[Contributions, Callable[[Candidate], Cost]]:
    """Accuracies at random, and a cost like a real one: weights add up, depth counts."""
    draw = random.Random(seed)
    biases = tuple(draw.uniform(0.5, 0.8) for _ in range(len(space.biases) + 1))
    base = biases.index(max(biases))
    weights = tuple(
        tuple(biases[base] + draw.uniform(-0.05, 0.2) for _ in shares) for shares in space.shares
    )
    sizes = [draw.randint(10, 200) for _ in space.weights]

    def cost(candidate: Candidate) -> Cost:
        kept = sum(
            int(size * space.shares[index][share - 1].ratio)
            for index, (size, share) in enumerate(zip(sizes, candidate.shares, strict=True))
            if share
        )
        trained = [index for index, share in enumerate(candidate.shares) if share]
        depth = max([candidate.biases, *(len(sizes) - index for index in trained)], default=0)
        return Cost(100 + 5 * candidate.biases + 40 * depth + kept, 1000 + 300 * depth + kept)

    return Contributions(biases, base, weights), cost


def searched(
    space: SearchSpace, seed: int, limits: Limits, evolution: EvolutionSettings = SHORT
) -> list[Scored]:
    contributions, cost = instance(space, seed)
    return evolve(space, contributions.gain, cost, limits, evolution)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("ram_bytes", [180, 320, 500])
def test_the_search_finds_the_exact_optimum_of_small_models(seed: int, ram_bytes: int) -> None:
    space, limits = space_of(4), Limits(ram_bytes, 2100)
    contributions, cost = instance(space, seed)
    best = max(contributions.gain(c) for c in everything(space) if limits.allow(cost(c)))
    assert searched(space, seed, limits)[0].gain == pytest.approx(best, abs=1e-12)


@FEW
@given(st.integers(2, 12), st.integers(0, 1000), st.integers(100, 1500), st.integers(1000, 4000))
def test_no_candidate_exceeds_the_budget(layers: int, seed: int, ram: int, macs: int) -> None:
    limits = Limits(ram, macs)
    space = space_of(layers)
    found = searched(space, seed, limits, EvolutionSettings(8, 5, seed=seed))
    assert all(limits.allow(instance(space, seed)[1](one.candidate)) for one in found)
    assert space.smallest in [one.candidate for one in found]


def test_the_same_seed_finds_the_same_candidates() -> None:
    limits = Limits(600)
    assert searched(space_of(9), 3, limits) == searched(space_of(9), 3, limits)


def test_of_equal_gains_the_smaller_candidate_is_ranked_first() -> None:
    space = space_of(3)
    found = evolve(
        space, lambda candidate: 0.0, lambda c: Cost(sum(c.shares) + c.biases, 0), Limits(99), SHORT
    )
    assert found[0].candidate == space.smallest
    sizes = [one.cost.ram_bytes for one in found]
    assert sizes == sorted(sizes)


def test_the_budgets_of_the_finalists_fall_evenly_and_all_hold_the_smallest_scheme() -> None:
    ladder = budget_ladder(Cost(100, 7), Limits(400, 9), 3)
    assert [limits.ram_bytes for limits in ladder] == [400, 300, 200]
    assert all(limits.allow(Cost(100, 7)) for limits in ladder)


def test_exact_costs_are_asked_for_once_a_candidate_and_not_for_hopeless_ones() -> None:
    space = space_of(12)
    contributions, price = instance(space, 5)
    asked: list[Candidate] = []

    def cost(candidate: Candidate) -> Cost:
        asked.append(candidate)
        return price(candidate)

    found = evolve(space, contributions.gain, cost, Limits(700), SHORT)
    assert len(asked) == len(set(asked)) < SHORT.population * SHORT.generations
    assert {one.candidate for one in found} <= set(asked)


def test_contributions_are_gains_over_the_last_layer_and_over_the_best_biases() -> None:
    space = space_of(3)
    measured: list[Candidate] = []

    def measure(candidate: Candidate) -> float:
        measured.append(candidate)
        bonus = {0: 0.5, 1: 0.625, 2: 0.625}[candidate.biases]
        return bonus + sum((index + 1) * share for index, share in enumerate(candidate.shares)) / 64

    found = analyse_contributions(space, measure)
    assert found.base == 1  # the fewer of two equals
    assert len(measured) == len(set(measured)) == analysis_size(space)
    assert found.bias_gain(2) == 0.125
    assert found.weight_gain(1, 4) == 8 / 64
    assert found.gain(Candidate(1, (2, 0))) == 0.125 + 2 / 64


def test_shares_that_round_to_the_same_channels_are_one_share() -> None:
    (shares,) = space_of(2, channels=4).shares  # an eighth and a quarter are one channel
    assert [share.ratio for share in shares] == [0.125, 0.5, 1.0]


def test_a_weight_that_cannot_be_split_is_trained_whole_or_not_at_all() -> None:
    space = search_space(["a.weight", "b.weight"], lambda weight, ratio: None)
    assert [(share.ratio, share.channels) for share in space.shares[0]] == [(1.0, None)]


def test_a_candidate_stands_for_a_scheme_with_the_last_layer_in_it() -> None:
    space = space_of(3)
    scheme = space.scheme(Candidate(1, (0, 3)))
    assert scheme.parameters == {"2.weight", "2.bias", "1.bias", "1.weight"}
    assert scheme.channels == {"1.weight": (0, 1, 2, 3)}
    assert scheme.name == "last + 1 bias + 1 1/2"


@FEW
@given(st.integers(0, 400))
def test_a_log_cut_at_any_byte_keeps_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "runs.jsonl"
    with TrialLog(path) as log:
        for number in range(5):
            log.append(f"key{number}", {"accuracy": number / 8})
    content = path.read_bytes()[:cut]
    path.write_bytes(content)
    with TrialLog(path) as log:
        whole = content.count(b"\n")
        assert len(log) == whole
        assert "key9" not in log
        log.append("key9", {"accuracy": 1.0})
    with TrialLog(path) as log:
        assert len(log) == whole + 1
        assert log["key9"]["accuracy"] == 1.0


def test_two_searches_cannot_write_to_one_folder(tmp_path: Path) -> None:
    with TrialLog(tmp_path / "runs.jsonl"), pytest.raises(UserError, match="another search"):
        TrialLog(tmp_path / "runs.jsonl")


def test_budgets_are_read_as_people_write_them() -> None:
    assert {parse_bytes(text) for text in ("96K", "96KB", "96 KiB", "96k", "98304")} == {98304}
    assert parse_bytes("1.5M") == 3 * 512 * 1024
    assert parse_macs("2M") == parse_macs("2000000") == 2_000_000


@pytest.mark.parametrize("text", ["", "96X", "-5K", "0", "K", "96KBB", "1e5"])
def test_a_budget_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="allowed: a size"):
        parse_bytes(text)


def test_ctrl_c_ends_with_code_130_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*arguments: Any) -> None:
        on_event = arguments[6]
        on_event(PhaseStarted("contribution", 2))
        on_event(SchemeStarted("last", "validation"))
        on_event(RunFinished("last", "wearer 6", "validation", 0.01, 0, 0.75, known=False))
        raise SearchInterrupted

    monkeypatch.setattr(search_run, "run_search", stopped)
    monkeypatch.setattr(sys, "argv", ["ondevice", "search", "--ram", "9K", "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    output = capsys.readouterr()
    events = [json.loads(line) for line in output.out.splitlines()]
    assert [event["event"] for event in events] == ["phase", "start", "run"]
    assert events[-1]["accuracy"] == 0.75
    assert "same command again" in output.err
