"""What a panel is drawn on: its size, and which characters and colours the terminal has."""

from collections.abc import Callable
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.panel import Panel
from rich.text import Text

from ondevice.dashboard.state import State


@dataclass(frozen=True)
class Surface:
    """Where a panel is drawn.

    Attributes:
        width, height: In characters, without the frame.
        unicode: The terminal shows blocks, dots and lines.
        colour: It has colours, and the person wants them.
    """

    width: int
    height: int
    unicode: bool = True
    colour: bool = True

    def pick(self, unicode: str, ascii_only: str) -> str:
        """Returns the first where the terminal can show it."""
        return unicode if self.unicode else ascii_only


Draw = Callable[[State, Surface], RenderableType]


@dataclass(frozen=True)
class FramedPanel:
    """A panel in its frame, which learns its size from the layout when it is drawn.

    Attributes:
        title: In the frame; empty: no frame.
        draw: The panel.
        state: What it shows.
    """

    title: str
    draw: Draw
    state: State

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draws it."""
        framed = bool(self.title)
        surface = Surface(
            width=max(1, options.max_width - (4 if framed else 0)),
            height=max(1, (options.height or options.max_height) - (2 if framed else 0)),
            unicode=not options.ascii_only,
            colour=console.color_system is not None and not console.no_color,
        )
        drawn = self.draw(self.state, surface)
        if not framed:
            yield drawn
            return
        yield Panel(
            drawn,
            title=Text(self.title, style="bold not dim"),
            title_align="left",
            box=box.ROUNDED,
            border_style="dim",
            padding=(0, 1),
            height=options.height,
        )
