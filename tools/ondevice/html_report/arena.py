"""Section "Memory": the arena over a training step, a tensor a bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ondevice.html_report.axis import Axis
from ondevice.html_report.history import History
from ondevice.html_report.numbers import size

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1080, 340, 74, 10, 10, 46
KINDS = {  # of the compiler -> colour class of style.css
    "input": "c1",
    "activation": "c3",
    "mask": "c4",
    "statistic": "c5",
    "gradient": "c2",
}
_CHARACTER = 6.4  # pixels, about, of a name in a bar


@dataclass(frozen=True)
class Bar:
    """One tensor.

    Attributes:
        x, y, width, height: In pixels.
        colour: Class of style.css.
        words: What it is.
        name: Written into it; empty where there is no room.
    """

    x: float
    y: float
    width: float
    height: float
    colour: str
    words: str
    name: str


@dataclass(frozen=True)
class Arena:
    """The section's picture.

    Attributes:
        words: What it shows, for those who do not see it.
        bars: Tensors.
        kinds: Of tensors, with their colours, for the legend.
        y_ticks: Places and sizes.
        x_ticks: Places and numbers of steps.
        backward: Where the forward pass ends; None: unknown.
    """

    words: str
    bars: tuple[Bar, ...]
    kinds: tuple[tuple[str, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_ticks: tuple[tuple[float, str], ...]
    backward: float | None

    width, height, left, bottom = WIDTH, HEIGHT, LEFT, HEIGHT - BOTTOM
    right, top = WIDTH - RIGHT, TOP


def arena(history: History) -> Arena | None:
    """Lays the picture out; None where the manifest has no plan."""
    memory = history.manifest["memory"]
    tensors: list[dict[str, Any]] = memory.get("tensors") or []
    total = int(memory["arena_bytes"])
    if not tensors or total == 0:
        return None
    last = max(int(tensor["last_step"]) for tensor in tensors)
    # Column -1 is the time before the step, when the input arrives.
    x = Axis(-1.0, last + 1.0, LEFT, WIDTH - RIGHT)
    y = Axis(0.0, float(total), HEIGHT - BOTTOM, TOP)
    used = {_kind(tensor) for tensor in tensors}
    forward = _forward_steps(history.manifest["ops"], last)
    return Arena(
        words=_words(tensors, total, last),
        bars=tuple(_bar(tensor, tensors, x, y) for tensor in tensors),
        kinds=tuple((kind, colour) for kind, colour in KINDS.items() if kind in used),
        y_ticks=tuple((round(y.place(v), 1), size(int(v))) for v in _sizes(total)),
        x_ticks=tuple(
            (round(x.place(v + 0.5), 1), f"{v:.0f}") for v in x.ticks() if 0 <= v <= last
        ),
        backward=round(x.place(forward), 1) if forward is not None else None,
    )


def _sizes(total: int) -> list[float]:
    return [total * quarter / 4 for quarter in range(5)]


def _kind(tensor: dict[str, Any]) -> str:
    """The manifest's own word; older ones have none, but the compiler's names tell."""
    name = str(tensor["name"])
    guess = "gradient" if name.startswith("d.") else "mask" if name.endswith(".mask") else ""
    kind = str(tensor.get("kind") or guess or ("input" if name == "input" else "activation"))
    return kind if kind in KINDS else "activation"


def _bar(tensor: dict[str, Any], others: list[dict[str, Any]], x: Axis, y: Axis) -> Bar:
    name, count, offset = str(tensor["name"]), int(tensor["bytes"]), int(tensor["offset"])
    first, last = int(tensor["first_step"]), int(tensor["last_step"])
    left, right = x.place(first), x.place(last + 1)
    top, bottom = y.place(offset + count), y.place(offset)
    width, height = round(right - left, 1), round(max(bottom - top, 1.0), 1)
    until = f"steps {max(first, 0)} to {last}"
    words = f"{name} ({_kind(tensor)}): {count:,} B at {offset:,}, {until}"
    room = x.place(min(last + 1, _covered_from(tensor, others))) - left
    fits = height >= 14 and len(name) * _CHARACTER + 8 <= room
    colour = KINDS[_kind(tensor)]
    return Bar(round(left, 1), round(top, 1), width, height, colour, words, name if fits else "")


def _covered_from(tensor: dict[str, Any], others: list[dict[str, Any]]) -> int:
    """The step from which another tensor lies on the same bytes: it was made in place."""
    start, end = int(tensor["offset"]), int(tensor["offset"]) + int(tensor["bytes"])
    return min(
        (
            int(other["first_step"])
            for other in others
            if int(other["first_step"]) > int(tensor["first_step"])
            and int(other["offset"]) < end
            and int(other["offset"]) + int(other["bytes"]) > start
        ),
        default=2**31,
    )


def _forward_steps(ops: list[dict[str, Any]], last: int) -> int | None:
    """The number of steps of the forward pass, where operators and steps are one to one."""
    phases = [str(op.get("phase", "")) for op in ops]
    in_step = [phase for phase in phases if phase != "apply"]
    if len(in_step) != last + 1:
        return None
    return next((i for i, phase in enumerate(in_step) if phase != "forward"), None)


def _words(tensors: list[dict[str, Any]], total: int, last: int) -> str:
    biggest = max(tensors, key=lambda tensor: int(tensor["bytes"]))
    return (
        f"{len(tensors)} tensors share {size(total)} over {last + 1} steps; the biggest is "
        f"{biggest['name']} with {size(int(biggest['bytes']))}."
    )
