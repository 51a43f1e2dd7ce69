"""A profile as a bar chart: one bar a row, self-contained SVG or HTML."""

from __future__ import annotations

from html import escape
from pathlib import Path

from ondevice.profile.rows import Profile, Row
from ondevice.profile.table import cells, estimate_note, has_estimate, headings
from ondevice_compiler.atomic_file import write_bytes_atomically

WIDTH, LEFT, RIGHT, TOP, BAR, GAP = 960, 250, 150, 50, 16, 5
COLOURS = {
    "forward": "#4c72b0",
    "loss": "#937860",
    "backward": "#c44e52",
    "update": "#55a868",
    "apply": "#8172b3",
    "": "#8c8c8c",
}


def write_chart(path: Path, profile: Profile, title: str) -> None:
    """Writes the chart; with the table below it if it is HTML.

    Args:
        path: Ends in .html or .svg.
        profile: What to draw.
        title: Above the picture.
    """
    picture = _picture(profile, title)
    text = picture if path.suffix == ".svg" else _page(picture, profile, title)
    write_bytes_atomically(path, text.encode())


def _picture(profile: Profile, title: str) -> str:
    rows = [*profile.rows, profile.outside]
    longest = max(max(row.count for row in rows), 1.0)
    unit = profile.measurement.unit
    height = TOP + len(rows) * (BAR + GAP) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<text x="10" y="18" font-weight="bold">{escape(title)}</text>',
        f'<text x="10" y="36">{unit} a training step; whole step {profile.total.count:,.0f}</text>',
    ]
    for number, row in enumerate(rows):
        parts += _bar(row, TOP + number * (BAR + GAP), longest, unit)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(row: Row, y: int, longest: float, unit: str) -> list[str]:
    width = round(max(row.count, 0.0) * (WIDTH - LEFT - RIGHT) / longest, 2)
    per_mac = f", {row.per_mac:.2f} {unit}/MAC" if row.per_mac is not None else ""
    words = f"{row.name}: {row.count:,.0f} {unit}, {100 * row.share:.1f} %{per_mac}"
    middle = y + BAR - 4
    return [
        f'<text x="{LEFT - 6}" y="{middle}" text-anchor="end">{escape(row.name)}</text>',
        f'<rect x="{LEFT}" y="{y}" width="{width}" height="{BAR}" fill="{COLOURS[row.phase]}">'
        f"<title>{escape(words)}</title></rect>",
        f'<text x="{LEFT + width + 6}" y="{middle}">{row.count:,.0f} '
        f"({100 * row.share:.1f} %)</text>",
    ]


def _page(picture: str, profile: Profile, title: str) -> str:
    shown = {row.phase for row in profile.rows}
    legend = " ".join(
        f'<span style="color:{colour}">&#9632;</span> {phase or "several phases or none"}'
        for phase, colour in COLOURS.items()
        if phase in shown or not phase
    )
    lines = [headings(profile)]
    lines += [cells(profile, row) for row in (*profile.rows, profile.outside, profile.total)]
    table = "\n".join(
        "<tr>" + "".join(f"<td align='right'>{escape(cell)}</td>" for cell in line) + "</tr>"
        for line in lines
    )
    note = f"<p>{estimate_note(profile)}</p>\n"
    head = f"<head><meta charset='utf-8'><title>{escape(title)}</title></head>"
    return (
        f"<!DOCTYPE html>\n<html>{head}\n"
        f"<body style='font-family: sans-serif'>\n{picture}<p>{legend}; point at a bar.</p>\n"
        f"<table>\n{table}\n</table>\n{note if has_estimate(profile) else ''}</body></html>\n"
    )
