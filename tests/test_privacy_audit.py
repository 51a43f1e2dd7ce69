"""`ondevice privacy audit` as a command: its results, and what it says of mistakes."""

from __future__ import annotations

import html
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from ondevice.cli import app
from ondevice.config import Config
from ondevice.errors import UserError
from ondevice.privacy.results import Audit, AuditSettings, Row
from ondevice.privacy.scenarios import quick_scenarios
from ondevice.privacy.score import Score
from ondevice.privacy.subject import Subject, built_in_subject, watch_network
from ondevice.privacy.verdict import verdict

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small network and its data."""
    folder = Path(tmp_path_factory.mktemp("project"))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(25, 12), nn.Sigmoid(), nn.Linear(12, 3))
    example = (torch.zeros(1, 1, 5, 5),)
    torch.export.save(torch.export.export(network.eval(), example), folder / "net.pt2")
    x = np.random.default_rng(0).uniform(0, 1, (40, 1, 5, 5)).astype(np.float32)
    y = np.arange(40) % 3
    np.savez(folder / "data.npz", x=x[:30], y=y[:30], x_test=x[30:], y_test=y[30:])
    return folder


def audit(folder: Path, *more: str) -> Any:
    words = ["privacy", "audit", "--model", str(folder / "net.pt2")]
    words += ["--data", str(folder / "data.npz"), "--build-dir", str(folder / "build")]
    words += ["--output", str(folder / "runs"), "--quick", "--iterations", "60", *more]
    return RUNNER.invoke(app, words, catch_exceptions=False)


def test_an_audit_recovers_the_input_and_the_same_seed_writes_the_same_bytes(
    project: Path,
) -> None:
    first = audit(project, "--json")
    assert first.exit_code == 0, first.output
    records = [json.loads(line) for line in first.stdout.splitlines() if line.startswith("{")]
    base = records[0]
    assert (base["name"], base["labels_recovered"]) == ("float32", 1.0)
    assert base["recognisable"] == 2
    assert records[-1]["event"] == "verdict"
    folder = Path(records[-1]["folder"])
    for name in ("reconstructions-1.png", "sweeps.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    page = html.unescape((folder / "audit.html").read_text())
    assert all(sentence in page for sentence in records[-1]["sentences"])
    again = audit(project)
    assert again.exit_code == 0
    assert "recognisable" in again.output
    folders = sorted((project / "runs").iterdir())
    contents = {(path / "audit.json").read_bytes() for path in folders}
    assert len(folders) == 2
    assert len(contents) == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--model": "net.onnx"}, "needs a .pt2 file"),
        ({"--model": "none.pt2"}, "no such model"),
        ({"--data": "none.npz"}, "none.npz"),
        ({"--samples": "1000"}, "1000 private samples are asked for; the data has 30"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_mistake_is_told_by_what_it_was(
    project: Path, changed: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    (project / "net.onnx").write_bytes(b"no model")
    words = {"--model": "net.pt2", "--data": "data.npz", **changed}
    result = RUNNER.invoke(
        app, ["privacy", "audit", "--quick", *(word for pair in words.items() for word in pair)]
    )
    assert isinstance(result.exception, UserError)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize("words", [("--attack", "magic"), ("--samples", "0"), ("--batch", "0")])
def test_a_value_that_no_option_takes_is_a_usage_error(words: tuple[str, str]) -> None:
    assert RUNNER.invoke(app, ["privacy", "audit", *words]).exit_code == 2


def invented(recognisable: dict[str, int]) -> Audit:
    """An audit of the quick rows with these results, of 4 samples."""
    rows = []
    for scenario in quick_scenarios():
        good = recognisable.get(scenario.name, 0)
        scores = [Score(0.1, 10.0, 0.5, i < good, i < good) for i in range(4)]
        found = np.zeros((4, 1, 5, 5), np.float32)
        rows.append(Row(scenario, "idlg", tuple(scores), 1.0, 0.0, 0, 1.0, 0.02, 1, found))
    blank = np.zeros((4, 1, 5, 5), np.float32)
    subject: Any = None  # no sentence names it
    four = np.zeros(4, np.int64)
    return Audit(
        subject, AuditSettings(), (0, 1, 2, 3), blank, four, np.ones(4), tuple(rows), (), False
    )


def test_the_verdict_follows_the_figures() -> None:
    leaking = {"float32": 4, "int8": 3, "gaussian-0.0001": 4, "prune-0.5": 2}
    text = "\n".join(verdict(invented({**leaking, "prune-0.5-sent": 4, "prune-0.9-sent": 1})))
    assert "gives the input away: 4 of 4" in text
    assert "int8, full (3 of 4)" in text
    assert "from 90 % sparsity on no sample is recognisable; at 50 % 2 of 4 still are" in text
    assert "from 99 % sparsity on no sample is recognisable; at 90 % 1 of 4 still are" in text
    assert "variance up to 0.0001 (2 % of the gradient's power) does not defend" in text
    harmless = "\n".join(verdict(invented({})))
    assert "did not give the input away" in harmless
    assert "none is recognisable from 50 % on" in harmless
    assert "does not defend" not in harmless
    assert "even at 99 %" in "\n".join(verdict(invented({"prune-0.99": 1})))


def test_the_demos_network_in_torch_computes_what_its_onnx_file_does() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from ondevice.sources import demo_model

    x = np.random.default_rng(0).normal(size=(1, 6, 100)).astype(np.float32)
    expected = onnxruntime.InferenceSession(demo_model()).run(None, {"x": x})[0]
    found = watch_network().eval()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_digits_come_with_their_network(tmp_path: Path) -> None:
    subject = built_in_subject("digits", Config(), tmp_path)
    assert subject.data.x.shape[1:] == (1, 16, 16)
    assert 0.0 <= subject.data.x.min() < subject.data.x.max() <= 1.0
    assert subject.file.suffix == ".pt2"
    assert replace(subject, name="other") != subject
    assert isinstance(subject, Subject)
