"""What updates give away: the audit of three networks, for docs/privacy.md.

    make privacy

Eight private samples of the first, four of the others. Finished parts are kept in build/privacy, so
that an interrupted study goes on; --fresh begins again. Writes figures and pictures of the page.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from adaptation import BUILD, ROOT

from ondevice.config import Config
from ondevice.privacy.audit import run_audit
from ondevice.privacy.network import AttackedModule
from ondevice.privacy.pictures import side_by_side, sweep_curves
from ondevice.privacy.results import Audit, AuditSettings, Row
from ondevice.privacy.scenarios import Group, Scenario, all_scenarios
from ondevice.privacy.score import Judge
from ondevice.privacy.subject import SubjectName, built_in_subject
from ondevice.privacy.table import HEADER, cells
from ondevice.privacy.verdict import best_of, verdict
from ondevice_compiler.atomic_file import write_bytes_atomically, write_text_atomically

PAGE = ROOT / "docs" / "privacy.md"
IMAGES = ROOT / "docs" / "images"
START, END = "<!-- made by `make privacy` -->\n", "<!-- end -->\n"
SAMPLES: dict[SubjectName, int] = {"digits": 8, "digits-relu": 4, "watch": 4}
RESTARTS: dict[Group, int] = {"device": 2}  # elsewhere one search
BATCHES = (4, 8)

GROUPS: tuple[Group, ...] = ("device", "batch", "compression", "dp", "noise", "pruning")
SUBJECTS: dict[SubjectName, tuple[str, tuple[Group, ...]]] = {
    "digits": ("DLG's LeNet with sigmoids, untrained, digits of 16x16", GROUPS),
    "digits-relu": (
        "a network with ReLU and max pools, untrained, the same digits",
        ("device", "compression"),
    ),
    "watch": (
        "the demo's pretrained network, windows of 6 axes x 100 samples",
        ("device",),
    ),
}
SHOWN = (  # rows of the pictures
    "float32",
    "int8",
    "int8-last-2",
    "int8-last",
    "int8-sparse",
    "int8-batch8",
    "topk0.1-sent",
    "topk0.01-sent",
    "coded-ternary",
    "coded-sign",
    "dp0.001",
    "dp0.01",
    "gaussian-0.001",
    "gaussian-0.01",
    "prune-0.5",
    "prune-0.9",
    "prune-0.9-sent",
    "prune-0.99-sent",
)
COLUMNS = len(HEADER) - 1  # all but the last


def measured(name: SubjectName, groups: Sequence[Group], fresh: bool) -> Audit:
    """The audit of a subject, part by part."""
    subject = built_in_subject(name, Config(), BUILD)
    module = AttackedModule.load(subject.file)
    scenarios = all_scenarios(module.arrangement, BATCHES, BUILD)
    whole: Audit | None = None
    for group in groups:
        chosen = [scenario for scenario in scenarios if scenario.group == group]
        if not chosen:
            continue
        path = BUILD / "privacy" / f"{name}-{group}.pickle"
        if path.is_file() and not fresh:
            part: Audit = pickle.loads(path.read_bytes())
        else:

            def say(scenario: Scenario) -> None:
                print(f"{datetime.now():%H:%M:%S} {name}: {scenario.title}", flush=True)

            settings = AuditSettings(samples=SAMPLES[name], restarts=RESTARTS.get(group, 1))
            part = run_audit(subject, module, chosen, settings, BUILD, on_start=say)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomically(path, pickle.dumps(part))
        part = _judged(part)
        whole = part if whole is None else _joined(whole, part)
    assert whole is not None
    return whole


def _judged(audit: Audit) -> Audit:
    """With scores of today's definitions; what was found is kept."""
    data = audit.subject.data
    judge = Judge.of(data.x, data.y, audit.chosen)
    rows = [
        replace(row, scores=tuple(judge.score(x, which) for which, x in enumerate(row.found)))
        for row in audit.rows
    ]
    return replace(audit, rows=tuple(rows), typical_mse=judge.typical_mse)


def _joined(first: Audit, second: Audit) -> Audit:
    return replace(
        first,
        rows=(*first.rows, *second.rows),
        left_out=(*first.left_out, *second.left_out),
    )


def lines(name: SubjectName, title: str, audit: Audit) -> Iterator[str]:
    """The page's section of a subject."""
    yield f"### {name}: {title}"
    yield ""
    for sentence in verdict(audit)[:-1]:
        yield f"* {sentence}"
    yield ""
    yield f"![{name}: private samples and what was made of updates](images/privacy-{name}.png)"
    yield ""
    if sweep_curves(audit) is not None:
        yield f"![{name}: error over sparsity and over noise](images/privacy-{name}-sweeps.png)"
        yield ""
    yield f"| {' | '.join(HEADER[:COLUMNS])} |"
    yield f"|{'---|' * COLUMNS}"
    for row in _tabled(audit):
        yield f"| {' | '.join(cells(row)[:COLUMNS])} |"
    for left_out, why in audit.left_out:
        yield ""
        yield f"Left out: {left_out}: {why}"
    yield ""


def _tabled(audit: Audit) -> list[Row]:
    """All attacks on the first row, of the others the one that recovered most."""
    base = [row for row in audit.rows if row.scenario.name == "float32"]
    return [*base, *(row for row in best_of(audit.rows) if row.scenario.name != "float32")]


def draw(name: SubjectName, audit: Audit) -> None:
    """The pictures of a subject."""
    best = {row.scenario.name: row for row in best_of(audit.rows)}
    shown = [best[row] for row in SHOWN if row in best]
    IMAGES.mkdir(parents=True, exist_ok=True)
    picture = side_by_side(audit, shown)
    dots = 45 if audit.private.ndim < 4 else 70  # series are drawn twice as wide
    write_bytes_atomically(IMAGES / f"privacy-{name}.png", picture.png(dots))
    curves = sweep_curves(audit)
    if curves is not None:
        write_bytes_atomically(IMAGES / f"privacy-{name}-sweeps.png", curves.png(80))


def main() -> int:
    """Measures what is missing and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    text: list[str] = []
    for name, (title, groups) in SUBJECTS.items():
        audit = measured(name, groups, arguments.fresh)
        draw(name, audit)
        text += lines(name, title, audit)
    before, _, rest = arguments.page.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    write_text_atomically(arguments.page, before + START + "\n".join(text) + "\n" + END + after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
