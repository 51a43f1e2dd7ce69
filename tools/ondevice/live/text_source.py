"""A live source of text: rows of numbers from a serial port, standard input or a file."""

from collections.abc import Callable
from time import monotonic
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice.live.csv_lines import CsvLines
from ondevice.live.device_clock import TIME_COLUMNS, DeviceClock, time_column
from ondevice.live.source import Chunk, EndOfSourceError

FIRST_ROW_S = 10.0  # a board may be starting


class ByteStream(Protocol):
    """Where the text comes from."""

    name: str

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        """Returns what has arrived; empty after the timeout.

        Raises:
            EndOfSourceError: There will be no more.
            UserError: The device failed.
        """

    def close(self) -> None:
        """Gives it back; may be called twice."""


class TextSource:
    """Reads rows; a column of time becomes `Chunk.device_t_s`.

    Opening it waits for the first row, which tells the channels.

    Args:
        stream: Closed with the source, also where opening fails.
        may_begin_cut: See `CsvLines`.
        first_row_s: How long the first row is waited for.
        clock: Seconds, monotonic.

    Raises:
        UserError: No row came, or none that can be read.
    """

    def __init__(
        self,
        stream: ByteStream,
        *,
        may_begin_cut: bool = False,
        first_row_s: float = FIRST_ROW_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._lines = CsvLines(stream.name, may_begin_cut)
        self._ended = False
        self._first: Chunk | None = None
        try:
            rows = self._first_rows(first_row_s)
            assert self._lines.layout is not None  # there are rows
            names = self._lines.layout.names
            time = time_column(names)
            self._time, self._device_clock = time, None
            if time is not None:
                self._device_clock = DeviceClock(names[time])
            self._channels = tuple(name for i, name in enumerate(names) if i != time)
            if not self._channels:
                raise UserError(
                    f"{stream.name}: the only column, {names[0]!r}, is time (as are "
                    f"{', '.join(TIME_COLUMNS)}); print what the sensor measures beside it"
                )
            self._first = self._chunk(rows)
        except BaseException:
            stream.close()
            raise

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order, without the column of time."""
        return self._channels

    @property
    def rate_hz(self) -> float | None:
        """None: it is measured."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of what has come so far."""
        skipped = self._lines.skipped
        if skipped == 0:
            return ()
        lines = "1 line was" if skipped == 1 else f"{skipped:,} lines were"
        return (f"{lines} no row of numbers, the last: {self._lines.last_skipped}",)

    def read(self, timeout_s: float) -> Chunk | None:
        """Waits for the next rows; see `LiveSource.read`."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        rows = self._rows(timeout_s)
        return self._chunk(rows) if len(rows) else None

    def close(self) -> None:
        """Closes the stream."""
        self._stream.close()

    def _rows(self, timeout_s: float) -> NDArray[np.float64]:
        if self._ended:
            raise EndOfSourceError
        try:
            data = self._stream.read(1 << 16, timeout_s)
        except EndOfSourceError:
            self._ended = True
            rows = self._lines.end()
            if len(rows) == 0:
                raise
            return rows
        return self._lines.feed(data)

    def _first_rows(self, timeout_s: float) -> NDArray[np.float64]:
        end = self._clock() + timeout_s
        try:
            while self._clock() < end:
                rows = self._rows(min(0.1, timeout_s))
                if len(rows):
                    return rows
        except EndOfSourceError:
            raise UserError(f"{self._stream.name}: ended {self._instead()}") from None
        raise UserError(f"{self._stream.name}: {timeout_s:g} s have passed {self._instead()}")

    def _instead(self) -> str:
        wanted = 'expected: lines of numbers, e.g. "0.12,9.81,-0.3"'
        if self._lines.skipped == 0:
            return f"without a line; {wanted}"
        return (
            f"and no line was a row of numbers ({self._lines.skipped:,} were something else, the "
            f"last: {self._lines.last_skipped}); {wanted}; a serial port of another baud rate than "
            "the sketch's gives such lines, too"
        )

    def _chunk(self, rows: NDArray[np.float64]) -> Chunk:
        now = self._clock()
        if self._time is None or self._device_clock is None:
            return Chunk(rows.astype(np.float32), now)
        device_t_s = self._device_clock.seconds(rows[:, self._time])
        return Chunk(np.delete(rows, self._time, axis=1).astype(np.float32), now, device_t_s)
