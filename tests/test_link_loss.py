"""A training run whose link breaks: at any byte, for good, or with a board that restarts."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from cut_link import Bench, fake_data, fake_manifest
from ondevice import reconnect
from ondevice.config import Config, OutputSettings, TrainingSettings
from ondevice.errors import LinkError
from ondevice.events import Event, LinkLost, StepTrained, StepUnseen, WentOn
from ondevice.outcome import TrainingOutcome
from ondevice.reconnect import Recovery
from ondevice.recorded_run import load_recorded_run
from ondevice.run_folder import create_run_folder
from ondevice.train import run_training

STEPS = 7
SETTINGS = TrainingSettings(steps=STEPS, learning_rate=0.5, checkpoint_every_steps=3)


@pytest.fixture
def program(compile_c: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(reconnect, "_FIRST_WAIT_S", 0.001)
    return compile_c("fake_device")


@pytest.fixture
def bench(program: Path) -> Iterator[Bench]:
    bench = Bench(program)
    yield bench
    bench.close()


def train(
    bench: Bench,
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    settings: TrainingSettings = SETTINGS,
    limit_s: float = 60.0,
) -> TrainingOutcome:
    bench.device.reset_model()
    recovery = Recovery(lambda: bench.reopen(), lambda device: device.reset_model(), limit_s)
    return run_training(
        bench.device, fake_manifest(), fake_data(), settings, on_event, should_stop,
        recovery=recovery,
    )  # fmt: skip


def at_step(step: int, act: Callable[[], None]) -> Callable[[Event], None]:
    """Does something once, when a step is done."""
    waiting = [act]

    def on_event(event: Event) -> None:
        if waiting and isinstance(event, StepTrained) and event.step == step:
            waiting.pop()()

    return on_event


def both(
    first: Callable[[Event], None], second: Callable[[Event], None]
) -> Callable[[Event], None]:
    def on_event(event: Event) -> None:
        first(event)
        second(event)

    return on_event


def known_losses(outcome: TrainingOutcome, undisturbed: TrainingOutcome) -> bool:
    """Whether every loss that is known is that of an undisturbed run."""
    known = ~np.isnan(outcome.losses)
    return bool(np.array_equal(outcome.losses[known], undisturbed.losses[known]))


@pytest.mark.parametrize("direction", ["out", "in"])
def test_a_link_that_breaks_at_any_byte_of_a_step_neither_loses_nor_repeats_one(
    bench: Bench, direction: str
) -> None:
    sizes: list[int] = []

    def measure() -> None:
        sizes.append(bench.link.bytes_out if direction == "out" else bench.link.bytes_in)

    undisturbed = train(bench, both(at_step(1, bench.link.count), at_step(2, measure)))
    assert not np.isnan(undisturbed.losses).any()
    # The sample, the label and TRAIN of step 2; then the APPLY of both samples, and some of step 3.
    exchange_bytes = sizes[0] + 40
    events: list[Event] = []
    unseen = 0
    for position in range(exchange_bytes):
        events.clear()
        links = bench.links
        cut = at_step(1, lambda: bench.link.cut_after(direction, position))  # noqa: B023
        outcome = train(bench, both(cut, events.append))
        assert bench.links == links + 1, position
        assert outcome.parameters == undisturbed.parameters, position
        assert outcome.counters.trained == STEPS
        assert outcome.counters.updates == undisturbed.counters.updates
        lost = [event.step for event in events if isinstance(event, StepUnseen)]
        assert lost in ([], [2], [3]), position
        assert np.flatnonzero(np.isnan(outcome.losses)).tolist() == [step - 1 for step in lost]
        assert known_losses(outcome, undisturbed)
        unseen += len(lost)
    assert 0 < unseen < exchange_bytes  # cuts before the step was executed, and after


@pytest.mark.parametrize("step", [1, 2, 3, 5, 6])
def test_a_board_that_restarts_and_keeps_nothing_gets_the_state_of_the_host(
    program: Path, step: int
) -> None:
    bench = Bench(program)
    undisturbed = train(bench)
    bench.close()
    bench = Bench(program, restarts=True)
    events: list[Event] = []
    cut = at_step(step, lambda: bench.link.cut_after("out", 100))
    outcome = train(bench, both(cut, events.append))
    bench.close()
    assert outcome.parameters == undisturbed.parameters
    np.testing.assert_array_equal(outcome.losses, undisturbed.losses)
    (went_on,) = [event for event in events if isinstance(event, WentOn)]
    kept = (step - 1) // 3 * 3  # the state of step 3 is read after it
    assert went_on == WentOn(kept, step, "host" if kept else "start")


def test_a_board_that_was_given_to_another_run_gets_its_state_back(bench: Bench) -> None:
    undisturbed = train(bench)

    def take_over() -> None:
        bench.device.reset_counters(run=7)
        bench.device.train(0.5)
        bench.link.cut_after("out", 0)

    outcome = train(bench, at_step(4, take_over))
    assert outcome.parameters == undisturbed.parameters


def test_a_link_that_stays_away_is_given_up_in_one_line_after_some_attempts(bench: Bench) -> None:
    events: list[Event] = []
    inner = bench.reopen

    def gone() -> None:
        def never() -> None:
            raise LinkError("there is no serial port /dev/ttyACM0")

        bench.reopen = never  # type: ignore[assignment,method-assign]
        bench.link.cut_after("out", 0)

    with pytest.raises(LinkError, match=r"within 0.01 s \(\d+ attempts\).*no serial port"):
        train(bench, both(at_step(4, gone), events.append), limit_s=0.01)
    assert [event.attempt for event in events if isinstance(event, LinkLost)][:2] == [1, 2]
    bench.reopen = inner  # type: ignore[method-assign]
    with pytest.raises(LinkError, match="unplugged"):  # asked for no reconnection
        train(bench, at_step(4, lambda: bench.link.cut_after("out", 0)), limit_s=0.0)


def test_a_link_that_breaks_at_the_same_step_for_ever_is_given_up(bench: Bench) -> None:
    open_again = bench.reopen

    def reopen() -> object:
        device = open_again()
        bench.link.cut_after("out", 300)  # enough to ask where the run is, not to train
        return device

    bench.reopen = reopen  # type: ignore[assignment,method-assign]
    with pytest.raises(LinkError, match="failed 6 times at step 4 without a step"):
        train(bench, at_step(4, lambda: bench.link.cut_after("out", 0)))


def test_ctrl_c_ends_the_wait_for_a_link(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "_FIRST_WAIT_S", 1000.0)
    lost: list[Event] = []

    def on_event(event: Event) -> None:
        if isinstance(event, LinkLost):
            lost.append(event)

    cut = at_step(4, lambda: bench.link.cut_after("in", 3))
    with pytest.raises(LinkError, match="unplugged"):
        train(bench, both(cut, on_event), lambda: bool(lost))


def test_the_folder_of_a_run_whose_host_was_killed_brings_the_run_to_the_same_end(
    bench: Bench, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    undisturbed = train(bench)
    config = Config(training=SETTINGS, output=OutputSettings(directory=tmp_path))
    for step in range(1, STEPS + 1):
        for board_runs_on in (True, False):
            folder = create_run_folder(config, fake_manifest(), datetime.now())
            with pytest.raises(Killed):
                train(bench, both(folder.on_event, at_step(step, kill)))
            if not board_runs_on:
                bench.device.reset_model()
            known = load_recorded_run(folder.path)
            assert known.recorded.step == step
            events: list[Event] = []
            outcome = run_training(
                bench.device, fake_manifest(), fake_data(), SETTINGS, events.append,
                recovery=Recovery(bench.reopen, lambda device: device.reset_model()),
                recorded=known.recorded,
            )  # fmt: skip
            assert outcome.parameters == undisturbed.parameters
            np.testing.assert_array_equal(outcome.losses, undisturbed.losses)
            assert outcome.before == undisturbed.before
            (went_on,) = [event for event in events if isinstance(event, WentOn)]
            kept = step if board_runs_on else (step - 1) // 3 * 3
            assert (went_on.step, went_on.previous_step) == (kept, step)
            assert went_on.origin == ("board" if board_runs_on else "host" if kept else "start")


def test_a_line_of_the_metrics_that_was_cut_short_is_left_out(bench: Bench, tmp_path: Path) -> None:
    config = Config(training=SETTINGS, output=OutputSettings(directory=tmp_path))
    folder = create_run_folder(config, fake_manifest(), datetime.now())
    train(bench, both(folder.on_event, lambda event: None), settings=SETTINGS)
    folder.close()
    metrics = folder.path / "metrics.jsonl"
    lines = metrics.read_bytes().splitlines(keepends=True)
    steps = [i for i, line in enumerate(lines) if json.loads(line)["event"] == "step"]
    metrics.write_bytes(b"".join(lines[: steps[4]]) + lines[steps[4]][:20])
    known = load_recorded_run(folder.path)
    assert known.recorded.step == 4
