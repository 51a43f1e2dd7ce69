"""The tuning database: which tile was measured to be best, one JSON line a workload.

    {"workload": "dot pixels=144 channels=24 steps=24", "tile": [2, 4, 3], "count": 506314,
     "unit": "instructions"}

Written by `ondevice tune`; the tile is pixels, channels, unroll.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

from ondevice_compiler.atomic_file import write_text_atomically
from ondevice_compiler.errors import UserError
from ondevice_compiler.tiling.tile import Choose, Tile, Workload, candidates, default_tile

SHIPPED = Path(__file__).with_name("measured.jsonl")


@dataclass(frozen=True)
class Entry:
    """The best tile of one workload.

    Attributes:
        workload: Its text.
        tile: The best that was measured.
        count: Of the step on which it was measured.
        unit: Of the count: "instructions" (QEMU) or "cycles" (a board).
    """

    workload: str
    tile: Tile
    count: int
    unit: str = "instructions"


def read_database(path: Path) -> dict[str, Entry]:
    """Entries by workload.

    Raises:
        UserError: It cannot be read, or a line is not an entry.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot read the tuning database: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a tuning database: {error}") from error
    entries = {}
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            tile = Tile(*(int(size) for size in record["tile"]))
            entry = Entry(str(record["workload"]), tile, int(record["count"]), str(record["unit"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise UserError(
                f"{path}:{number}: not an entry of a tuning database ({error}); "
                "write it anew with `ondevice tune`"
            ) from error
        entries[entry.workload] = entry
    return entries


def write_database(path: Path, entries: Iterable[Entry]) -> None:
    """Writes entries sorted by workload, all or nothing.

    Raises:
        OSError: The folder cannot be written.
    """
    lines = [
        json.dumps(
            {"workload": e.workload, "tile": astuple(e.tile), "count": e.count, "unit": e.unit}
        )
        for e in sorted(entries, key=lambda e: e.workload)
    ]
    write_text_atomically(path, "".join(f"{line}\n" for line in lines))


def chooser(entries: Mapping[str, Entry]) -> Choose:
    """The measured tile where there is one that the workload still allows, else the default."""

    def choose(workload: Workload) -> Tile:
        entry = entries.get(workload.text)
        if entry is None or entry.tile not in candidates(workload):
            return default_tile(workload)
        return entry.tile

    return choose


def tile_choice(path: Path | None) -> Choose:
    """What a compilation uses: a database of one's own, if any, before the shipped one.

    Raises:
        UserError: The database cannot be read.
    """
    if path is None:
        return measured_tile
    return chooser({**shipped_entries(), **read_database(path)})


@cache
def shipped_entries() -> Mapping[str, Entry]:
    """The database that comes with the compiler."""
    return read_database(SHIPPED)


def measured_tile(workload: Workload) -> Tile:
    """What the shipped database says; what a compilation uses unless told otherwise."""
    return chooser(shipped_entries())(workload)
