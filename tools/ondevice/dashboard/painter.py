"""A full screen of a terminal: only the lines that changed are sent, nothing is erased first."""

from threading import RLock

from rich.console import Console, RenderableType
from rich.control import Control
from rich.segment import Segment, Segments

REPAINT_EVERY = 20  # pictures: what others wrote on the screen (keys are echoed) goes with it


class Painter:
    """Shows pictures on the terminal's second screen; the first is as it was, afterwards.

    Args:
        console: A terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: list[list[Segment]] = []
        self._size = (0, 0)
        self._painted = 0
        self._entered = False
        self._lock = RLock()  # signal handlers leave, too

    def enter(self) -> None:
        """Takes the screen."""
        with self._lock:
            self._entered, self._lines = True, []
            self._console.set_alt_screen(True)
            self._console.show_cursor(False)

    def leave(self) -> None:
        """Gives it back; may be called twice."""
        with self._lock:
            if self._entered:
                self._entered = False
                self._console.set_alt_screen(False)
                self._console.show_cursor(True)

    def repaint(self) -> None:
        """Sends the whole next picture."""
        with self._lock:
            self._painted = 0

    def paint(self, picture: RenderableType, columns: int, lines: int) -> None:
        """Shows a picture.

        Args:
            picture: What is shown.
            columns, lines: Of the terminal, now.
        """
        console = self._console
        options = console.options.update_dimensions(columns, lines)
        rows = console.render_lines(picture, options, pad=True)[:lines]
        drawn = [list(Segment.simplify(row)) for row in rows]
        with self._lock:
            if not self._entered:
                return
            sent: list[Segment] = []
            if self._painted % REPAINT_EVERY == 0:
                self._lines = []
            self._painted += 1
            if (columns, lines) != self._size:  # what a terminal does to old lines is its own idea
                self._size, self._lines = (columns, lines), []
                sent.append(Control.clear().segment)
            for row, line in enumerate(drawn):
                if row >= len(self._lines) or line != self._lines[row]:
                    sent += [Control.move_to(0, row).segment, *line]
            self._lines = drawn
            if sent:
                console.print(Segments(sent), end="", soft_wrap=True)
