"""An audit as one HTML file that asks nobody for anything."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib.resources import files

import jinja2
from markupsafe import Markup

from ondevice.privacy.results import Audit
from ondevice.privacy.table import HEADER, cells
from ondevice.privacy.verdict import verdict


def render(audit: Audit, pictures: Mapping[str, bytes]) -> str:
    """Returns the page.

    Args:
        audit: At least one row.
        pictures: PNG files by name.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_text("ondevice.privacy", "audit.html.j2"))
    return template.render(
        subject=audit.subject.name,
        samples=len(audit.private),
        seed=audit.settings.seed,
        interrupted=audit.interrupted,
        sentences=verdict(audit),
        header=HEADER,
        rows=[cells(row) for row in audit.rows],
        left_out=audit.left_out,
        pictures=[
            (name.removesuffix(".png"), base64.b64encode(content).decode())
            for name, content in pictures.items()
        ],
        style=Markup(_text("ondevice.html_report", "style.css")),  # ours: not escaped
    )


def _text(package: str, name: str) -> str:
    return (files(package) / "templates" / name).read_text(encoding="utf-8")
