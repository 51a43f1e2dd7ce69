"""A profile as a table for people, and as records for machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.table import Table

from ondevice.profile.rows import Profile, Row

COLUMN = {"op": "operator", "layer": "layer", "phase": "phase"}


def profile_table(profile: Profile, title: str) -> Table:
    """Lays the rows out, the whole step last."""
    table = Table(title=title, box=box.SIMPLE_HEAD)
    first, *others = headings(profile)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right")
    for row in profile.rows:
        table.add_row(*cells(profile, row))
    table.add_section()
    if has_estimate(profile):
        table.caption = estimate_note(profile)
    for row in (profile.outside, profile.total):
        table.add_row(*cells(profile, row))
    return table


def headings(profile: Profile) -> list[str]:
    """What the columns of `cells` are."""
    unit = profile.measurement.unit
    names = [COLUMN[profile.group], unit, "share", "MACs", "per MAC", "bytes"]
    if has_estimate(profile):
        names += ["estimated cycles", "estimated ms"]
    elif unit == "cycles" and profile.measurement.clock_hz:
        names.append(f"ms at {_megahertz(profile)} MHz")
    return names


def cells(profile: Profile, row: Row) -> list[str]:
    """One row as text."""
    moved = row.read_bytes + row.written_bytes
    texts = [
        row.name,
        f"{row.count:,.0f}",
        f"{100 * row.share:.1f} %",
        f"{row.macs:,}" if row.macs else "",
        f"{row.per_mac:.2f}" if row.per_mac is not None else "",
        f"{moved:,}" if moved else "",
    ]
    if has_estimate(profile):
        cycles = row.estimate.cycles if row.estimate is not None else None
        texts += ["", ""] if cycles is None else [f"{cycles:,.0f}", _milliseconds(profile, cycles)]
    elif profile.measurement.unit == "cycles" and profile.measurement.clock_hz:
        texts.append(_milliseconds(profile, row.count))
    return texts


def records(profile: Profile, facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One record a row, then one of the whole step.

    Args:
        profile: What to write.
        facts: Of the model, for the last record.
    """
    for row in (*profile.rows, profile.outside):
        yield {"event": "profile_row", **_record(profile, row)}
    measured = profile.measurement
    yield {
        "event": "profile",
        **facts,
        "board": measured.board,
        "group": profile.group,
        "steps": measured.steps,
        "counter": measured.unit,
        "counter_resolution": measured.resolution,
        "clock_hz": measured.clock_hz,
        **_record(profile, profile.total),
    }


def has_estimate(profile: Profile) -> bool:
    """Whether cycles were estimated."""
    return profile.total.estimate is not None


def estimate_note(profile: Profile) -> str:
    """What must stand beside estimated figures."""
    clock = f", ms those at {_megahertz(profile)} MHz" if profile.measurement.clock_hz else ""
    return f"Cycles are an estimate from the instructions{clock}: docs/profile.md"


def _record(profile: Profile, row: Row) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": row.name,
        "phase": row.phase or None,
        profile.measurement.unit: round(row.count, 2),
        "share": round(row.share, 6),
        "macs": row.macs,
        "per_mac": None if row.per_mac is None else round(row.per_mac, 4),
        "read_bytes": row.read_bytes,
        "written_bytes": row.written_bytes,
    }
    if row.estimate is not None:
        record["cycles_estimate"] = round(row.estimate.cycles, 1)
        record["instruction_mix"] = {k: round(n, 2) for k, n in sorted(row.estimate.mix.items())}
    return record


def _megahertz(profile: Profile) -> str:
    return f"{profile.measurement.clock_hz / 1e6:g}"


def _milliseconds(profile: Profile, cycles: float) -> str:
    clock_hz = profile.measurement.clock_hz
    return f"{1000 * cycles / clock_hz:.3f}" if clock_hz else ""
