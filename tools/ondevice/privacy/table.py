"""An audit's rows as text."""

from __future__ import annotations

from rich.table import Table

from ondevice.privacy.results import Audit, Row

HEADER = (
    "what was sent",
    "attack",
    "bytes",
    "sent",
    "MSE",
    "PSNR",
    "SSIM",
    "labels",
    "recognisable",
    "match",
)


def audit_table(audit: Audit) -> Table:
    """One line a row."""
    count = len(audit.private)
    table = Table(
        title=f"{audit.subject.name}: {count} private samples, seed {audit.settings.seed}"
    )
    for place, name in enumerate(HEADER):
        table.add_column(name, justify="left" if place < 2 else "right")
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
