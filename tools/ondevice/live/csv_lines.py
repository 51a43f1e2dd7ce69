"""Lines of numbers as they arrive, whatever an Arduino sketch puts between them.

Comma, semicolon, tab or blanks; a header line of names, or names in each field as the Serial
Plotter takes them (`ax:0.1,ay:0.2`). Nothing that arrives can crash or fill the memory: a line that
is no row of numbers is counted, a line without end is dropped, and only what a person must mend is
an error.
"""

import re
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError

LONGEST_LINE_BYTES = 4096
MOST_COLUMNS = 256
SAME_FAULT_LINES = 3  # one odd line is a lost byte; so many in a row are another sketch
_FLOAT32_OVERFLOW = 3.4028235677973366e38  # what is rounded to infinity
_NO_NAMES = ("nan", "inf", "-nan", "-inf", "ovf")  # what a sketch prints of such floats
_SHOWN = 80  # characters of a line in a message

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?", re.ASCII)
_AROUND = re.compile(r"\s*([,;:])\s*")  # blanks around what separates say nothing


@dataclass(frozen=True)
class _Header:
    separator: str | None
    names: tuple[str, ...]
    shown: str
    skipped_before: str


@dataclass(frozen=True)
class Layout:
    """How the rows of a stream look.

    Attributes:
        names: One a column.
        separator: Character; None: blanks.
        named_fields: Each field says its name.
    """

    names: tuple[str, ...]
    separator: str | None
    named_fields: bool


class CsvLines:
    """Turns bytes into rows of numbers.

    Args:
        source: Name for messages.
        may_begin_cut: A first line of numbers is dropped, since its beginning may be missing. One
            of names is kept: a board that has just started prints it.

    Attributes:
        layout: None until the first row has come.
        skipped: Lines that were no row.
        last_skipped: The last of them, shortened.
    """

    def __init__(self, source: str, may_begin_cut: bool = False) -> None:
        self.layout: Layout | None = None
        self.skipped = 0
        self.last_skipped = ""
        self._source = source
        self._rest = b""
        self._too_long = False
        self._may_be_cut = may_begin_cut
        # Lines before the first row that may be the names of its columns.
        self._headers: deque[_Header] = deque(maxlen=8)
        self._odd_lines = 0

    def feed(self, data: bytes) -> NDArray[np.float64]:
        """Takes bytes and returns the rows that they complete.

        Returns:
            [n, columns], n may be 0; columns is 0 while `layout` is None.

        Raises:
            UserError: Decimal commas, or rows of another number of columns than before.
        """
        lines = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop()
        rows = [row for line in lines if (row := self._complete(line)) is not None]
        if len(self._rest) > LONGEST_LINE_BYTES:
            if not self._too_long:
                self._skip(f"{len(self._rest):,} bytes without a line's end")
            self._rest, self._too_long = b"", True
        return self._array(rows)

    def end(self) -> NDArray[np.float64]:
        """Takes what stands after the last line's end as a line; there is nothing more to come."""
        row = self._complete(self._rest)
        self._rest = b""
        return self._array([row] if row is not None else [])

    def _array(self, rows: list[list[float]]) -> NDArray[np.float64]:
        columns = len(self.layout.names) if self.layout is not None else 0
        return np.array(rows, np.float64).reshape(len(rows), columns)

    def _complete(self, line: bytes) -> list[float] | None:
        if self._too_long:  # the end of what was dropped
            self._too_long = False
            return None
        text = line.decode("utf-8", "replace").strip("\ufeff\0 \t\v\f")
        if not text:
            return None
        if len(line) > LONGEST_LINE_BYTES:
            self._skip(text)
            return None
        return self._row(text)

    def _row(self, text: str) -> list[float] | None:
        tidy = _AROUND.sub(r"\1", text)
        layout = self.layout
        separator = layout.separator if layout is not None else _separator(tidy)
        fields = _fields(tidy, separator)
        names, values = _numbers(fields)
        cut, self._may_be_cut = self._may_be_cut, False
        if layout is None:
            if values is None:
                if not cut and _has_decimal_commas(fields):
                    raise self._decimal_commas(text)
                if not self._is_header(text, separator, fields) and not cut:
                    self._skip(text)
                return None
            if cut:
                return None
            self._begin(text, separator, names, values)
            return values
        if values is not None and len(values) == len(layout.names):
            if names == (layout.names if layout.named_fields else None):
                self._odd_lines = 0
                return values
        elif values is None and tuple(fields) == layout.names:
            return None  # the header once more: the board has started again
        self._odd(text, layout, fields, values)
        return None

    def _is_header(self, text: str, separator: str | None, fields: list[str]) -> bool:
        """Remembers what may be the names of the columns; the first row decides."""
        names = tuple(name.strip("\"'") for name in fields)
        plain = all(name.isprintable() and 0 < len(name) <= 64 for name in names)
        numbers = any(_NUMBER.fullmatch(name) or name.lower() in _NO_NAMES for name in names)
        if plain and not numbers and len(set(names)) == len(names) and ":" not in text:
            before = self.last_skipped
            self._skip(text)
            self._headers.append(_Header(separator, names, self.last_skipped, before))
            return True
        return False

    def _begin(
        self, text: str, separator: str | None, names: tuple[str, ...] | None, values: list[float]
    ) -> None:
        """The first row says how all of them look."""
        count = len(values)
        if names is not None and len(set(names)) < count:
            raise UserError(f"{self._source}: {_shown(text)} names a channel twice")
        same = [header for header in self._headers if header.separator == separator]
        fitting = [h for h in (self._headers if count == 1 else same) if len(h.names) == count]
        if names is None and fitting:
            names_here = fitting[-1].names
            self.skipped -= 1  # that line was one to be read
            if self.last_skipped == fitting[-1].shown:
                self.last_skipped = fitting[-1].skipped_before
        else:
            halves = [header for header in same if 2 * len(header.names) == count]
            if separator == "," and halves and "." not in text:
                raise self._decimal_commas(text)
            names_here = names or tuple(f"channel_{index + 1}" for index in range(count))
        self.layout = Layout(names_here, separator, names is not None)

    def _odd(
        self, text: str, layout: Layout, fields: list[str], values: list[float] | None
    ) -> None:
        self._skip(text)
        decimal_commas = _has_decimal_commas(fields)
        if values is None and not decimal_commas:
            return
        self._odd_lines += 1
        if self._odd_lines >= SAME_FAULT_LINES:
            if decimal_commas:
                raise self._decimal_commas(text)
            raise UserError(
                f"{self._source}: {_shown(text)} has {len(fields)} columns, and there were "
                f"{len(layout.names)} ({', '.join(layout.names)}); what sends must print the same "
                "columns in each line"
            )

    def _decimal_commas(self, text: str) -> UserError:
        return UserError(
            f"{self._source}: {_shown(text)} has decimal commas; print numbers with a point (0.5)"
        )

    def _skip(self, text: str) -> None:
        self.skipped += 1
        self.last_skipped = _shown(text)


