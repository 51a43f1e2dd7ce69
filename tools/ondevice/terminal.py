"""Where text for people goes: a plain console, and a bar where it is a terminal."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def text_console(stderr: bool, width: int | None = None) -> Console:
    """A console for sentences and tables.

    Args:
        stderr: Write there, because stdout is for machines.
        width: In columns, where it is no terminal; None: what rich finds.
    """
    # No markup: a file name may hold [brackets]. No highlighting: plain text is for grep.
    console = Console(stderr=stderr, markup=False, highlight=False, soft_wrap=True)
    if width is not None and not console.is_terminal:
        console.width = width
    return console


def progress_bar(console: Console) -> Progress:
    """A bar that leaves no trace, and none where the console is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
