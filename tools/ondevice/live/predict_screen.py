"""What `ondevice predict` shows: bars on a terminal, lines elsewhere."""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ondevice.live.predict_session import Answered, Tally
from ondevice.live.record_screen import sparkline

_BAR = 40
_MOST_ROWS = 24


def answer_screen(
    answer: Answered, names: tuple[str, ...], channels: tuple[str, ...], source: str
) -> Group:
    """Returns the class, a bar for each one's probability, and the window that they are of.

    Args:
        answer: The newest.
        names: Of the classes.
        channels: Of the window; of a picture, none are drawn.
        source: Name of the source.
    """
    skipped = f", {answer.skipped} skipped" if answer.skipped else ""
    head = Text(f"{source}  window {answer.window}{skipped}", style="dim")
    return Group(head, Text(answer_words(answer), style="bold"), _bars(answer, names),
                 _channels(answer, channels), Text("Ctrl-C ends", style="dim"))  # fmt: skip


def answer_words(answer: Answered) -> str:
    """One line, e.g. "walking 93 %"."""
    prediction = answer.prediction
    if prediction.index is None:
        return ", ".join(f"{value:.4g}" for value in prediction.outputs)
    if prediction.index >= len(prediction.outputs):  # one output: it is the class 1
        return prediction.name
    return f"{prediction.name} {100 * prediction.outputs[prediction.index]:.0f} %"


def answer_record(answer: Answered) -> dict[str, Any]:
    """One JSON line."""
    prediction = answer.prediction
    shares = [round(value, 6) for value in prediction.outputs]
    record: dict[str, Any] = {
        "event": "prediction",
        "window": answer.window,
        "sample": answer.sample,
        "skipped": answer.skipped,
    }
    if prediction.index is None:
        return {**record, "outputs": shares}
    return {
        **record,
        "class": prediction.name,
        "index": prediction.index,
        "probabilities": shares,
    }


def tally_record(tally: Tally) -> dict[str, Any]:
    """The last JSON line."""
    return {
        "event": "end",
        "windows": tally.windows,
        "skipped": tally.skipped,
        "samples": tally.samples,
        "classes": dict(tally.classes),
    }


def tally_words(tally: Tally) -> str:
    """The last line for people."""
    if tally.windows == 0:
        return f"No window was complete ({tally.samples:,} samples came)"
    counts = ", ".join(f"{name} {count}" for name, count in tally.classes.most_common() if name)
    skipped = f"; {tally.skipped} skipped, since newer ones had come" if tally.skipped else ""
    return f"{tally.windows} windows{': ' if counts else ''}{counts}{skipped}"


def _bars(answer: Answered, names: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    outputs = answer.prediction.outputs
    if answer.prediction.index is None:
        return table
    for index, share in enumerate(outputs[:_MOST_ROWS]):
        name = names[index] if index < len(names) else str(index)
        style = "bold green" if index == answer.prediction.index else None
        table.add_row(name, "█" * round(_BAR * share), f"{100 * share:5.1f} %", style=style)
    if len(outputs) > _MOST_ROWS:
        table.add_row(f"and {len(outputs) - _MOST_ROWS} more")
    return table


def _channels(answer: Answered, channels: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    if answer.recent.ndim == 2:
        for index, name in enumerate(channels[:12]):
            table.add_row(name, sparkline(answer.recent[:, index]))
    return table
