"""The dashboard without a terminal: events to states, states to panels of the right size."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console, RenderableType

from ondevice.dashboard.choice import wants_dashboard
from ondevice.dashboard.confusion import confusion_panel
from ondevice.dashboard.figures import format_duration, short_count
from ondevice.dashboard.gradients import gradients_panel
from ondevice.dashboard.header import header
from ondevice.dashboard.link_quality import link_panel
from ondevice.dashboard.live import Dashboard
from ondevice.dashboard.operators import operators_panel
from ondevice.dashboard.plot import Axis, plot
from ondevice.dashboard.ram_map import fullest_step, ram_panel
from ondevice.dashboard.reducer import NOISY_READINGS, Reducer
from ondevice.dashboard.screen import dashboard
from ondevice.dashboard.state import Facts, State, facts_of
from ondevice.dashboard.surface import Surface
from ondevice.events import (
    Ended,
    Evaluated,
    LinkLost,
    RolledBack,
    Started,
    StepTrained,
    StepUnseen,
    Telemetry,
    WentOn,
)
from toy_training import toy_manifest

SIZES = [(80, 15), (80, 24), (100, 30), (120, 40), (200, 60), (100, 20), (60, 10), (20, 4)]
OPS = [
    ("forward/first", "forward", 600),
    ("backward/d.first", "backward", 300),
    ("update/first.weight", "update", 100),
]
STARTED = Started(
    model_id="00", model="net", board="toyboard", dtype="int8", scheme="full", samples=50,
    test_samples=9, total_steps=100, learning_rate=0.01, seed=3, counter="instructions",
    planned_ram_bytes=104, class_names=("idle", "walking fast", "running"), stack_bytes=2048,
    session_bytes=1000,
)  # fmt: skip


def facts(**changes: Any) -> Facts:
    ops = [
        {"name": name, "phase": phase, "layer": "first", "macs": count // 10, "read_bytes": 8,
         "written_bytes": 4}
        for name, phase, count in OPS
    ]  # fmt: skip
    tensors = [
        {"name": "input", "offset": 0, "bytes": 12, "first_step": -1, "last_step": 1},
        {"name": "first", "offset": 12, "bytes": 40, "first_step": 0, "last_step": 1},
        {"name": "d.first", "offset": 52, "bytes": 12, "first_step": 1, "last_step": 2},
    ]
    manifest = toy_manifest(ops=ops, scales=[{"elements": 40}])
    manifest["memory"] = {**manifest["memory"], "tensors": tensors}
    return replace(facts_of(manifest, board_ram_bytes=16384), **changes)


def step(number: int, loss: float = 1.0, correct: bool = True) -> StepTrained:
    return StepTrained(number, (number - 1) // 50 + 1, 0, 0.005, loss, correct, 1100)


def telemetry(number: int, **changes: Any) -> Telemetry:
    read = Telemetry(
        step=number, saturated=4 * number, zeros=2 * number, arena_high_water_bytes=64,
        stack_high_water_bytes=900, op_counts=tuple(number * count for _, _, count in OPS),
        requests=10 * number, retries=0, corrupt_frames=0, bytes_out=1024 * number,
        bytes_in=1024 * number,
    )  # fmt: skip
    return replace(read, **changes)


BEFORE = Evaluated("before", 0, 9, 3, 1 / 3, 2.0, ((1, 2, 0), (3, 0, 0), (0, 1, 2)))
AFTER = Evaluated("after", 100, 9, 8, 8 / 9, 0.2, ((3, 0, 0), (0, 3, 0), (0, 1, 2)))


def trained(steps: int = 100) -> Reducer:
    """A run of ten steps a second whose loss falls from 1 towards 0."""
    reducer = Reducer(facts())
    reducer.take(STARTED, 0.0)
    reducer.take(BEFORE, 5.0)
    for number in range(1, steps + 1):
        now_s = 5.0 + number / 10
        reducer.take(step(number, 1 - number / 101, number > 20), now_s)
        if number % 10 == 0:
            reducer.take(telemetry(number), now_s)
    return reducer


def state_of(reducer: Reducer) -> State:
    state = reducer.state()
    assert state is not None
    return state


def text_of(
    picture: RenderableType, columns: int = 60, lines: int = 20, encoding: str = "utf-8"
) -> list[str]:
    """What a terminal without colours shows, without blanks at the ends."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=stream, width=columns, height=lines, color_system=None)
    options = console.options.update_dimensions(columns, lines)
    rows = console.render_lines(picture, options, pad=False)
    return ["".join(segment.text for segment in row).rstrip() for row in rows]


