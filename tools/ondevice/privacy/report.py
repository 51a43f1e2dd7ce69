"""An audit's folder and table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from ondevice.privacy.pictures import shown_rows, side_by_side, sweep_curves
from ondevice.privacy.results import Audit, Row
from ondevice.privacy.verdict import verdict
from ondevice.run_folder import first_free
from ondevice_compiler.atomic_file import write_bytes_atomically, write_text_atomically

AUDIT_FILE = "audit.json"
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
    """Writes audit.json, pictures and curves into a new folder DATE-privacy-NAME.

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
    for name, content in pictures(audit).items():
        write_bytes_atomically(folder / name, content)
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


def audit_table(audit: Audit) -> Table:
    """One line a row."""
    count = len(audit.private)
    table = Table(
        title=f"{audit.subject.name}: {count} private samples, seed {audit.settings.seed}"
    )
    table.add_column("what was sent")
    table.add_column("attack")
    for name in ("bytes", "sent", "MSE", "PSNR", "SSIM", "labels", "recognisable", "match"):
        table.add_column(name, justify="right")
    group = ""
    for row in audit.rows:
        if group and row.scenario.group != group:
            table.add_section()
        group = row.scenario.group
        table.add_row(*cells(row))
    return table


def cells(row: Row) -> tuple[str, ...]:
    """A row's figures as text."""
    return (
        row.scenario.title,
        row.attack,
        "" if row.size_bytes is None else f"{row.size_bytes:,}",
        f"{100 * row.sent_share:.3g} %",
        f"{row.mse:.2g}",
        f"{row.psnr_db:.1f} dB",
        "–" if row.ssim is None else f"{row.ssim:.2f}",
        f"{100 * row.labels_recovered:.0f} %",
        f"{row.recognisable} of {len(row.scores)}",
        f"{row.matching_loss:.1g}",
    )
