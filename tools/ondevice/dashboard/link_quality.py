"""How well host and board understand each other."""

from rich.table import Table
from rich.text import Text

from ondevice.dashboard.figures import format_duration
from ondevice.dashboard.state import State
from ondevice.dashboard.surface import Surface

_STYLES = {"clean": "bold green", "noisy": "bold yellow", "lost": "bold red", "": "dim"}


def link_panel(state: State, surface: Surface) -> Table:
    """A word for it, then figures; the first lines are the most important."""
    link = state.link
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True, min_width=10)
    table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_row("link", Text(link.word or "not known yet", style=_STYLES[link.word]))
    if link.trouble_s is not None:
        ago = format_duration(max(0.0, state.elapsed_s - link.trouble_s))
        table.add_row("trouble", f"{ago} ago")
    if link.reconnects or link.word == "lost":
        table.add_row("reconnects", str(link.reconnects))
    if state.telemetry is not None:
        table.add_row("sent again", _count(link.retries))
        table.add_row("corrupt", _count(link.corrupt_frames))
        table.add_row("requests", f"{link.requests:,}")
    if link.requests_per_s is not None and link.bytes_per_s is not None:
        table.add_row("requests/s", f"{link.requests_per_s:,.0f}")
        table.add_row("KB/s", f"{link.bytes_per_s / 1024:,.1f}")
    return table


def _count(number: int) -> Text:
    return Text(f"{number:,}", style="yellow" if number else "")