def test_steps_become_means_rate_and_remaining_time() -> None:
    state = state_of(trained(60))
    assert (state.step, state.epoch, state.learning_rate) == (60, 2, 0.005)
    losses = [1 - number / 101 for number in range(11, 61)]
    assert state.running_loss == pytest.approx(sum(losses) / 50)
    assert state.running_accuracy == pytest.approx(40 / 50)
    assert state.samples_per_s == pytest.approx(10)
    assert state.remaining_s == pytest.approx(4)
    assert state.count_per_step == 1100
    assert state.loss.steps == tuple(map(float, range(1, 61)))
    assert list(state.loss.values) == sorted(state.loss.values, reverse=True)


def test_a_run_that_has_not_begun_has_nothing_to_show() -> None:
    assert Reducer(facts()).state() is None


def test_a_long_run_is_thinned_out_but_keeps_its_first_and_last_step() -> None:
    reducer = Reducer(facts())
    reducer.take(replace(STARTED, total_steps=5000), 0.0)
    for number in range(1, 5001):
        reducer.take(step(number, loss=number), None)
    curve = state_of(reducer).loss
    assert len(curve.steps) == 400
    assert (curve.steps[0], curve.steps[-1]) == (1, 5000)
    assert curve.values[-1] == pytest.approx(sum(range(4951, 5001)) / 50)


def test_operators_are_shares_of_the_whole_step() -> None:
    profile = state_of(trained()).profile
    assert profile is not None
    assert [(row.name, row.count) for row in profile.rows] == [(n, c) for n, _, c in OPS]
    assert profile.outside.count == 100
    assert profile.rows[0].share == pytest.approx(600 / 1100)


def test_a_rolled_back_run_forgets_the_steps_after_its_checkpoint() -> None:
    reducer = trained(60)
    reducer.take(RolledBack(20, 60, "the loss rose", "board", 0.5, 1), 12.0)
    state = state_of(reducer)
    assert state.step == 20
    assert state.loss.steps[-1] == 20
    assert state.rollbacks[0].rate_scale == 0.5
    assert "back to step 20" in state.messages[-1]
    shown = "\n".join(text_of(gradients_panel(state, Surface(30, 6))))
    assert "times 0.5" in shown


def test_a_lost_link_shows_until_the_run_goes_on_and_is_noisy_for_a_while() -> None:
    reducer = trained(60)
    assert state_of(reducer).link.word == "clean"
    reducer.take(LinkLost(60, 1, 0.5, "no answer within 2 s"), 12.0)
    lost = state_of(reducer)
    assert (lost.link.word, lost.link.trouble_s) == ("lost", 12.0)
    assert "link lost" in text_of(header(lost, Surface(80, 3)), 80)[0]
    assert (
        "no answer within 2 s; trying again in 0.5 s"
        in text_of(dashboard(lost, 80, 24), 80, 24)[-1]
    )
    reducer.take(WentOn(58, 60, "board"), 15.0)
    assert (state_of(reducer).link.word, state_of(reducer).link.reconnects) == ("noisy", 1)
    for number in range(59, 58 + NOISY_READINGS):
        reducer.take(telemetry(number, requests=number), 15.0 + number)
    assert state_of(reducer).link.word == "noisy"
    reducer.take(telemetry(99, requests=99), 120.0)
    assert state_of(reducer).link.word == "clean"
    assert "1:48 ago" in "\n".join(text_of(link_panel(state_of(reducer), Surface(40, 9))))


def test_sums_of_the_link_go_on_over_links_that_count_from_0() -> None:
    reducer = trained(60)  # 600 requests
    reducer.take(telemetry(70, requests=50, retries=2, corrupt_frames=1), 13.0)
    reducer.take(telemetry(80, requests=150, retries=3, corrupt_frames=5), 14.0)
    link = state_of(reducer).link
    assert (link.requests, link.retries, link.corrupt_frames) == (750, 3, 5)
    assert link.requests_per_s == pytest.approx(100)
    assert (link.word, link.trouble_s) == ("noisy", 14.0)


def test_frames_sent_again_while_the_board_starts_are_no_trouble() -> None:
    reducer = Reducer(facts())
    reducer.take(STARTED, 0.0)
    reducer.take(step(1), 0.1)
    reducer.take(telemetry(1, retries=3), 0.1)
    assert state_of(reducer).link.word == "clean"
    assert state_of(reducer).link.trouble_s is None


