"""From tables to recordings, or to independent rows where nothing is cut into windows."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.config import Config
from ondevice.data import DataError
from ondevice.datasets.folder import folder_facts, labelled_files
from ondevice.datasets.table import TABLE_READERS, Table
from ondevice.input_settings import DataSettings
from ondevice.recordings import Recording, Recordings, Samples


def read_table_file(path: Path, config: Config) -> Recordings | Samples:
    """Reads one table: with [window], rows in order; else independent rows.

    Raises:
        DataError: A column is missing or holds something else.
    """
    table = TABLE_READERS[path.suffix.lower()](path)
    settings = config.data
    if not table.named:
        raise DataError(
            f"{path}: its first line has no column names; needed: one that names the channels and "
            f"{settings.label_column!r}"
        )
    labels = _labels(table, settings)
    channels = numeric_columns(table, settings)
    values = np.stack([table.numbers(name) for name in channels], axis=1).astype(np.float32)
    if config.window.samples is None:
        origins = tuple(f"{path}:{table.first_row + row}" for row in range(len(table)))
        return Samples(values, tuple(labels), origins, None, channels, str(path))
    recordings = tuple(
        Recording(values[start:end], labels[start], f"{path}:{table.first_row + start}")
        for start, end in _stretches(table, labels, settings)
    )
    rate_hz = rate_of(table, settings.time_column)
    return Recordings(recordings, channels, rate_hz, str(path))


def read_table_folder(path: Path, config: Config) -> Recordings | Samples:
    """Reads DIR/LABEL/*.csv and the like: a file is a recording of the class of its folder.

    Raises:
        DataError: Files have different channels, or one is no table of numbers.
    """
    files = labelled_files(path, TABLE_READERS)
    facts = folder_facts(path)
    recordings = []
    channels: tuple[str, ...] | None = None
    rates = []
    for item in files:
        table = TABLE_READERS[item.path.suffix.lower()](item.path)
        found = numeric_columns(table, config.data)
        channels = channels if channels is not None else found
        if found != channels:
            raise DataError(
                f"{item.path}: its channels are {', '.join(found)}, but those of "
                f"{files[0].path} are {', '.join(channels)}; choose with data.columns"
            )
        values = np.stack([table.numbers(name) for name in found], axis=1).astype(np.float32)
        recordings.append(Recording(values, item.label, str(item.path), item.held_out))
        rates.append(rate_of(table, config.data.time_column))
    assert channels is not None
    known = [rate for rate in rates if rate is not None]
    rate_hz = facts.rate_hz if facts.rate_hz is not None else (known[0] if known else None)
    if config.window.samples is None:
        return _rows_of(recordings, channels, str(path))
    return Recordings(tuple(recordings), channels, rate_hz, str(path))


def _rows_of(recordings: Sequence[Recording], channels: tuple[str, ...], source: str) -> Samples:
    said = [r.held_out for r in recordings for _ in r.values]
    return Samples(
        np.concatenate([r.values for r in recordings]),
        tuple(r.label for r in recordings for _ in r.values),
        tuple(f"{r.origin}, row {row + 1}" for r in recordings for row in range(len(r.values))),
        tuple(bool(part) for part in said) if None not in said else None,
        channels,
        source,
    )


def _labels(table: Table, settings: DataSettings) -> Sequence[Any]:
    """A label a row: a name, a class number, or float32 [targets]."""
    if settings.targets:
        columns = [table.numbers(_known(table, name, "targets")) for name in settings.targets]
        return list(np.stack(columns, axis=1).astype(np.float32))
    values = table.columns[_known(table, settings.label_column, "label_column")]
    texts = [str(value).strip() for value in values]
    if all(text.isdecimal() for text in texts):
        return [int(text) for text in texts]
    if "" in texts:
        raise DataError(
            f"{table.path}:{table.first_row + texts.index('')}: no label in column "
            f"{settings.label_column!r}"
        )
    return texts


def _known(table: Table, name: str, setting: str) -> str:
    if name in table.columns:
        return name
    near = difflib.get_close_matches(name, table.columns, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise DataError(
        f"{table.path}: no column {name!r} (data.{setting}); there are: "
        f"{', '.join(table.columns)}{hint}"
    )


def numeric_columns(table: Table, settings: DataSettings) -> tuple[str, ...]:
    """Names of the columns that are channels: those that are named, or all numbers left.

    Raises:
        DataError: There is none, or not the one that is named.
    """
    if settings.columns and table.named:
        return tuple(_known(table, name, "columns") for name in settings.columns)
    others = {settings.label_column, settings.group_column, settings.time_column, *settings.targets}
    found = tuple(name for name in table.columns if name not in others and table.is_numeric(name))
    if not found:
        raise DataError(
            f"{table.path}: no column of numbers besides label, group and time; there are: "
            f"{', '.join(table.columns)}"
        )
    return found


def _stretches(
    table: Table, labels: Sequence[Any], settings: DataSettings
) -> list[tuple[int, int]]:
    """Rows [start, end) of one label and group, one after another."""
    groups: Sequence[Any] | NDArray[np.generic] = [""] * len(table)
    if settings.group_column is not None:
        groups = table.columns[_known(table, settings.group_column, "group_column")]
    changes = [0]
    for row in range(1, len(table)):
        if groups[row] != groups[row - 1] or not np.array_equal(labels[row], labels[row - 1]):
            changes.append(row)
    return list(zip(changes, [*changes[1:], len(table)], strict=True))


def rate_of(table: Table, time_column: str) -> float | None:
    """Samples a second, from the time column where there is one."""
    if time_column not in table.columns or len(table) < 3:
        return None
    steps = np.diff(table.numbers(time_column))
    middle = float(np.median(steps))
    return 1 / middle if middle > 0 else None
