"""Where a training step's instructions or cycles go: a bar an operator, coloured by phase."""

from dataclasses import dataclass

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ondevice.dashboard.figures import short_count
from ondevice.dashboard.state import State
from ondevice.dashboard.surface import Surface

PHASES = {
    "forward": ("#5f87ff", "#"),
    "loss": ("#d787d7", "+"),
    "backward": ("#ff875f", "="),
    "update": ("#5faf5f", ":"),
    "apply": ("#5fafaf", "~"),
}
SMALLEST_SHARE = 0.005  # of a phase that is named
_OTHER = ("grey62", ".")


@dataclass(frozen=True)
class _Bar:
    name: str
    phase: str
    count: float
    share: float


def operators_title(state: State) -> str:
    """What is counted; planned multiply-accumulates where the board counts nothing."""
    if state.profile is None:
        return "multiply-accumulates a step"
    return f"{state.started.counter} a step"


def operators_panel(state: State, surface: Surface) -> Group:
    """The operators that take most, after a bar of the phases."""
    bars, phases = _measured(state) if state.profile is not None else _planned(state)
    if not bars:
        return Group(Text("no operators", style="dim"))
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", width=min(24, surface.width // 2 - 4))
    table.add_column(no_wrap=True, ratio=1)
    table.add_column(justify="right", no_wrap=True)
    length = max(1, surface.width - min(24, surface.width // 2 - 4) - 16)
    largest = max(bar.count for bar in bars) or 1
    shown = max(1, surface.height - 2)
    if len(bars) > shown:
        shown -= 1  # for the rest
    for bar in bars[:shown]:
        table.add_row(
            bar.name.partition("/")[2] or bar.name,
            _blocks(bar.phase, round(length * bar.count / largest), surface),
            Text.assemble((f"{short_count(bar.count)}", ""), (f" {100 * bar.share:3.0f} %", "dim")),
        )
    rest = bars[shown:]
    if rest:
        share = sum(bar.share for bar in rest)
        count = sum(bar.count for bar in rest)
        figures = Text.assemble((short_count(count), ""), (f" {100 * share:3.0f} %", "dim"))
        table.add_row(Text(f"{len(rest)} more", style="dim"), "", figures)
    return Group(*_legend(phases, surface), table)


def _measured(state: State) -> tuple[list[_Bar], list[_Bar]]:
    assert state.profile is not None
    assert state.phases is not None
    bars = [_Bar(row.name, row.phase, row.count, row.share) for row in state.profile.rows]
    outside = state.profile.outside
    bars.append(_Bar(outside.name, "", outside.count, outside.share))
    phases = [_Bar(row.name, row.phase, row.count, row.share) for row in state.phases.rows]
    return sorted(bars, key=lambda bar: -bar.count), phases


def _planned(state: State) -> tuple[list[_Bar], list[_Bar]]:
    macs = [int(op["macs"]) for op in state.facts.ops]
    whole = sum(macs) or 1
    bars = [
        _Bar(str(op["name"]), str(op["phase"]), count, count / whole)
        for op, count in zip(state.facts.ops, macs, strict=True)
        if count
    ]
    sums: dict[str, float] = {}
    for bar in bars:
        sums[bar.phase] = sums.get(bar.phase, 0.0) + bar.count
    phases = [_Bar(name, name, count, count / whole) for name, count in sums.items()]
    return sorted(bars, key=lambda bar: -bar.count), phases


def _legend(phases: list[_Bar], surface: Surface) -> list[Text]:
    """One bar of all phases, and their names under it."""
    known = [bar for bar in sorted(phases, key=_order) if bar.share >= SMALLEST_SHARE]
    line, names = Text(no_wrap=True, overflow="crop"), Text(no_wrap=True, overflow="crop")
    whole = sum(bar.share for bar in known) or 1.0
    done, begun = 0.0, 0
    for bar in known:
        done += bar.share / whole
        end = round(done * surface.width)
        line.append_text(_blocks(bar.phase, end - begun, surface))
        begun = end
        names.append_text(_blocks(bar.phase, 1, surface))
        names.append(f" {bar.name} ")
        names.append(f"{100 * bar.share:.0f}%  ", style="dim")
    return [line, names] if surface.height >= 6 else [names]


def _order(bar: _Bar) -> int:
    return list(PHASES).index(bar.phase) if bar.phase in PHASES else len(PHASES)


def _blocks(phase: str, length: int, surface: Surface) -> Text:
    colour, letter = PHASES.get(phase, _OTHER)
    # Without colour the characters tell the phases apart.
    solid = surface.unicode and surface.colour
    return Text(("█" if solid else letter) * length, style=colour, no_wrap=True, overflow="crop")
