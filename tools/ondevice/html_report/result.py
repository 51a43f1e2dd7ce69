"""Section "Result": the figures of the run, each called what it is."""

from __future__ import annotations

from dataclasses import dataclass

from ondevice.events import Evaluated
from ondevice.html_report.history import History
from ondevice.html_report.numbers import decimal, percent, size, whole


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: Key of summary.json.
        text: Its value.
    """

    name: str
    text: str


@dataclass(frozen=True)
class Tile:
    """A figure that stands out, or two of the same before and after.

    Attributes:
        title: What it is.
        figures: One; or before and after.
        note: How it was found.
    """

    title: str
    figures: tuple[Figure, ...]
    note: str


def tiles(history: History) -> list[Tile]:
    """Returns what was measured, planned and counted; what is unknown is left out."""
    return [
        tile
        for tile in (
            *_quality(history),
            *_memory(history),
            _flash(history),
            _count(history),
            _steps(history),
        )
        if tile is not None
    ]


def _quality(history: History) -> list[Tile]:
    before, after = history.evaluation("before"), history.evaluation("after")
    known = [e for e in (before, after) if e is not None]
    if not known:
        return []
    board = history.started.board
    note = f"{known[0].samples:,} held-out samples, measured on {board}"
    made = [
        Tile("Loss", _pair("loss", before, after, [decimal(e.loss) for e in known]), note),
    ]
    if known[0].accuracy is not None:
        shares = [percent(e.accuracy) for e in known]
        made.insert(0, Tile("Accuracy", _pair("accuracy", before, after, shares), note))
    return made


def _pair(
    name: str, before: Evaluated | None, after: Evaluated | None, texts: list[str]
) -> tuple[Figure, ...]:
    names = [f"{name}_before"] * (before is not None) + [f"{name}_after"] * (after is not None)
    return tuple(Figure(*item) for item in zip(names, texts, strict=True))


def _memory(history: History) -> list[Tile | None]:
    memory, summary = history.manifest["memory"], history.summary or {}
    arena: tuple[Figure, ...] = (Figure("arena_planned_bytes", size(int(memory["arena_bytes"]))),)
    note = "planned by the compiler"
    measured = summary.get("arena_measured_bytes")
    if measured is None and history.telemetry:
        measured = history.telemetry[-1].arena_high_water_bytes
    if measured:
        arena += (Figure("arena_measured_bytes", size(measured)),)
        note = "planned by the compiler / touched on the device, as measured"
    whole_model = (Figure("ram_bytes", size(int(memory["ram_bytes"]))),)
    tiles = [
        Tile("RAM of the model", whole_model, "planned: arena, parameters, optimiser state"),
        Tile("RAM: arena", arena, note),
    ]
    if summary.get("stack_measured_bytes"):
        stack = [
            Figure(key, size(summary[key]))
            for key in ("stack_reserved_bytes", "stack_measured_bytes")
            if summary.get(key)
        ]
        tiles.append(
            Tile("RAM: stack", tuple(stack), "reserved by the board / touched, as measured")
        )
    return [*tiles]


def _flash(history: History) -> Tile | None:
    flash = (history.summary or {}).get("flash_bytes")
    if flash is None:
        return None
    return Tile("Flash", (Figure("flash_bytes", size(flash)),), "firmware with the model, as built")


def _count(history: History) -> Tile | None:
    unit, counts = history.started.counter, history.counts
    if not unit or not len(counts):
        return None
    who = "the simulator" if unit == "instructions" else "the board's cycle counter"
    note = f"mean of {len(counts):,} steps, counted by {who}"
    title = f"{unit.capitalize()} a training step"
    return Tile(title, (Figure("count_per_step", whole(float(counts.mean()))),), note)


def _steps(history: History) -> Tile:
    total, samples = history.started.total_steps, history.started.samples
    summary = history.summary or {}
    seen = history.trained[-1].step if history.trained else 0
    done = int(summary.get("steps", seen))
    note = f"of {total:,} planned, one sample each, from {samples:,}"
    for key, name in (("rollbacks", "rollbacks"), ("reconnects", "times reconnected")):
        if summary.get(key):
            note += f"; {name}: {summary[key]}"
    if summary.get("training_s") is not None:
        note += f"; {summary['training_s']:,.0f} s of wall time"
    return Tile("Training steps", (Figure("steps", whole(done)),), note)