def test_a_run_that_goes_on_keeps_its_curve_and_measures_its_own_pace() -> None:
    reducer = trained(60)
    reducer.take(STARTED, 0.0)
    reducer.take(WentOn(50, 60, "host"), 0.5)
    reducer.take(StepUnseen(51, 2, 0), 0.5)
    for number in range(52, 62):
        reducer.take(step(number), 1.0 + number / 100)
    state = state_of(reducer)
    assert state.loss.steps[:50] == tuple(map(float, range(1, 51)))
    assert 51.0 not in state.loss.steps
    assert state.samples_per_s == pytest.approx(100)


@pytest.mark.parametrize(("columns", "lines"), SIZES)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "iso8859-1"])
def test_the_picture_fills_a_terminal_of_any_size_exactly(
    columns: int, lines: int, encoding: str
) -> None:
    for reducer in (trained(0), trained(60), finished()):
        rows = text_of(dashboard(state_of(reducer), columns, lines), columns, lines, encoding)
        assert len(rows) == lines
        assert max(len(row) for row in rows) <= columns
        if encoding != "utf-8":
            assert "".join(rows).isascii()
        assert "net on toyboard" in rows[0] or columns < 40


def finished() -> Reducer:
    reducer = trained()
    reducer.take(AFTER, 16.0)
    reducer.take(Ended(100, False), 16.0)
    return reducer


def test_a_large_terminal_shows_every_figure() -> None:
    shown = "\n".join(text_of(dashboard(state_of(finished()), 120, 40), 120, 40))
    for figure in (
        "100/100  100 %  epoch 2 of 2", "samples/s 10", "instructions/step 1,100", "elapsed 0:16",
        "held out 88.9 %", "held out 0.2", "confusion", "walking fast", "forward 55%",
        "update 9%", "d.first", "RAM 3,136 B of 16.0 KB (19 %)", "session 1,000 B",
        "arena touched 64 of 64 B", "stack touched 900 of 2,048 B", "requests   1,000",
        "requests/s 100", "KB/s       20.0",
        "saturated 400 10.00%", "zeroed    200  5.00%", "done", "After training: accuracy",
    ):  # fmt: skip
        assert figure in shown, f"{figure!r} is not in:\n{shown}"


def test_a_small_terminal_shows_the_panels_that_matter_most() -> None:
    state = state_of(finished())
    smallest = "\n".join(text_of(dashboard(state, 80, 15), 80, 15))
    assert "loss" in smallest
    assert "accuracy" in smallest
    assert "instructions a step" not in smallest
    small = "\n".join(text_of(dashboard(state, 80, 24), 80, 24))
    assert "instructions a step" in small
    assert "saturated" in small
    assert "confusion" not in small


def test_confusion_stands_before_and_last_side_by_side_with_names() -> None:
    rows = text_of(confusion_panel(state_of(finished()), Surface(58, 12)))
    assert rows[0].split() == ["before", "latest"]
    assert rows[1].split() == ["id", "wf", "ru"] * 2
    assert rows[3].split() == ["walking", "fast", "3", "·", "·", "·", "3", "·"]


def test_of_many_classes_the_pairs_that_are_confused_most_are_listed() -> None:
    rows = [[0] * 13 for _ in range(13)]
    rows[4][7], rows[2][3] = 9, 5
    matrix = tuple(map(tuple, rows))
    reducer = trained(0)
    reducer.take(replace(AFTER, confusion=matrix), 9.0)
    names = tuple(f"class{index}" for index in range(13))
    state = replace(state_of(reducer), started=replace(STARTED, class_names=names))
    state = replace(state, evaluations=state.evaluations[1:])
    shown = text_of(confusion_panel(state, Surface(58, 12)))
    assert shown[1].split() == ["class4", "class7", "9", "9"]
    assert shown[2].split() == ["class2", "class3", "5", "5"]


def test_a_board_that_counts_nothing_shows_what_was_planned() -> None:
    state = replace(state_of(finished()), profile=None, phases=None)
    shown = text_of(operators_panel(state, Surface(58, 10)))
    assert "forward 60%" in shown[1]
    assert shown[2].split()[0] == "first"
    assert shown[2].split()[-3:] == ["60", "60", "%"]
    assert "multiply-accumulates a step" in "\n".join(text_of(dashboard(state, 120, 40), 120, 40))


def test_the_arena_is_drawn_at_its_fullest_step() -> None:
    state = state_of(finished())
    assert fullest_step(state.facts.memory["tensors"]) == 1
    shown = "\n".join(text_of(ram_panel(state, Surface(64, 14, colour=False)), 64))
    bar = "a" * 12 + "b" * 40 + "c" * 12
    assert bar in shown
    assert "a input  b first  c d.first" in shown


