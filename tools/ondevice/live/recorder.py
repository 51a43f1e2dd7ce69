"""Takes under labels out of a stream; knows neither keys nor screens nor the time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice.live.open import Medium
from ondevice.live.rate import Rate, RateMeter
from ondevice.live.recorded_set import RecordedSet, SetRate, TakeData
from ondevice.live.source import Chunk

_BASIS = {"arrival": "times of arrival", "device": "the device's clock"}


@dataclass
class _Take:
    """One that is being recorded, or waits for the rate to be known."""

    label: str
    begun: datetime
    begun_s: float | None
    samples: int = 0
    chunks: list[Chunk] = field(default_factory=list)
    meter: RateMeter = field(default_factory=RateMeter)

    def seconds(self, rate_hz: float | None) -> float:
        """How long it is, by the rate where it is known, else by the clocks."""
        if not self.chunks:
            return 0.0
        if rate_hz is not None:
            return self.samples / rate_hz
        first, last = self.chunks[0], self.chunks[-1]
        if first.device_t_s is not None and last.device_t_s is not None:
            return float(last.device_t_s[-1] - first.device_t_s[0])
        return last.t_s - (self.begun_s if self.begun_s is not None else first.t_s)


@dataclass(frozen=True)
class SavedTake:
    """A take on disk.

    Attributes:
        label: Class.
        path: File.
        samples: Of the file; 1 for a picture.
        seconds: How long; 0 for a picture.
        warnings: What is wrong with it.
    """

    label: str
    path: Path
    samples: int
    seconds: float
    warnings: tuple[str, ...]


class Recorder:
    """Receives samples and writes those of takes.

    Args:
        data_set: Where takes go.
        medium: What is recorded; of pictures each take is one.
        fixed_rate: What the source promises or the person says; None: it is measured.
        now: Names the files.
        on_saved: Called with each take that has been written.

    Attributes:
        meter: Of the whole stream since the beginning.
        saved: Takes of this session, without those that were undone.
    """

    def __init__(
        self,
        data_set: RecordedSet,
        medium: Medium,
        fixed_rate: SetRate | None = None,
        now: Callable[[], datetime] = datetime.now,
        on_saved: Callable[[SavedTake], None] = lambda take: None,
    ) -> None:
        self.meter = RateMeter()
        self.saved: list[SavedTake] = []
        self._set = data_set
        self._medium = medium
        self._fixed = fixed_rate
        self._now = now
        self._on_saved = on_saved
        self._take: _Take | None = None
        self._waiting: list[_Take] = []
        self._last_s: float | None = None
        self._picture: NDArray[np.float32] | None = None

    @property
    def label(self) -> str | None:
        """What is being recorded; None: nothing."""
        return self._take.label if self._take is not None else None

    @property
    def seconds(self) -> float:
        """Length of the take that is being recorded."""
        rate = self._fixed.rate_hz if self._fixed is not None else None
        return self._take.seconds(rate) if self._take is not None else 0.0

    @property
    def waiting(self) -> int:
        """Takes that are complete and are written as soon as the rate is known."""
        return len(self._waiting)

    def rate(self) -> Rate | None:
        """What has been measured by now; None: too little, or nothing to measure."""
        return self.meter.rate() if self._medium == "series" else None

    def receive(self, chunk: Chunk) -> None:
        """Takes samples that have arrived.

        Raises:
            UserError: The rate is known by now and is not the data set's.
        """
        if self._medium == "picture":
            self._picture = chunk.values[-1]
            return
        device = None if chunk.device_t_s is None else [float(t_s) for t_s in chunk.device_t_s]
        self.meter.add(len(chunk.values), chunk.t_s, device)
        if self._take is not None:
            self._take.chunks.append(chunk)
            self._take.samples += len(chunk.values)
            self._take.meter.add(len(chunk.values), chunk.t_s, device)
        self._last_s = chunk.t_s
        if self._waiting:
            self._write_waiting()

    def start(self, label: str) -> None:
        """Begins a take; one that is being recorded ends. Of a camera: saves its last picture."""
        self.stop()
        if self._medium == "picture":
            if self._picture is not None:
                self._save_picture(label, self._picture)
            return
        self._take = _Take(label, self._now(), self._last_s)

    def stop(self) -> None:
        """Ends the take that is being recorded, if one is; an empty one leaves nothing."""
        take, self._take = self._take, None
        if take is not None and take.chunks:
            self._waiting.append(take)
            self._write_waiting()

    def undo(self) -> str | None:
        """Throws the newest take away, also one that is being recorded.

        Returns:
            Its label; None: there is none.
        """
        if self._take is not None:
            label, self._take = self._take.label, None
            return label
        if self._waiting:
            return self._waiting.pop().label
        if self.saved:
            take = self.saved.pop()
            self._set.remove(take.path)
            return take.label
        return None

    def finish(self) -> None:
        """Ends the take that is being recorded and writes all there is.

        Raises:
            UserError: There are takes whose rate could not be measured; they are lost.
        """
        self.stop()
        if self._waiting:
            measured = self.rate()
            found = f"{measured}" if measured is not None else "nothing yet"
            lost, self._waiting = len(self._waiting), []
            raise UserError(
                f"{lost} take{'s' if lost > 1 else ''} not saved: the sample rate is not known "
                f"(measured: {found}; needed: at least 1 s and 10 arrivals, and an uncertainty of "
                "at most 2 %); record for longer, or say the rate with --rate-hz"
            )
        if self.saved and self._medium != "picture":
            self._set.write_facts(self.known_rate())

    def check_rate(self) -> None:
        """Refuses the source, as soon as its rate is known, where the data set has another one.

        Raises:
            UserError: By the data set.
        """
        rate = self.known_rate() if self._medium != "picture" else None
        if rate is not None:
            self._set.check_rate(rate)

    def known_rate(self) -> SetRate | None:
        """The rate as it would be written down; None: not known yet."""
        if self._fixed is not None:
            return self._fixed
        measured = self.rate()
        if measured is None or not measured.known:
            return None
        return SetRate(measured.rate_hz, measured.uncertainty_hz, _BASIS[measured.basis])

    def _write_waiting(self) -> None:
        rate = self.known_rate()
        if rate is None:
            return
        complete, self._waiting = self._waiting, []
        for take in complete:
            self._save(take, rate)

    def _save(self, take: _Take, rate: SetRate) -> None:
        device = [chunk.device_t_s for chunk in take.chunks if chunk.device_t_s is not None]
        data = TakeData(
            np.concatenate([chunk.values for chunk in take.chunks]),
            np.concatenate(device) if len(device) == len(take.chunks) else None,
            take.begun,
        )
        measured = take.meter.rate() if self._medium == "series" and self._fixed is None else None
        warnings = measured.warnings if measured is not None else ()
        path = self._set.add(take.label, data, rate)
        seconds = take.samples / rate.rate_hz
        self._note(SavedTake(take.label, path, take.samples, seconds, warnings))

    def _save_picture(self, label: str, picture: NDArray[np.float32]) -> None:
        path = self._set.add(label, TakeData(picture, None, self._now()), None)
        self._note(SavedTake(label, path, 1, 0.0, ()))

    def _note(self, take: SavedTake) -> None:
        self.saved.append(take)
        self._on_saved(take)
