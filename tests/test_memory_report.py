"""The picture of the arena: every tensor of the plan, at its place, before and after."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ondevice.cli import app

SVG = "{http://www.w3.org/2000/svg}"


def report(path: Path) -> str:
    result = CliRunner().invoke(app, ["compile", "--scheme", "last-2", "--report", str(path)])
    assert result.exit_code == 0, result.output
    return path.read_text(encoding="utf-8")


def test_a_report_shows_every_tensor_of_each_plan_within_the_arena(tmp_path: Path) -> None:
    picture = ET.fromstring(report(tmp_path / "memory.svg"))
    charts = picture.findall(f"{SVG}g")
    assert len(charts) == 3
    heights = []
    for chart in charts:
        words = [bar.findtext(f"{SVG}title") or "" for bar in chart.findall(f"{SVG}rect")]
        assert any("(input)" in line for line in words)
        assert any("(gradient)" in line for line in words)
        found = [re.search(r": (\d+) B at (\d+), steps (\d+) to (\d+)$", line) for line in words]
        ends = [int(match[1]) + int(match[2]) for match in found if match]
        assert len(ends) == len(words)
        heights.append(max(ends))
    assert heights[2] <= heights[1] <= heights[0]


def test_a_report_as_a_page_lists_the_ram_and_needs_no_other_file(tmp_path: Path) -> None:
    page = report(tmp_path / "memory.html")
    assert page.startswith("<!DOCTYPE html>")
    assert "trained parameters" in page
    assert "stack, reserved by the board" in page
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("name", ["memory.png", "memory"])
def test_a_report_of_another_kind_is_refused_before_any_work(name: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["compile", "--report", str(tmp_path / name)])
    assert result.exit_code != 0
    assert "allowed: .html, .svg" in str(result.exception)
    assert not list(tmp_path.iterdir())
