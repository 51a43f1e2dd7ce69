"""Whether a run is shown as a dashboard or as lines."""

from collections.abc import Mapping

from rich.console import Console

from ondevice.dashboard.screen import SMALLEST


def wants_dashboard(console: Console, environment: Mapping[str, str], plain: bool) -> bool:
    """Tells whether there is a terminal for it, and nobody asked for lines.

    Args:
        console: Where text goes.
        environment: Of the process: TERM=dumb and CI mean lines.
        plain: Lines were asked for.
    """
    if plain or not console.is_terminal or not console.file.isatty():
        return False
    if environment.get("TERM", "") in ("", "dumb", "unknown"):
        return False
    if environment.get("CI", "").lower() not in ("", "0", "false"):
        return False
    columns, lines = console.size
    return columns >= SMALLEST[0] and lines >= SMALLEST[1]
