"""Which panels are where: all of them on a large terminal, the first few on a small one."""

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.layout import Layout
from rich.segment import Segment
from rich.text import Text

from ondevice.dashboard.confusion import confusion_panel, confusion_title
from ondevice.dashboard.curves import accuracy_panel, accuracy_title, loss_panel, loss_title
from ondevice.dashboard.gradients import gradients_panel
from ondevice.dashboard.header import header
from ondevice.dashboard.link_quality import link_panel
from ondevice.dashboard.operators import operators_panel, operators_title
from ondevice.dashboard.ram_map import ram_panel, ram_title
from ondevice.dashboard.state import State
from ondevice.dashboard.surface import FramedPanel

SMALLEST = (80, 15)  # columns and lines; below, no dashboard
ALL_PANELS = (100, 30)  # likewise, where all panels have room
_HEADER_LINES = 3
_ASCII = str.maketrans({"…": ".", "●": "o"})


@dataclass(frozen=True)
class Picture:
    """A layout in the characters that the terminal's encoding has."""

    layout: Layout

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draws it."""
        for segment in console.render(self.layout, options):
            if options.ascii_only:
                text = segment.text.translate(_ASCII).encode(options.encoding, "replace")
                yield Segment(text.decode(options.encoding), segment.style, segment.control)
            else:
                yield segment


def dashboard(state: State, columns: int, lines: int) -> Picture:
    """Returns the whole picture for a terminal of that size."""
    whole = Layout()
    rows = [_row("header", FramedPanel("", header, state), size=_HEADER_LINES)]
    if lines > _HEADER_LINES + 5:
        rows.append(_curves(state))
    if columns >= ALL_PANELS[0] and lines >= ALL_PANELS[1]:
        rows += _all_panels(state, columns, lines)
    elif lines >= 20:
        rows.append(_small_panels(state, lines))
    rows.append(_row("messages", _messages(state, lines), size=_message_lines(lines)))
    whole.split_column(*rows)
    return Picture(whole)


def _row(name: str, shown: RenderableType, size: int | None = None, ratio: int = 1) -> Layout:
    return Layout(shown, name=name, size=size, ratio=ratio)


def _curves(state: State) -> Layout:
    loss = FramedPanel(loss_title(state), loss_panel, state)
    if not state.has_classes:
        return _row("loss", loss)
    row = Layout(name="curves")
    accuracy = FramedPanel(accuracy_title(state), accuracy_panel, state)
    row.split_row(_row("loss", loss), _row("accuracy", accuracy))
    return row


def _all_panels(state: State, columns: int, lines: int) -> list[Layout]:
    middle, bottom, right = Layout(name="middle"), Layout(name="bottom"), Layout(name="right")
    middle.size = min(20, lines // 3)
    bottom.size = min(12, lines // 4 + 1)
    middle.split_row(
        _row("confusion", FramedPanel(confusion_title(state), confusion_panel, state)),
        _row("operators", FramedPanel(operators_title(state), operators_panel, state)),
    )
    right.split_row(
        _row("link", FramedPanel("link", link_panel, state)),
        _row("gradients", FramedPanel("gradients", gradients_panel, state)),
    )
    right.size = max(54, columns * 2 // 5)
    bottom.split_row(_row("ram", FramedPanel(ram_title(state), ram_panel, state)), right)
    return [middle, bottom]


def _small_panels(state: State, lines: int) -> Layout:
    row, right = Layout(name="small", size=(lines - _HEADER_LINES) // 2), Layout(name="right")
    right.split_column(
        _row("link", FramedPanel("link", link_panel, state)),
        _row("gradients", FramedPanel("gradients", gradients_panel, state)),
    )
    row.split_row(
        _row("operators", FramedPanel(operators_title(state), operators_panel, state), ratio=3),
        _row("right", right, ratio=2),
    )
    return row


def _message_lines(lines: int) -> int:
    return 1 if lines < 36 else 2


def _messages(state: State, lines: int) -> Group:
    """The newest, newest last."""
    newest = state.messages[-_message_lines(lines) :]
    return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in newest))
