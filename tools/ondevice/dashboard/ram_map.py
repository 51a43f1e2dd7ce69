"""The board's RAM, and who lies where in the arena when it is fullest."""

from collections.abc import Sequence
from itertools import cycle
from string import ascii_lowercase
from typing import Any

from rich.console import Group
from rich.text import Text

from ondevice.dashboard.state import State
from ondevice.dashboard.surface import Surface
from ondevice.display import format_bytes

SMALL_SHARE = 0.015  # of all that is used; smaller parts are shown as one
Part = tuple[str, int]  # name, bytes

_PARTS = {
    "arena": "arena_bytes",
    "parameters": "parameter_bytes",
    "state": "state_bytes",
    "scales": "scale_bytes",
    "label, output": "io_bytes",
}
_LOOKS = {  # letter where there is no colour, and colour
    "arena": ("A", "#5f87ff"),
    "parameters": ("P", "#5faf5f"),
    "state": ("M", "#d7af5f"),
    "scales": ("S", "#af87d7"),
    "label, output": ("L", "#87afaf"),
    "other": ("O", "#87afaf"),
    "session": ("N", "#5fafaf"),
    "stack": ("K", "#ff875f"),
}
_KINDS = {"activation": "#5f87ff", "gradient": "#ff875f", "mask": "#af87d7", "input": "#5faf5f"}


def ram_title(state: State) -> str:
    """What is used of what there is."""
    used = sum(size for _, size in ram_parts(state))
    board = state.facts.board_ram_bytes
    if not board:
        return f"RAM {format_bytes(used)}"
    return f"RAM {format_bytes(used)} of {format_bytes(board)} ({100 * used / board:.0f} %)"


def ram_panel(state: State, surface: Surface) -> Group:
    """A bar of the board's RAM, its legend, high water marks, and a bar of the arena."""
    parts = _with_small_together(ram_parts(state))
    lines: list[Text] = []
    board = state.facts.board_ram_bytes
    free = board - sum(size for _, size in parts)
    segments = [*parts, ("free", free)] if free > 0 else parts
    lines.append(_bar(segments, surface))
    lines += _legend(segments, surface)
    lines += _high_water(state, surface)
    arena = _arena(state, surface)
    return Group(*_most(lines, arena, surface.height))


def _most(lines: list[Text], arena: list[Text], height: int) -> list[Text]:
    """The arena's bar is left out first, then lines of its names."""
    room = height - len(lines)
    if len(arena) >= 2 and room >= 2:
        return [*lines, *arena[:room]]
    return lines[:height]


def ram_parts(state: State) -> list[Part]:
    """What lies in RAM as planned, without what is not there."""
    memory, started = state.facts.memory, state.started
    parts = [(name, int(memory.get(key, 0))) for name, key in _PARTS.items()]
    parts += [("session", started.session_bytes), ("stack", started.stack_bytes)]
    return [part for part in parts if part[1] > 0]


def _with_small_together(parts: list[Part]) -> list[Part]:
    whole = sum(size for _, size in parts)
    small = [part for part in parts if part[1] < SMALL_SHARE * whole]
    if len(small) < 2:
        return parts
    rest = [part for part in parts if part not in small]
    return [*rest, ("other", sum(size for _, size in small))]


def fullest_step(tensors: Sequence[dict[str, Any]]) -> int:
    """Returns the step at which most bytes of the arena are in use; the first of several."""
    steps = sorted({int(t["first_step"]) for t in tensors})

    def live_bytes(step: int) -> int:
        return sum(int(t["bytes"]) for t in live_tensors(tensors, step))

    return max(steps, key=live_bytes, default=0)


