"""How much of the integer gradients is lost: clamped, or rounded to 0; and rollbacks."""

from rich.table import Table
from rich.text import Text

from ondevice.dashboard.figures import short_count
from ondevice.dashboard.state import State
from ondevice.dashboard.surface import Surface

NOTABLE = 0.01  # share of saturated elements


def gradients_panel(state: State, surface: Surface) -> Table:
    """Counts with their share of all gradient elements so far."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True, min_width=9)
    table.add_column(justify="right", no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True, min_width=6)
    last = state.telemetry
    if state.started.dtype != "int8":
        table.add_row("float32:", "exact")
    elif last is not None:
        seen = state.facts.gradient_elements * last.step
        table.add_row("saturated", _count(last.saturated), _share(last.saturated, seen, NOTABLE))
        table.add_row("zeroed", _count(last.zeros), _share(last.zeros, seen, 1.0))
    else:
        table.add_row("gradients", "not read yet")
    table.add_row("rollbacks", Text(str(len(state.rollbacks))))
    if state.rollbacks:
        table.add_row("rate", f"times {state.rollbacks[-1].rate_scale:g}")
    return table


def _count(number: int) -> str:
    return f"{number:,}" if number < 100_000 else short_count(number)


def _share(count: int, seen: int, notable: float) -> Text:
    if not seen:
        return Text("")
    share = count / seen
    return Text(f"{100 * share:.2f}%", style="yellow" if share >= notable else "")
