"""Lifecycle of the arena over a training step, as a picture: one bar a tensor, at its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ondevice.compiled_model import CompileRequest, analyse_model, compile_options
from ondevice.display import format_bytes
from ondevice.errors import UserError
from ondevice_compiler.atomic_file import write_bytes_atomically

if TYPE_CHECKING:
    from ondevice_compiler import CompiledModel
    from ondevice_compiler.schedule import Schedule

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 960, 260, 70, 28, 34
COLOURS = {
    "input": "#4c72b0",
    "activation": "#55a868",
    "mask": "#8172b3",
    "statistic": "#937860",
    "gradient": "#c44e52",
}
MEMORY = {
    "arena": "arena_bytes",
    "trained parameters": "parameter_bytes",
    "optimiser state": "state_bytes",
    "gradient scales": "scale_bytes",
    "label and output": "io_bytes",
}


@dataclass(frozen=True)
class Bar:
    """A tensor in the arena.

    Attributes:
        name, kind: Of the tensor.
        offset, size_bytes: Where it lies.
        first, last: Steps between which it lives, both included.
    """

    name: str
    kind: str
    offset: int
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Chart:
    """The arena of one plan.

    Attributes:
        title: What was done to save memory.
        arena_bytes: Height.
        bars: Tensors.
        steps: Names, in order.
        backward: First step that is not of the forward pass.
    """

    title: str
    arena_bytes: int
    bars: tuple[Bar, ...]
    steps: tuple[str, ...]
    backward: int


def chart(title: str, planned: Schedule) -> Chart:
    """The chart of a planned training step."""
    program, plan = planned.program, planned.plan
    bars = tuple(
        Bar(
            name,
            program.tensor(name).kind,
            place.offset,
            place.interval.size_bytes,
            place.interval.first,
            place.interval.last,
        )
        for name, place in plan.placements.items()
    )
    phases = [step.phase for step in program.steps]
    backward = next((i for i, phase in enumerate(phases) if phase != "forward"), len(phases))
    names = tuple(step.name for step in program.steps)
    return Chart(title, plan.arena_bytes, bars, names, backward)


def check_report_name(path: Path) -> None:
    """Refuses a kind of file that no report is written as, before any work."""
    if path.suffix not in (".html", ".svg"):
        raise UserError(f"--report {path}: unknown kind of file; allowed: .html, .svg")


def compile_with_charts(request: CompileRequest) -> tuple[CompiledModel, list[Chart]]:
    """Compiles a model, and plans it without what saves memory beside it."""
    from ondevice_compiler.compile import generate, plan_scheme

    options, analysis = compile_options(request), analyse_model(request)
    plain = replace(options, reorder=False, in_place=False, patch=False)
    planned = {
        "Steps as autodiff gives them": plan_scheme(analysis, plain),
        "Reordered": plan_scheme(analysis, replace(plain, reorder=options.reorder)),
        "As compiled: reordered, in place, band by band": plan_scheme(analysis, options),
    }
    charts = [chart(title, schedule) for title, schedule in planned.items()]
    return generate(analysis, list(planned.values())[-1], options), charts


def write_report(
    path: Path, charts: Sequence[Chart], manifest: dict[str, Any], stack_bytes: int
) -> None:
    """Writes the charts, all to one scale; with a table of the model's RAM if it is HTML.

    Args:
        path: Ends in .html or .svg.
        charts: In the order in which they are shown.
        manifest: Of the compiled model.
        stack_bytes: Reserved by the board; 0: unknown.
    """
    picture = _picture(charts)
    text = picture if path.suffix == ".svg" else _page(picture, manifest, stack_bytes)
    write_bytes_atomically(path, text.encode())


def _picture(charts: Sequence[Chart]) -> str:
    tallest = max(max(chart.arena_bytes for chart in charts), 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT * len(charts)}" '
        'font-family="sans-serif" font-size="12">'
    ]
    for number, one in enumerate(charts):
        parts.append(f'<g transform="translate(0 {number * HEIGHT})">')
        parts += _drawn(one, tallest)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _drawn(one: Chart, tallest: int) -> list[str]:
    height, width = HEIGHT - TOP - BOTTOM, WIDTH - LEFT - 10
    columns = len(one.steps) + 1  # The first is the time before the step, when the input comes.

    def x(step: int) -> float:
        return round(LEFT + (step + 1) * width / columns, 2)

    def y(size_bytes: int) -> float:
        return round(TOP + height - size_bytes * height / tallest, 2)

    title = f"{one.title}: arena {format_bytes(one.arena_bytes)}"
    parts = [f'<text x="{LEFT}" y="18" font-weight="bold">{escape(title)}</text>']
    for bar in one.bars:
        end = x(bar.last + 1)
        steps = f"steps {max(bar.first, 0)} to {bar.last}"
        words = f"{bar.name} ({bar.kind}): {bar.size_bytes} B at {bar.offset}, {steps}"
        parts.append(
            f'<rect x="{x(bar.first)}" y="{y(bar.offset + bar.size_bytes)}" '
            f'width="{round(end - x(bar.first), 2)}" '
            f'height="{round(y(bar.offset) - y(bar.offset + bar.size_bytes), 2)}" '
            f'fill="{COLOURS.get(bar.kind, "#888")}" fill-opacity="0.75" stroke="white" '
            f'stroke-width="0.4"><title>{escape(words)}</title></rect>'
        )
    for size in (0, one.arena_bytes):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y(size)}" y2="{y(size)}" stroke="black"/>'
            f'<text x="{LEFT - 6}" y="{y(size) + 4}" text-anchor="end">{format_bytes(size)}</text>'
        )
    middle = x(one.backward)
    parts.append(
        f'<line x1="{middle}" x2="{middle}" y1="{TOP}" y2="{TOP + height}" stroke="black" '
        'stroke-dasharray="4 3"/>'
    )
    below = TOP + height + 16
    words = f"{len(one.steps)} steps; forward pass left of the dashed line, backward right of it"
    parts.append(f'<text x="{LEFT}" y="{below}">{words}</text>')
    return parts


def _page(picture: str, manifest: dict[str, Any], stack_bytes: int) -> str:
    memory = manifest["memory"]
    rows = [(name, int(memory[key])) for name, key in MEMORY.items()]
    rows.append(("model in all", int(memory["ram_bytes"])))
    if stack_bytes:
        rows.append(("stack, reserved by the board", stack_bytes))
        rows.append(("in all, without the runtime's session", sum(r[1] for r in rows[-2:])))
    cells = "\n".join(
        f"<tr><td>{name}</td><td align='right'>{size:,} B</td></tr>" for name, size in rows
    )
    legend = " ".join(
        f'<span style="color:{colour}">&#9632;</span> {kind}' for kind, colour in COLOURS.items()
    )
    scheme = escape(str(manifest["scheme"]["name"]))
    title = f"{escape(str(manifest['name']))}: {manifest['dtype']}, update {scheme}"
    return (
        f"<!DOCTYPE html>\n<html><head><meta charset='utf-8'><title>{title}</title></head>\n"
        f"<body style='font-family: sans-serif'>\n<h1>{title}</h1>\n"
        f"<table>\n{cells}\n</table>\n<p>{legend}; point at a bar for its tensor.</p>\n"
        f"{picture}</body></html>\n"
    )