def live_tensors(tensors: Sequence[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """Returns who lives at a step, in the order of the arena."""
    live = [t for t in tensors if t["first_step"] <= step <= t["last_step"]]
    return sorted(live, key=lambda t: int(t["offset"]))


def kind_of(name: str) -> str:
    """What a tensor is, by the names that autodiff gives."""
    if name.startswith("d."):
        return "gradient"
    if name.endswith(".mask"):
        return "mask"
    return "input" if name == "input" else "activation"


def _bar(parts: Sequence[Part], surface: Surface) -> Text:
    """Each part as long as it is, but at least one character."""
    whole = sum(size for _, size in parts) or 1
    lengths = [max(1, round(surface.width * size / whole)) for _, size in parts]
    # The longest gives way to those that are shown longer than they are.
    lengths[lengths.index(max(lengths))] += surface.width - sum(lengths)
    text = Text(no_wrap=True, overflow="crop")
    for (name, _), length in zip(parts, lengths, strict=True):
        text.append_text(_run(name, length, surface))
    return text


def _run(name: str, length: int, surface: Surface) -> Text:
    if name not in _LOOKS:
        return Text(surface.pick("░", ".") * length, style="dim")
    solid = surface.unicode and surface.colour
    letter, colour = _LOOKS[name]
    return Text(("█" if solid else letter) * length, style=colour)


def _legend(parts: Sequence[Part], surface: Surface) -> list[Text]:
    pieces = []
    for name, size in parts:
        piece = Text().append_text(_run(name, 1, surface))
        piece.append(f" {name} ")
        piece.append(format_bytes(size), style="dim")
        pieces.append(piece)
    return _flow(pieces, surface.width)


def _flow(pieces: Sequence[Text], width: int) -> list[Text]:
    """Puts pieces one after the other, as many a line as fit."""
    lines: list[Text] = []
    for piece in pieces:
        if lines and lines[-1].cell_len + 2 + piece.cell_len <= width:
            lines[-1].append("  ")
            lines[-1].append_text(piece)
        else:
            lines.append(Text(no_wrap=True, overflow="crop").append_text(piece))
    return lines


def _high_water(state: State, surface: Surface) -> list[Text]:
    last = state.telemetry
    if last is None or not last.arena_high_water_bytes:
        return [Text("high water: not measured yet", style="dim")]
    arena = int(state.facts.memory["arena_bytes"])
    pieces = [_touched("arena", last.arena_high_water_bytes, arena)]
    if last.stack_high_water_bytes:
        stack = state.started.stack_bytes
        pieces.append(_touched("stack", last.stack_high_water_bytes, stack))
    return _flow(pieces, surface.width)


def _touched(name: str, used: int, planned: int) -> Text:
    text = Text()
    text.append(f"{name} touched ", style="dim")
    text.append(f"{used:,}", style="bold red" if 0 < planned < used else "bold green")
    text.append(f" of {planned:,} B" if planned else " B")
    return text


def _arena(state: State, surface: Surface) -> list[Text]:
    """A bar of the arena at its fullest step, and its tensors' names."""
    tensors = state.facts.memory["tensors"]
    arena = int(state.facts.memory["arena_bytes"])
    step = fullest_step(tensors)
    live = live_tensors(tensors, step)
    if not live or not arena:
        return []
    owners = [-1] * surface.width
    for index, tensor in enumerate(live):
        begin = int(tensor["offset"]) * surface.width // arena
        end = (int(tensor["offset"]) + int(tensor["bytes"])) * surface.width // arena
        for cell in range(begin, min(max(end, begin + 1), surface.width)):
            owners[cell] = index
    shown = list(dict.fromkeys(owner for owner in owners if owner >= 0))
    looks = {-1: (surface.pick("░", "."), "dim")}
    for letter, index in zip(cycle(ascii_lowercase), shown, strict=False):
        colour = _KINDS[kind_of(str(live[index]["name"]))]
        looks[index] = (letter, f"black on {colour}" if surface.colour else "")
    bar, pieces = Text(no_wrap=True, overflow="crop"), []
    for owner in owners:
        bar.append(*looks[owner])
    for index in shown:
        piece = Text()
        piece.append(*looks[index])
        piece.append(f" {_name_with_hidden(live, index)}")
        pieces.append(piece)
    ops = state.facts.ops
    name = str(ops[step]["name"]) if 0 <= step < len(ops) else "the input"
    head = Text(f"arena when fullest, at {name}", style="dim", no_wrap=True, overflow="ellipsis")
    return [head, bar, *_flow(pieces, surface.width)]


def _name_with_hidden(live: Sequence[dict[str, Any]], index: int) -> str:
    """A tensor's name; and that of the one which it lies over, being written in place."""
    shown = live[index]
    under = [
        str(other["name"])
        for other in live[:index]
        if other["offset"] == shown["offset"] and other["bytes"] <= shown["bytes"]
    ]
    return " over ".join([str(shown["name"]), *under])