def test_more_stack_than_reserved_is_not_hidden() -> None:
    reducer = trained()
    reducer.take(telemetry(100, stack_high_water_bytes=3000), 16.0)
    shown = "\n".join(text_of(ram_panel(state_of(reducer), Surface(64, 14))))
    assert "stack touched 3,000 of 2,048 B" in shown


def test_a_curve_goes_from_corner_to_corner() -> None:
    surface = Surface(27, 11, unicode=False)
    text = plot([(0, 0.0), (19, 9.0)], [(19, 9.0)], (Axis(0, 19), Axis(0, 9)), surface, ("", ""))
    rows = text.plain.splitlines()
    assert rows[0] == "  9.00|                  *o"
    assert rows[9].startswith("     0|**")
    assert rows[10].split() == ["0", "step", "19"]
    assert all(any(character in row for character in "*o") for row in rows[:10])


def test_a_loss_over_decades_is_drawn_on_a_logarithm() -> None:
    axis = Axis(0.01, 100.0, logarithmic=True)
    assert axis.place(1.0) == pytest.approx(0.5)
    assert axis.at(0.5) == pytest.approx(1.0)


def test_a_regression_has_no_accuracy_nor_confusion() -> None:
    reducer = Reducer(facts())
    reducer.take(STARTED, 0.0)
    reducer.take(replace(BEFORE, accuracy=None, confusion=None), 1.0)
    reducer.take(step(1), 1.5)
    shown = "\n".join(text_of(dashboard(state_of(reducer), 120, 40), 120, 40))
    assert "accuracy" not in shown
    assert "no classes to confuse" in shown


@pytest.mark.parametrize(("seconds", "words"), [(0, "0:00"), (65.9, "1:05"), (7384, "2:03:04")])
def test_durations_are_written_as_clocks_do(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0"), (999, "999"), (1234, "1.2k"), (81_300, "81.3k"), (287_000, "287k"),
     (1_064_700, "1.1M"), (4.2e9, "4.2G")],
)  # fmt: skip
def test_counts_are_at_most_five_characters(count: float, words: str) -> None:
    assert short_count(count) == words


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_dashboard_that_fails_gives_the_terminal_back_and_lets_the_run_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("no picture today")

    monkeypatch.setattr("ondevice.dashboard.live.dashboard", fail)
    stream = Terminal()
    console = Console(file=stream, force_terminal=True, width=100, height=30)
    with Dashboard(console, facts()) as shown:
        shown.on_event(STARTED)
        shown._thread.join()
        assert stream.getvalue().endswith("\x1b[?1049l\x1b[?25h")
        shown.on_event(step(1))
        shown.on_event(Ended(1, True))
    left = stream.getvalue().rpartition("\x1b[?1049l")[2]
    assert "no picture today" in left
    assert "the run went on without it" in left


def test_a_resumed_run_begins_with_what_was_recorded_of_it() -> None:
    console = Console(file=Terminal(), force_terminal=True, width=100, height=30)
    earlier = (STARTED, BEFORE, step(1), step(2), Ended(2, True))
    with Dashboard(console, facts(), earlier) as shown:
        shown.on_event(STARTED)
        state = state_of(shown._reducer)
    assert state.loss.steps == (1, 2)
    assert state.evaluations == (BEFORE,)
    assert state.ended is None


@pytest.mark.parametrize(
    ("terminal", "environment", "plain", "size", "expected"),
    [
        (True, {"TERM": "xterm"}, False, (120, 40), True),
        (True, {"TERM": "xterm"}, False, (80, 15), True),
        (True, {"TERM": "xterm", "CI": "false"}, False, (120, 40), True),
        (True, {"TERM": "xterm"}, True, (120, 40), False),
        (True, {"TERM": "xterm"}, False, (79, 40), False),
        (True, {"TERM": "xterm"}, False, (120, 14), False),
        (True, {"TERM": "dumb"}, False, (120, 40), False),
        (True, {}, False, (120, 40), False),
        (True, {"TERM": "xterm", "CI": "true"}, False, (120, 40), False),
        (False, {"TERM": "xterm"}, False, (120, 40), False),
        (False, {"TERM": "xterm", "FORCE_COLOR": "1"}, False, (120, 40), False),
    ],
)
def test_the_dashboard_needs_a_terminal_for_people(
    terminal: bool,
    environment: dict[str, str],
    plain: bool,
    size: tuple[int, int],
    expected: bool,
) -> None:
    stream = Terminal() if terminal else io.StringIO()
    console = Console(file=stream, width=size[0], height=size[1], _environ=environment)
    assert wants_dashboard(console, environment, plain) is expected
