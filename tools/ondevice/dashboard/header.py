"""What runs where, how far it is, and how fast."""

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ondevice.dashboard.figures import format_duration
from ondevice.dashboard.state import State
from ondevice.dashboard.surface import Surface


def header(state: State, surface: Surface) -> Group:
    """Three lines: the run, its progress, its pace."""
    started = state.started
    scheme = f"{started.dtype}, update {started.scheme}, seed {started.seed}"
    head = Text(no_wrap=True, overflow="crop")
    head.append(started.model, style="bold")
    head.append(" on ")
    head.append(started.board, style="bold")
    head.append(f"  {scheme}", style="dim")
    status = _status(state)
    head.append(" " * max(2, surface.width - head.cell_len - len(status[0])))
    head.append(*status)
    return Group(head, _progress(state, surface), _pace(state, surface))


def _status(state: State) -> tuple[str, str]:
    if state.ended is not None:
        return ("stopped", "bold yellow") if state.ended.interrupted else ("done", "bold green")
    if state.link.word == "lost":
        return "link lost", "bold red"
    if state.step == 0:
        return "measuring the untrained model", "yellow"
    if state.step == state.started.total_steps:
        return "measuring the trained model", "yellow"
    return "training", "bold green"


def _progress(state: State, surface: Surface) -> Table:
    total = state.started.total_steps
    epochs = -(-total // state.started.samples)
    figures = f"{state.step:,}/{total:,}  {100 * state.step // total} %"
    if state.epoch:
        figures += f"  epoch {state.epoch} of {epochs}"
    row = Table.grid(padding=(0, 1))
    row.add_row(
        ProgressBar(total, state.step, width=max(4, surface.width - len(figures) - 1)),
        Text(figures, no_wrap=True),
    )
    return row


def _pace(state: State, surface: Surface) -> Text:
    parts = [("elapsed", format_duration(state.elapsed_s))]
    if state.ended is None and state.remaining_s is not None:
        parts.append(("remaining", format_duration(state.remaining_s)))
    if state.samples_per_s is not None:
        parts.append(("samples/s", _figure(state.samples_per_s)))
    if state.learning_rate is not None:
        parts.append(("learning rate", f"{state.learning_rate:.3g}"))
    if state.count_per_step is not None:
        parts.append((f"{state.started.counter}/step", f"{state.count_per_step:,.0f}"))
    if state.rollbacks:
        parts.append(("rollbacks", str(len(state.rollbacks))))
    text = Text(no_wrap=True, overflow="crop")
    for name, figure in parts:
        if text.cell_len + len(name) + len(figure) + 3 > surface.width:
            break  # The later are the less important.
        text.append(f"{name} ", style="dim")
        text.append(f"{figure}  ", style="bold")
    return text


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
