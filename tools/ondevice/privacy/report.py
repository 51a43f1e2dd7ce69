"""An audit's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from ondevice.privacy.page import render
from ondevice.privacy.pictures import shown_rows, side_by_side, sweep_curves
from ondevice.privacy.results import Audit
from ondevice.privacy.verdict import verdict
from ondevice.run_folder import first_free
from ondevice_compiler.atomic_file import write_bytes_atomically, write_text_atomically

AUDIT_FILE = "audit.json"
PAGE_FILE = "audit.html"
ROWS_A_PICTURE = 16


def audit_record(audit: Audit) -> dict[str, Any]:
    """All figures, for JSON; no time of day, so that equal audits are equal bytes."""
    return {
        "subject": audit.subject.name,
        "settings": asdict(audit.settings),
        "private_samples": list(audit.chosen),
        "labels": [int(label) for label in audit.labels],
        "typical_mse": [float(value) for value in audit.typical_mse],
        "rows": [row.record() for row in audit.rows],
        "left_out": [{"title": title, "why": why} for title, why in audit.left_out],
        "interrupted": audit.interrupted,
        "verdict": verdict(audit),
    }


def write_audit(audit: Audit, directory: Path, now: datetime) -> Path:
    """Writes audit.json, audit.html, pictures and curves into a new folder DATE-privacy-NAME.

    Args:
        audit: At least one row.
        directory: Of run folders.
        now: Becomes the DATE.

    Raises:
        OSError: It cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    folder = first_free(directory, f"{now:%Y%m%d-%H%M%S}-privacy-{audit.subject.name}")
    text = json.dumps(audit_record(audit), indent=1)
    write_text_atomically(folder / AUDIT_FILE, f"{text}\n")
    drawn = pictures(audit)
    for name, content in drawn.items():
        write_bytes_atomically(folder / name, content)
    write_text_atomically(folder / PAGE_FILE, render(audit, drawn))
    return folder


def pictures(audit: Audit) -> Mapping[str, bytes]:
    """PNG files by name: reconstructions beside their samples, and the sweeps."""
    rows, found = shown_rows(audit), {}
    for start in range(0, len(rows), ROWS_A_PICTURE):
        number = start // ROWS_A_PICTURE + 1
        picture = side_by_side(audit, rows[start : start + ROWS_A_PICTURE])
        found[f"reconstructions-{number}.png"] = picture.png()
    curves = sweep_curves(audit)
    if curves is not None:
        found["sweeps.png"] = curves.png()
    return found
