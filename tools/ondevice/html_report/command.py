"""The verb `ondevice report`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run: runs/DATE-NAME")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="FILE.html (default: report.html in the folder)"),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write the report of a run as one HTML file, complete or not."""
    from ondevice.errors import UserError
    from ondevice.html_report.page import write_report

    if output is not None and output.suffix not in (".html", ".htm"):
        raise UserError(f"--output {output}: a report is an HTML file; allowed: .html, .htm")
    file = write_report(run, output)
    print(f"Report: {file}")
    if show and not webbrowser.open(file.resolve().as_uri()):
        raise UserError(f"no browser was found; open {file} yourself")