def _separator(text: str) -> str | None:
    if ";" in text:
        return ";"
    if "\t" in text:
        return "\t"
    # "1,5 2,5": blanks separate, the comma is of a decimal.
    decimals = [_DECIMAL_COMMA.fullmatch(field) for field in text.split()]
    if "," in text and not (len(decimals) > 1 and all(decimals)):
        return ","
    return None


def _fields(text: str, separator: str | None) -> list[str]:
    fields = text.split(separator, MOST_COLUMNS)
    if len(fields) > 1 and fields[-1] == "":
        fields.pop()  # a sketch's loop prints a separator behind each value
    return [field.strip() for field in fields]


def _numbers(fields: list[str]) -> tuple[tuple[str, ...] | None, list[float] | None]:
    """Names, where fields have them, and finite values; None where it is no row of numbers."""
    names: list[str] = []
    values: list[float] = []
    for field in fields:
        name, colon, number = field.rpartition(":")
        if not _NUMBER.fullmatch(number) or bool(colon) != bool(name):
            return None, None
        value = float(number)
        if not abs(value) < _FLOAT32_OVERFLOW:
            return None, None
        names.append(name)
        values.append(value)
    if len(values) > MOST_COLUMNS or not (all(names) or not any(names)):
        return None, None
    return tuple(names) if names[0] else None, values


def _has_decimal_commas(fields: list[str]) -> bool:
    commas = [_DECIMAL_COMMA.fullmatch(field) is not None for field in fields]
    others = [field for field, comma in zip(fields, commas, strict=True) if not comma]
    return any(commas) and all(_NUMBER.fullmatch(field) for field in others)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
