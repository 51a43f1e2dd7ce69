"""Tables with named columns, from .csv and .parquet files."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ondevice.data import DataError
from ondevice.npz import NpzError, read_npz

LARGEST_BYTES = 1 << 30
DELIMITERS = "\t;,"


@dataclass(frozen=True)
class Table:
    """Columns of equal length, as text or numbers.

    Attributes:
        path: Where it was read.
        columns: By name, in order: text as list, or a NumPy array.
        first_row: Line (or row) number of the first row, for messages.
        named: False where the file names no columns; they are channel0, channel1 and so on.
    """

    path: Path
    columns: Mapping[str, Sequence[str] | NDArray[np.generic]]
    first_row: int
    named: bool = True

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Returns a column as float64.

        Raises:
            DataError: A cell is no finite number; the message gives file, row and column.
        """
        values = self.columns[name]
        try:
            array = np.asarray(values, np.float64)
        except (ValueError, TypeError):
            array = np.array([_number(value) for value in values])
        bad = np.flatnonzero(~np.isfinite(array))
        if len(bad):
            row = int(bad[0])
            raise DataError(
                f"{self.path}:{self.first_row + row}: column {name!r} holds {str(values[row])!r}; "
                f"needed: a finite number ({len(bad)} of {len(array)} rows are bad)"
            )
        return array

    def is_numeric(self, name: str) -> bool:
        """Whether the first cell of a column is a number."""
        values = self.columns[name]
        return len(values) > 0 and not np.isnan(_number(values[0]))


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")


def read_csv(path: Path) -> Table:
    """Reads text with commas, semicolons, tabs or blanks between the columns.

    Raises:
        DataError: It is no text, or its rows are of different lengths.
    """
    text = _text(path)
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise DataError(f"{path}: the file is empty; needed: a line of column names, then rows")
    delimiter = next((mark for mark in DELIMITERS if mark in lines[first]), " ")
    rows: list[list[str]] = []
    try:
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
        for cells in reader:
            found = [cell.strip() for cell in cells if cell or delimiter != " "]
            if not any(found):
                continue
            if rows and len(found) != len(rows[0]):
                raise DataError(
                    f"{path}:{reader.line_num}: {len(found)} columns, but the first line has "
                    f"{len(rows[0])}; repair or drop that line"
                )
            rows.append(found)
    except csv.Error as error:
        raise DataError(f"{path}: not a table: {error}") from error
    if not rows:
        raise DataError(f"{path}: nothing between the columns' separators")
    named = any(np.isnan(_number(cell)) for cell in rows[0])
    names = rows[0] if named else [f"channel{index}" for index in range(len(rows[0]))]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: two columns are called {twice!r}; rename one")
    body = rows[1:] if named else rows
    if not body:
        raise DataError(f"{path}: no rows below the column names")
    columns = dict(zip(names, map(list, zip(*body, strict=True)), strict=True))
    return Table(path, columns, first + 1 + named, named)


def read_parquet(path: Path) -> Table:
    """Reads a Parquet file.

    Raises:
        DataError: It is none, or the extra is not installed.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ImportError as error:
        raise DataError(
            f"{path}: reading Parquet needs pyarrow: pip install 'ondevice-training[parquet]'"
        ) from error
    try:
        table = read_table(path)
        columns = {name: table.column(name).to_numpy() for name in table.column_names}
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}") from error
    if table.num_rows == 0 or not columns:
        raise DataError(f"{path}: no rows in it")
    return Table(path, columns, 1)


def read_recording_npz(path: Path) -> Table:
    """Reads one recording: an array of [time, channels], and perhaps `channels`, their names.

    Raises:
        DataError: There is no such array, or more than one.
    """
    try:
        arrays = read_npz(path, LARGEST_BYTES)
    except (OSError, NpzError) as error:
        raise DataError(f"{path}: not a readable .npz file: {error}") from error
    names = [str(name) for name in arrays.pop("channels", ())]
    found = [array for array in arrays.values() if array.ndim == 2 and array.dtype.kind in "fiu"]
    if len(found) != 1 or not found[0].size:
        raise DataError(
            f"{path}: {len(found)} arrays of numbers [time, channels]; needed: one, in a file for "
            "each recording"
        )
    values = found[0]
    if names and len(names) != values.shape[1]:
        raise DataError(f"{path}: {len(names)} names of channels for {values.shape[1]} channels")
    names = names or [f"channel{index}" for index in range(values.shape[1])]
    return Table(path, {name: values[:, index] for index, name in enumerate(names)}, 1)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise DataError(f"{path}: larger than {LARGEST_BYTES:,} bytes; split it, or use .npz")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


TABLE_READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".txt": read_csv,
    ".parquet": read_parquet,
    ".npz": read_recording_npz,
}
