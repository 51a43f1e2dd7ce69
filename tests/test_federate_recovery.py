"""Federated rounds that were cut at the worst moment: nothing is lost or counted twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from federation_bench import Bench, make_fleet, order_of
from ondevice.errors import UserError
from ondevice.federate import rounds
from ondevice.federate.delta import decode_delta
from ondevice.federate.fleet import Fleet, open_member
from ondevice.federate.local_round import train_round
from ondevice.federate.messages import Order, Report
from ondevice.federate.participant import load_memory
from ondevice.federate.round_events import GlobalEvaluated
from ondevice.federate.server_state import ServerState

CLIENTS = 3


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return make_fleet(tmp_path / "fleet", CLIENTS, compress="topk", compress_ratio=0.1)


def trained(fleet: Fleet, order: Order) -> Report:
    """A round of the first client, whose program and board are started for it."""
    with open_member(fleet, fleet.members[0]) as participant:
        return train_round(participant, order)


def test_a_client_that_ended_after_its_board_had_saved_the_round_trains_it_to_the_same_change(
    fleet: Fleet, tmp_path: Path
) -> None:
    """The board is a round ahead of what the client remembers."""
    bench, member = Bench(tmp_path, fleet), fleet.members[0]
    first = trained(fleet, order_of(bench, 1))
    remembered = (member.folder / "memory.json").read_bytes()
    second = trained(fleet, order_of(bench, 2))
    (member.folder / "memory.json").write_bytes(remembered)
    assert trained(fleet, order_of(bench, 2)).delta == second.delta != first.delta


def test_a_client_whose_board_has_lost_its_checkpoint_begins_anew(
    fleet: Fleet, tmp_path: Path
) -> None:
    """What it remembers is of another state than the board's."""
    bench, member = Bench(tmp_path, fleet), fleet.members[0]
    first = trained(fleet, order_of(bench, 1))
    assert load_memory(member.folder / "memory.json", "federation").checkpoint > 0
    (member.folder / "flash.bin").unlink()
    assert trained(fleet, order_of(bench, 2, base_round=1, weights=b"")).needs_whole
    again = trained(fleet, order_of(bench, 1))
    assert again.delta == first.delta


def test_the_proximal_pull_shows_in_a_round_that_is_shorter_than_its_rhythm(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path / "fleet", 1, proximal=True)
    bench, moved = Bench(tmp_path, fleet), []
    for mu in (0.0, 0.15):
        (fleet.members[0].folder / "memory.json").unlink(missing_ok=True)
        order = order_of(bench, 1, local_epochs=1, learning_rate=0.05, proximal_mu=mu)
        report = trained(fleet, order)
        assert report.samples < 1 / 16 / (0.05 * 0.15)
        delta = decode_delta(bench.manifest, report.delta)
        moved.append(sum(float(np.square(array).sum()) for array in delta))
    assert moved[0] > moved[1] > 0


def test_a_round_that_is_asked_again_asks_only_those_who_have_not_answered(
    fleet: Fleet, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, fleet, min_clients=CLIENTS)
    bench.grid.failing.add((1, 0))
    with pytest.raises(UserError, match="round 1: 2 of 3 clients"):
        bench.run(1)
    assert sorted(client for client, _ in bench.grid.orders) == [0, 0, 0, 1, 2]


def test_a_server_that_ended_while_it_measured_measures_when_it_goes_on(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, measure = Bench(tmp_path, fleet), rounds._evaluate

    def killed(federation: rounds.Federation, state: ServerState) -> None:
        if state.round == 2:
            raise KeyboardInterrupt
        measure(federation, state)

    monkeypatch.setattr(rounds, "_evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        bench.run(2)
    monkeypatch.setattr(rounds, "_evaluate", measure)
    bench.run(2)
    measured = [event.round for event in bench.events if isinstance(event, GlobalEvaluated)]
    assert measured == [0, 1, 2]
