"""The verb `ondevice watch`: the dashboard of a run that another process trains, or has trained."""

import io
import json
import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from ondevice.dashboard.painter import Painter
from ondevice.dashboard.recorded_events import RecordedEvents
from ondevice.dashboard.reducer import Reducer
from ondevice.dashboard.screen import SMALLEST, dashboard
from ondevice.dashboard.state import Facts, State, facts_of
from ondevice.errors import UserError
from ondevice.events import Ended, Started, Telemetry
from ondevice.interrupt import StopOnInterrupt
from ondevice.terminal import text_console
from ondevice_compiler.atomic_file import write_text_atomically

INTERVAL_S = 0.25
DRAWN_SIZE = (120, 42)  # columns and lines, where there is no terminal and in an SVG
_THEME = TerminalTheme(
    (22, 24, 29),
    (222, 224, 228),
    [
        (60, 64, 72), (224, 86, 86), (95, 190, 110), (224, 180, 80),
        (95, 135, 255), (190, 120, 220), (80, 190, 200), (222, 224, 228),
    ],
    [
        (110, 114, 122), (255, 110, 110), (120, 220, 130), (250, 210, 100),
        (125, 160, 255), (215, 150, 245), (100, 215, 225), (255, 255, 255),
    ],
)  # fmt: skip


def watch(
    run: Annotated[Path, typer.Argument(help="Run folder: runs/DATE-NAME")],
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Draw what is there now into this file, and end")
    ] = None,
) -> None:
    """Watch a run from a second terminal, or see how one went; nothing of it is changed."""
    run_view = _RunView(run)
    run_view.read()
    if svg is not None:
        _write_svg(svg, run_view.state())
        print(f"Dashboard: {svg}")
        return
    console = text_console(stderr=False, width=DRAWN_SIZE[0])
    if run_view.goes_on and console.is_terminal and console.size >= SMALLEST:
        _follow(run_view, console)
    lines = DRAWN_SIZE[1]
    picture = dashboard(run_view.state(), console.width, lines)
    console.print(picture, height=lines, soft_wrap=False)


class _RunView:
    """The events of a run folder so far, reduced."""

    def __init__(self, run: Path) -> None:
        self._run = run
        if not (run / "metrics.jsonl").is_file():
            raise UserError(f"{run}: no metrics.jsonl there; give the folder of a run")
        self._events = RecordedEvents(run / "metrics.jsonl")
        self._reducer = Reducer(_facts(run))
        self._known_s, self._known_at_s = 0.0, time.monotonic()
        self.goes_on = True

    def read(self) -> None:
        """Takes the events that are new."""
        for event in self._events.new():
            elapsed_s = None
            if isinstance(event, Started):
                self.goes_on = True
                elapsed_s = 0.0
            elif isinstance(event, Telemetry):
                elapsed_s = event.elapsed_s
                self._known_s, self._known_at_s = elapsed_s, time.monotonic()
            elif isinstance(event, Ended):
                self.goes_on = False
            self._reducer.take(event, elapsed_s)

    def state(self) -> State:
        """Returns what there is to show.

        Raises:
            UserError: The run has not begun.
        """
        summary = self._run / "summary.json"
        if not self.goes_on and summary.is_file():
            self._reducer.at(float(json.loads(summary.read_text(encoding="utf-8"))["training_s"]))
        state = self._reducer.state()
        if state is None:
            raise UserError(f"{self._run}: the run has not begun yet")
        return state


def _follow(view: _RunView, console: Console) -> None:
    painter = Painter(console)
    with StopOnInterrupt() as stop:
        painter.enter()
        try:
            while view.goes_on and not stop.requested():
                columns, lines = console.size
                painter.paint(dashboard(view.state(), columns, lines), columns, lines)
                time.sleep(INTERVAL_S)
                view.read()
        finally:
            painter.leave()


def _facts(run: Path) -> Facts:
    try:
        manifest: dict[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{run}/manifest.json: cannot be read: {error}") from error
    return facts_of(manifest, *_board_figures(run))


def _board_figures(run: Path) -> tuple[int, int]:
    """RAM in bytes and clock of the run's board; 0 where unknown."""
    from ondevice.config import load_config
    from ondevice.target import target_board

    try:
        board = target_board(load_config(run / "config.toml").device, connect=False)
    except UserError:
        return 0, 0
    if board is None or board.run == "host":
        return 0, 0
    return board.ram_bytes, board.clock_hz


def _write_svg(path: Path, state: State) -> None:
    columns, lines = DRAWN_SIZE
    console = Console(record=True, width=columns, height=lines, force_terminal=True,
                      color_system="truecolor", file=io.StringIO())  # fmt: skip
    console.print(dashboard(state, columns, lines), height=lines)
    title = f"ondevice train: {state.started.model} on {state.started.board}"
    drawn = console.export_svg(title=title, theme=_THEME, unique_id="dashboard")
    # Rich has the picture load its font from the web; any monospaced one will do.
    write_text_atomically(path, re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.S))
