"""What the documents show of the Python API runs as written: docs/python.md and the notebook."""

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "python.md"
NOTEBOOK = ROOT / "examples" / "adapt.ipynb"


def test_the_blocks_of_the_page_run_in_order_on_the_simulated_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch").manual_seed(0)
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    first = [line for line in blocks[0].splitlines() if line]
    assert len(first) <= 11, "ten lines, and one that goes on"
    known: dict[str, Any] = {}
    for number, block in enumerate(blocks):
        # Blank lines in front keep the page's own line numbers in a traceback.
        lines_before = text[: text.index(block)].count("\n")
        exec(compile("\n" * lines_before + block, f"{PAGE.name} block {number}", "exec"), known)
    step, run, measured = known["step"], known["run"], known["measured"]
    assert known["model"].config.device.board == "qemu_f405"
    assert step.count > 8 * 10_000, "instructions of the simulator"
    assert known["model"].fits("nucleo_f446re")
    assert measured.confusion.sum() == measured.samples == 48
    assert run.after.accuracy > max(run.before.accuracy, 0.5)
    assert abs(known["right"].mean() - run.after.accuracy) <= 2 / 48
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (run.path / "report.html").is_file()
    assert "'lats'" in capsys.readouterr().out.splitlines()[-1]


def test_the_notebook_runs_and_shows_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'compiler'}:{ROOT / 'tools'}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "kept without outputs"
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    shown = {
        cell.source.splitlines()[-1]: [output.get("data", {}) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    assert any(
        "operators of a training step" in data.get("text/html", "") for data in shown["model"]
    )
    (run,) = [
        data["text/html"] for data in shown["run"] if "image/png" in data.get("text/html", "")
    ]
    assert run.count("<img") == 2
    assert any("step 448 of 448" in data.get("text/html", "") for data in shown["run"])
    assert any(data.get("image/png") for data in shown["run.plot()"])
    assert any(
        "true \\ predicted" in data.get("text/html", "") for data in shown["board.evaluate()"]
    )
