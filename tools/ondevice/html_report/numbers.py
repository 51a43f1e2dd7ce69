"""Figures as text."""

from __future__ import annotations

from ondevice.display import format_bytes

MISSING = "not measured"


def plain(value: float) -> str:
    """Returns a number of an axis: 1,200, 0.05, 2e-05."""
    if value != 0 and abs(value) < 1e-4:
        return f"{value:.3g}"
    text = f"{value:,.6f}".rstrip("0").rstrip(".")
    return text if abs(value) < 1 or len(text) < 9 else f"{value:,.0f}"


def percent(share: float | None, digits: int = 1) -> str:
    """Returns a share of 0 to 1 as 94.1 %."""
    return MISSING if share is None else f"{100 * share:.{digits}f} %"


def decimal(value: float | None) -> str:
    """Returns a loss with four digits after the point."""
    return MISSING if value is None else f"{value:.4f}"


def whole(value: float | None) -> str:
    """Returns a count as 928,075."""
    return MISSING if value is None else f"{value:,.0f}"


def size(count: int | None) -> str:
    """Returns bytes as 1,234 B or 12.3 KB."""
    return MISSING if count is None else format_bytes(count)
