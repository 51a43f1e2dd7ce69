"""The page: sections and templates put together, in one file that asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

from ondevice.html_report.arena import arena
from ondevice.html_report.confusion import classes
from ondevice.html_report.curves import curves
from ondevice.html_report.health import health
from ondevice.html_report.history import History, load_history
from ondevice.html_report.memory import budget
from ondevice.html_report.numbers import percent, size, whole
from ondevice.html_report.operators import operators
from ondevice.html_report.provenance import provenance
from ondevice.html_report.result import tiles
from ondevice_compiler.atomic_file import write_text_atomically

REPORT_FILE = "report.html"


def write_report(run: Path, file: Path | None = None, now: datetime | None = None) -> Path:
    """Writes the report of a run.

    Args:
        run: Run folder.
        file: Destination; None: report.html in the folder.
        now: Written below; None: now.

    Returns:
        The file.

    Raises:
        UserError: The folder is none of a run, or is damaged.
        OSError: The file cannot be written.
    """
    destination = file if file is not None else run / REPORT_FILE
    write_text_atomically(destination, render(load_history(run), now or datetime.now()))
    return destination


def render(history: History, now: datetime) -> str:
    """Returns the page."""
    script = _text("sort.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _environment().get_template("page.html.j2")
    return page.render(
        history=history,
        started=history.started,
        now=now,
        tiles=tiles(history),
        curves=curves(history),
        classes=classes(history),
        arena=arena(history),
        budget=budget(history),
        operators=operators(history),
        health=health(history),
        provenance=provenance(history),
        # Ours, and of no run: the only texts that are not escaped.
        style=Markup(_text("style.css")),
        script=Markup(script),
        script_digest=digest,
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, size=size, whole=whole)
    return environment


def _text(name: str) -> str:
    return (files("ondevice.html_report") / "templates" / name).read_text(encoding="utf-8")
