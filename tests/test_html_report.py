"""The report of a run: what it says, what it leaves out, and what it never lets through."""

import json
import re
import sys
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice import cli
from ondevice.boards import load_board
from ondevice.environment import describe_environment
from ondevice.errors import UserError
from ondevice.events import Ended, Evaluated, Event, Started
from ondevice.html_report.axis import Axis, round_step
from ondevice.html_report.confusion import classes
from ondevice.html_report.curves import curves
from ondevice.html_report.history import load_history
from ondevice.html_report.line_chart import BUCKETS, thinned
from ondevice.html_report.operators import operators
from ondevice.html_report.page import render, write_report
from ondevice.html_report.provenance import without_private
from recorded_folder import (
    AFTER,
    OP_COUNTS,
    eventful_run,
    report_manifest,
    report_summary,
    started,
    trained,
    write_folder,
)

NOW = datetime(2026, 11, 26, 12, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "20261126-120000-toy", eventful_run(), summary=report_summary())


class Page(HTMLParser):
    """Elements in order, and the texts of those with data-figure."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.sections: list[str] = []
        self.figures: dict[str, str] = {}
        self._figure = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "section":
            self.sections.append(str(found["id"]))
        self._figure = found.get("data-figure") or ""

    def handle_data(self, data: str) -> None:
        if self._figure:
            self.figures[self._figure] = data
            self._figure = ""


def page_of(folder: Path) -> Page:
    return Page(render(load_history(folder), NOW))


def test_the_report_has_every_section_and_the_figures_of_the_run(folder: Path) -> None:
    page = page_of(folder)
    assert page.sections == [
        *("result", "curves", "classes", "memory", "operators", "health"),
        *("provenance", "settings"),
    ]
    assert page.figures == {
        "accuracy_before": "40.0 %",
        "accuracy_after": "93.3 %",
        "loss_before": "2.5000",
        "loss_after": "0.2500",
        "ram_bytes": "104 B",
        "arena_planned_bytes": "64 B",
        "arena_measured_bytes": "60 B",
        "stack_reserved_bytes": "2,048 B",
        "stack_measured_bytes": "900 B",
        "flash_bytes": "12.1 KB",
        "count_per_step": "100",
        "steps": "60",
        "requests": "180",
        "bytes_out": "4,200 B",
        "bytes_in": "1,800 B",
        "retries": "1 (0.56 % of requests)",
        "corrupt_frames": "2",
    }


def test_what_a_rollback_undid_is_no_part_of_the_curves(folder: Path) -> None:
    history = load_history(folder)
    assert [event.step for event in history.trained] == list(range(1, 61))
    assert [type(event).__name__ for event in history.incidents] == [
        *("LinkLost", "WentOn", "RolledBack"),
    ]
    section = curves(history)
    assert section is not None
    kinds = {mark.kind: mark.x for _, mark in section.charts[0].marks}
    assert kinds == {"rollback": 45, "link lost": 20}


def test_counts_of_operators_are_a_mean_of_the_steps_that_were_read(folder: Path) -> None:
    history = load_history(folder)
    assert history.operators is not None
    # 15 before the link was lost, 20 up to the rollback, 20 after it.
    assert (history.operators.steps, history.operators.total) == (55, 5500)
    section = operators(history)
    assert section is not None
    assert [operator.row.count for operator in section.operators] == list(OP_COUNTS)
    assert section.outside.count == pytest.approx(100 - sum(OP_COUNTS))
    assert [row.name for row in section.phases] == ["forward", "loss", "update"]


def test_a_resumed_run_counts_operators_of_its_newest_process_alone(tmp_path: Path) -> None:
    events = [*eventful_run(), *eventful_run()]
    history = load_history(write_folder(tmp_path, events))
    assert history.operators is not None
    assert history.operators.steps == 55


def test_recall_and_precision_follow_from_the_last_matrix(folder: Path) -> None:
    section = classes(load_history(folder))
    assert section is not None
    walk = section.rows[1]
    assert (walk.name, walk.samples) == ("walk", 5)
    assert walk.recall == [2 / 5, 4 / 5]
    assert walk.precision == [2 / 8, 4 / 4]
    assert section.rows[2].precision == [None, 5 / 6]  # nothing was taken for it before
    assert section.pairs == [("walk", "run", 1)]
    assert section.matrices[1].counts == [list(row) for row in AFTER]


def test_too_many_classes_have_a_table_instead_of_a_matrix(tmp_path: Path) -> None:
    wide = tuple(tuple(int(i == j) for j in range(40)) for i in range(40))
    measured = Evaluated("after", 1, 40, 40, 1.0, 0.1, wide)
    events: list[Event] = [started(), trained(1), measured]
    text = render(load_history(write_folder(tmp_path, events)), NOW)
    assert "40 classes are too many" in text
    assert 'class="matrix"' not in text
    assert len(text) < 150_000


def test_a_run_of_an_older_version_has_a_report_without_what_it_did_not_record(
    tmp_path: Path,
) -> None:
    folder = write_folder(tmp_path, [])
    start = {
        **{"event": "start", "model_id": "00", "model": "toy", "board": "b", "dtype": "int8"},
        **{"scheme": "full", "samples": 5, "test_samples": 5, "total_steps": 2, "seed": 0},
        **{"learning_rate": 0.1, "counter": "", "planned_ram_bytes": 104},
    }
    step = {
        **{"event": "step", "epoch": 1, "sample": 0, "learning_rate": 0.1, "loss": 1.0},
        **{"correct": True, "count": None},
    }
    measured = {"moment": "before", "step": 0, "samples": 5, "correct": 1, "accuracy": 0.2}
    records = [
        start,
        {"event": "evaluate", **measured, "loss": 2.0},
        {**step, "step": 1},
        {**step, "step": 2},
        {"event": "end", "step": 2, "interrupted": False},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    manifest = report_manifest(ops=[{"name": "forward/fc"}])
    del manifest["memory"]["tensors"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert page_of(folder).sections == ["result", "curves", "memory", "provenance", "settings"]


def test_a_regression_has_no_accuracy_and_no_classes(tmp_path: Path) -> None:
    manifest = report_manifest(label={"kind": "target", "count": 1, "dtype": "float32", "bytes": 4})
    events: list[Event] = [
        started(class_names=()),
        Evaluated("before", 0, 15, 0, None, 2.5),
        *(trained(step) for step in range(1, 5)),
        Evaluated("after", 4, 15, 0, None, 0.5),
        Ended(4, False),
    ]
    page = page_of(write_folder(tmp_path, events, manifest))
    assert "classes" not in page.sections
    assert "accuracy_before" not in page.figures
    titles = [attrs["id"] for tag, attrs in page.tags if tag == "title" and "id" in attrs]
    assert titles == ["loss-title", "rate-title", "counts-title", "arena-title"]


def test_a_run_that_was_cut_off_says_so_and_shows_what_is_known(tmp_path: Path) -> None:
    events = eventful_run()[:30]
    folder = write_folder(tmp_path, events)
    whole = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(whole + '{"event": "st')  # the last line was cut
    text = render(load_history(folder), NOW)
    assert "did not come to its end" in text
    assert Page(text).figures["accuracy_before"] == "40.0 %"
    assert "accuracy_after" not in Page(text).figures


def test_losses_that_are_no_numbers_are_left_out_of_the_curve(tmp_path: Path) -> None:
    steps = [replace(trained(step), loss=float("inf")) for step in (1, 2, 3)]
    measured = Evaluated("before", 0, 15, 6, 0.4, float("nan"), None)
    events: list[Event] = [started(), measured, *steps, trained(4)]
    section = curves(load_history(write_folder(tmp_path / "one", events)))
    assert section is not None
    assert [one.series.y.tolist() for one in section.charts[0].drawn] == [[1.0], [1.0]]
    assert "curves" in page_of(write_folder(tmp_path / "none", events[:-1])).sections


def test_a_run_without_a_step_has_no_curves(tmp_path: Path) -> None:
    page = page_of(write_folder(tmp_path, [started()]))
    assert page.sections == ["result", "memory", "provenance", "settings"]


HOSTILE = (
    "</td><script>alert('x')</script><img src=https://evil.example/a.png onerror=alert(1)>\"'&"
)


def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    manifest = report_manifest(name=HOSTILE)
    manifest["ops"][0] |= {"name": HOSTILE, "layer": HOSTILE, "op": HOSTILE}
    manifest["memory"]["tensors"][0]["name"] = HOSTILE
    events = [
        replace(event, model=HOSTILE, board=HOSTILE, class_names=(HOSTILE, "a", "b"))
        if isinstance(event, Started)
        else event
        for event in eventful_run()
    ]
    config = f"[model]\nfile = {json.dumps(HOSTILE)}\n"
    text = render(load_history(write_folder(tmp_path, events, manifest, config=config)), NOW)
    assert "evil.example" in text  # it is shown
    tags = Page(text).tags
    assert [tag for tag, _ in tags].count("script") == 1
    assert "img" not in {tag for tag, _ in tags}
    assert not [name for _, attrs in tags for name in attrs if name.startswith("on")]
    # Nor is anything a break-out of the style or the script that are ours.
    assert re.findall(r"<script>\s*(.{12})", text) == ['"use strict"']


def test_the_page_names_no_address_of_anybody(folder: Path) -> None:
    text = render(load_history(folder), NOW)
    assert not re.search(r"https?:|url\(|@import", text)
    for tag, attrs in Page(text).tags:
        assert tag not in ("link", "img", "iframe", "object"), tag
        assert "src" not in attrs
        assert str(attrs.get("href", "#")).startswith("#")


def test_paths_lose_the_persons_name_and_addresses_their_password() -> None:
    text = (
        'file = "/home/ada/nets/a.onnx"\nother = "/home/adalbert/b.npz"\n'
        'mlflow = "https://ada:secret@server:5000"'
    )
    assert without_private(text, Path("/home/ada")) == (
        'file = "~/nets/a.onnx"\nother = "/home/adalbert/b.npz"\nmlflow = "https://...@server:5000"'
    )
    assert without_private("/root/x", Path("/")) == "/root/x"


def test_the_environment_names_versions_but_neither_person_nor_computer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.node", lambda: "adas-laptop")
    monkeypatch.setenv("USER", "ada")
    found = describe_environment(load_board("host"), NOW)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert re.fullmatch(r"\d+\.\d+.*", found["programs"]["gcc"])
    assert found["packages"]["numpy"] == np.__version__
    assert "ada" not in json.dumps(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no metrics.jsonl there; give the folder of a run"),
        ("", "the run had not begun"),
        ("{}\n", "damaged: no event of a run"),
        ("[1]\n", "damaged"),
        ("not json\n", "damaged"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        write_folder(tmp_path, [])
        (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        load_history(tmp_path)


def test_the_verb_writes_the_page_where_it_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []

    def browse(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", browse)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["ondevice", "report", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    assert run(str(folder)) == 0
    assert run(str(folder), "-o", str(folder / "other.html"), "--open") == 0
    assert (folder / "other.html").read_text().startswith("<!DOCTYPE html>")
    assert (folder / "report.html").is_file()
    assert opened == [(folder / "other.html").as_uri()]
    capsys.readouterr()
    assert run(str(folder), "-o", "x.pdf") == 1
    assert "--output x.pdf: a report is an HTML file" in capsys.readouterr().err


def test_a_long_run_has_a_small_report(tmp_path: Path) -> None:
    steps = [trained(step) for step in range(1, 20_001)]
    folder = write_folder(tmp_path, [started(total_steps=20_000), *steps])
    assert write_report(folder, now=NOW).stat().st_size < 150_000


@given(st.integers(2, 5000), st.integers(0, 2**32 - 1))
def test_a_thinned_curve_keeps_its_ends_and_its_extremes(length: int, seed: int) -> None:
    x = np.arange(length, dtype=np.float64)
    y = np.random.default_rng(seed).normal(size=length)
    thin_x, thin_y = thinned(x, y)
    assert len(thin_x) <= 2 * BUCKETS + 2
    assert (thin_x[0], thin_x[-1]) == (x[0], x[-1])
    assert (thin_y.min(), thin_y.max()) == (y.min(), y.max())
    assert np.all(np.diff(thin_x) > 0)
    assert np.array_equal(y[thin_x.astype(int)], thin_y)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.booleans())
def test_ticks_lie_within_the_axis_and_are_not_many(
    lowest: float, span: float, logarithmic: bool
) -> None:
    if logarithmic:
        lowest = abs(lowest) + 1e-6
        axis = Axis(lowest, lowest * (1 + span), 0.0, 100.0, True)
    else:
        axis = Axis(lowest, lowest + span, 0.0, 100.0)
    ticks = axis.ticks()
    assert len(ticks) <= 13
    assert all(-1e-3 <= axis.place(tick) <= 100 + 1e-3 for tick in ticks)
    assert ticks == sorted(ticks)


@pytest.mark.parametrize(
    ("least", "step"), [(0.9, 1.0), (1.0, 1.0), (1.1, 2.0), (2.5, 5.0), (7.0, 10.0), (0.012, 0.02)]
)
def test_steps_between_ticks_are_round(least: float, step: float) -> None:
    assert round_step(least) == pytest.approx(step)
