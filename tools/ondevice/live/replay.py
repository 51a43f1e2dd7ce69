"""A recording that is played again as if the sensor gave it now."""

import tomllib
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice.live.csv_lines import CsvLines
from ondevice.live.device_clock import DeviceClock, time_column
from ondevice.live.source import Chunk, EndOfSourceError

FAST_SAMPLES = 64  # at once, where nothing is waited for
_INT16 = 32768.0


@dataclass(frozen=True)
class _Recording:
    values: NDArray[np.float32]
    channels: tuple[str, ...]
    rate_hz: float | None


class ReplaySource:
    """Plays values [time, channels] at their rate, or as fast as they are read.

    Args:
        recording: What is played.
        fast: Nothing is waited for.
        clock: Seconds, monotonic.
        wait: Sleeps so many seconds.
    """

    def __init__(
        self,
        recording: _Recording,
        fast: bool,
        clock: Callable[[], float] = monotonic,
        wait: Callable[[float], None] = sleep,
    ) -> None:
        self._recording = recording
        self._fast = fast
        self._clock = clock
        self._wait = wait
        self._next = 0
        self._begun_s: float | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return self._recording.channels

    @property
    def rate_hz(self) -> float | None:
        """Of the recording; None only where it is played fast and nobody said."""
        return self._recording.rate_hz

    def read(self, timeout_s: float) -> Chunk | None:
        """Returns what is due; see `LiveSource.read`."""
        values = self._recording.values
        if self._next >= len(values):
            raise EndOfSourceError
        end = self._next + FAST_SAMPLES
        if not self._fast:
            assert self._recording.rate_hz is not None  # open_replay has refused it
            now = self._clock()
            if self._begun_s is None:
                self._begun_s = now
            due_s = self._begun_s + (self._next + 1) / self._recording.rate_hz
            if due_s > now:
                self._wait(min(due_s - now, timeout_s))
            end = int((self._clock() - self._begun_s) * self._recording.rate_hz + 1e-6)
            if end <= self._next:
                return None
        chunk = Chunk(values[self._next : end], self._clock())
        self._next = min(end, len(values))
        return chunk

    def close(self) -> None:
        """There is nothing to give back."""


def open_replay(
    path: Path,
    fast: bool = False,
    rate_hz: float | None = None,
    clock: Callable[[], float] = monotonic,
    wait: Callable[[float], None] = sleep,
) -> ReplaySource:
    """Reads a .csv or .wav file to play it.

    Args:
        path: The file.
        fast: Do not wait.
        rate_hz: Overrides what the file or its data set's dataset.toml says.
        clock: Seconds, monotonic.
        wait: Sleeps so many seconds.

    Raises:
        UserError: Unreadable, or nobody says its rate and it is to be played at it.
    """
    try:
        recording = _read_wav(path) if path.suffix.lower() == ".wav" else _read_csv(path)
    except OSError as error:
        raise UserError(f"file:{path}: {error.strerror}") from error
    rate = rate_hz or recording.rate_hz or _rate_of_data_set(path)
    if rate is None and not fast:
        raise UserError(
            f"file:{path}: at which rate? it has no column t_s and there is no dataset.toml beside "
            "it; say --rate-hz, or --fast to read it without waiting"
        )
    played = _Recording(recording.values, recording.channels, rate)
    return ReplaySource(played, fast, clock, wait)


def _read_csv(path: Path) -> _Recording:
    lines = CsvLines(f"file:{path}")
    content = path.read_bytes()
    # In pieces, as the parser is made for; the first ones have no columns yet.
    pieces = [lines.feed(content[at : at + 4096]) for at in range(0, len(content), 4096)]
    rows = [piece for piece in (*pieces, lines.end()) if len(piece)]
    if lines.layout is None or not rows:
        raise UserError(f"file:{path}: holds no row of numbers")
    values, names = np.concatenate(rows), lines.layout.names
    time = time_column(names)
    rate = None
    if time is not None:
        t_s = DeviceClock(names[time]).seconds(values[:, time])
        if len(t_s) > 1 and t_s[-1] > t_s[0]:
            rate = (len(t_s) - 1) / float(t_s[-1] - t_s[0])
        values = np.delete(values, time, axis=1)
    channels = tuple(name for i, name in enumerate(names) if i != time)
    if not channels:
        raise UserError(f"file:{path}: holds time alone")
    return _Recording(values.astype(np.float32), channels, rate)


def _read_wav(path: Path) -> _Recording:
    try:
        with wave.open(str(path)) as file:
            if file.getsampwidth() != 2:
                raise UserError(
                    f"file:{path}: {8 * file.getsampwidth()} bits a sample; allowed: 16"
                )
            count, rate = file.getnchannels(), float(file.getframerate())
            frames = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    except (wave.Error, EOFError, ValueError) as error:
        raise UserError(f"file:{path}: not a WAV file: {error}") from error
    if frames.size == 0:
        raise UserError(f"file:{path}: holds no sound")
    values = frames.reshape(-1, count).astype(np.float32) / np.float32(_INT16)
    channels = ("sound",) if count == 1 else tuple(f"sound_{i + 1}" for i in range(count))
    return _Recording(values, channels, rate)


def _rate_of_data_set(path: Path) -> float | None:
    """DIR/LABEL/TAKE.csv or DIR/train/LABEL/TAKE.csv: of DIR/dataset.toml."""
    for folder in path.absolute().parents[:3]:
        file = folder / "dataset.toml"
        if file.is_file():
            try:
                rate = tomllib.loads(file.read_text(encoding="utf-8")).get("rate_hz")
            except ValueError as error:
                raise UserError(f"{file}: not a TOML file: {error}") from error
            return float(rate) if isinstance(rate, int | float) and rate > 0 else None
    return None
