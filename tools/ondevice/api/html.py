"""Models, evaluations and runs as HTML for a notebook's cells."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment

from ondevice.display import format_bytes

if TYPE_CHECKING:
    from ondevice.api.model import Model
    from ondevice.api.results import Evaluation
    from ondevice.api.run import Run

_TABLE = """{% macro table(head, rows) -%}
<table><thead><tr>{% for cell in head %}<th>{{ cell }}</th>{% endfor %}</tr></thead><tbody>
{%- for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor -%}
</tbody></table>{%- endmacro %}"""

_MODEL = (
    _TABLE
    + """<div><b>{{ title }}</b>{{ table(["", "takes", "of"], needs) }}
<details><summary>{{ ops | length }} operators of a training step</summary>
{{ table(["operator", "phase", "MACs", "reads", "writes"], ops) }}</details></div>"""
)

_EVALUATION = (
    _TABLE
    + """<div><b>{{ words }}</b>
{% if rows %}{{ table(head, rows) }}{% endif %}</div>"""
)

_RUN = (
    _TABLE
    + """<div><b>{{ title }}</b>{{ table(["", "before", "after"], figures) }}
{% for picture in pictures %}<img src="data:image/png;base64,{{ picture }}">{% endfor %}</div>"""
)

_ENVIRONMENT = Environment(autoescape=True)
_TEMPLATES = {
    name: _ENVIRONMENT.from_string(text)
    for name, text in (("model", _MODEL), ("evaluation", _EVALUATION), ("run", _RUN))
}


def model_html(model: Model) -> str:
    """RAM and flash against the board it was compiled for, and the operators."""
    manifest, budget = model.manifest, model.budget()
    board = model.config.device.board or ""

    def of(limit_bytes: int | None) -> str:
        return "" if limit_bytes is None else f"{format_bytes(limit_bytes)} of {board}"

    memory = manifest["memory"]
    parts = ("arena", "parameter", "state", "scale")
    needs = [("RAM", format_bytes(model.ram_bytes), of(budget.ram_limit_bytes))]
    needs += [(f"... {part}", format_bytes(int(memory[f"{part}_bytes"])), "") for part in parts]
    needs += [("flash, constants", format_bytes(model.flash_bytes), of(budget.board_flash_bytes))]
    ops = [
        (
            op["name"],
            op["phase"],
            f"{op['macs']:,}",
            format_bytes(int(op.get("read_bytes", 0))),
            format_bytes(int(op.get("written_bytes", 0))),
        )
        for op in manifest["ops"]
    ]
    title = f"{manifest['name']} ({manifest['dtype']}, update {manifest['scheme']['name']})"
    return _render("model", title=title, needs=needs, ops=ops)


def evaluation_html(evaluation: Evaluation) -> str:
    """Accuracy, loss and confusion."""
    accuracy = _percent(evaluation.accuracy)
    words = f"{accuracy + ' right, ' if accuracy else ''}loss {evaluation.loss:.4f}, "
    words += f"{evaluation.samples} samples"
    confusion = evaluation.confusion
    if confusion is None:
        return _render("evaluation", words=words, rows=())
    count = len(confusion)
    names = evaluation.class_names if len(evaluation.class_names) == count else range(count)
    rows = [(name, *row.tolist()) for name, row in zip(names, confusion, strict=True)]
    return _render("evaluation", words=words, head=["true \\ predicted", *names], rows=rows)


def run_html(run: Run) -> str:
    """Figures, curves and confusion."""
    before, after = run.before, run.after
    figures = [
        ("accuracy", *(_percent(e.accuracy) if e else "" for e in (before, after))),
        ("loss", *(f"{e.loss:.4f}" if e else "" for e in (before, after))),
    ]
    counts = run.counts[run.counts > 0]
    if len(counts):
        unit = run.summary.get("counter") or "ticks"
        figures.append((f"{unit} a step", "", f"{counts.mean():,.0f}"))
    if run.summary:
        figures.append(("RAM of the model", "", format_bytes(run.summary["ram_bytes"])))
    pictures = []
    if not np.isnan(run.losses).all():
        pictures.append(run.plot())
    if after is not None and after.confusion is not None:
        pictures.append(after.plot())
    state = ", interrupted" if run.interrupted else ""
    return _render(
        "run",
        title=f"{run.path}: {run.steps} steps{state}",
        figures=figures,
        pictures=[base64.b64encode(picture.png(80)).decode() for picture in pictures],
    )


def _render(name: str, **values: Any) -> str:
    text: str = _TEMPLATES[name].render(**values)
    return text


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
