"""A stream goes to the device window by window until somebody or the source ends it."""

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice.live.predictor import Prediction, Predictor
from ondevice.live.rate import RateMeter
from ondevice.live.source import Chunk, EndOfSourceError, LiveSource
from ondevice.live.windows import Windows

RATE_TOLERANCE = 0.05  # from the rate of the training data
_POLL_S = 0.05
_CHECK_EVERY_S = 1.0


@dataclass(frozen=True)
class Answered:
    """A window was predicted.

    Attributes:
        window: From 1, without those that were skipped.
        sample: Samples of the stream so far.
        prediction: What the device says.
        skipped: Windows so far that the device was too slow for.
        recent: float32 [window, channels] or the picture: what it saw.
    """

    window: int
    sample: int
    prediction: Prediction
    skipped: int
    recent: NDArray[np.float32]


@dataclass
class Tally:
    """What a session has been.

    Attributes:
        windows: Predicted.
        skipped: Not predicted, since newer ones had come.
        classes: How often each was predicted.
        samples: Of the stream.
    """

    windows: int = 0
    skipped: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    samples: int = 0


class RateGuard:
    """Compares a stream's rate with that of the training data.

    Args:
        trained_hz: Of the training data; None: nobody said.
        promised_hz: Of the source; None: it is measured.
        source: For messages.
        warn: Takes a sentence instead of an error; None: it is an error.
    """

    def __init__(
        self,
        trained_hz: float | None,
        promised_hz: float | None,
        source: str,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self._trained_hz = trained_hz
        self._source = source
        self._warn = warn
        self._meter = RateMeter()
        self._checked_s = float("-inf")
        self._measures = trained_hz is not None and promised_hz is None
        if promised_hz is not None:
            self._compare(promised_hz, f"{promised_hz:g} Hz")

    def add(self, chunk: Chunk) -> None:
        """Takes note of what has come.

        Raises:
            UserError: By now the rate is known, and another one.
        """
        if not self._measures:
            return
        device = None if chunk.device_t_s is None else [float(t_s) for t_s in chunk.device_t_s]
        self._meter.add(len(chunk.values), chunk.t_s, device)
        if chunk.t_s - self._checked_s < _CHECK_EVERY_S:
            return
        self._checked_s = chunk.t_s
        rate = self._meter.rate()
        if rate is not None and rate.known:
            self._compare(rate.rate_hz, str(rate))

    def _compare(self, found_hz: float, shown: str) -> None:
        trained = self._trained_hz
        if trained is None or abs(found_hz / trained - 1) <= RATE_TOLERANCE:
            return
        what = (
            f"{self._source} gives {shown} and the model was trained on {trained:g} Hz; allowed: "
            f"within {100 * RATE_TOLERANCE:g} %"
        )
        if self._warn is None:
            raise UserError(f"{what}; set the sensor's rate, or go on all the same with --any-rate")
        self._warn(f"warning: {what}")
        self._measures = False


def predict_stream(
    source: LiveSource,
    order: list[int],
    windows: Windows | None,
    predictor: Predictor,
    guard: RateGuard,
    on_answer: Callable[[Answered], None],
    should_stop: Callable[[], bool],
    newest_only: bool,
    once: bool,
) -> Tally:
    """Predicts until the source ends, somebody stops it, or once.

    Args:
        source: Read; not closed.
        order: Its channels that the model takes, in the model's order.
        windows: Cuts the stream; None: each row or picture is a sample.
        predictor: Asks the device.
        guard: Looks at the rate.
        on_answer: Called with each prediction.
        should_stop: Ctrl-C.
        newest_only: Where several windows are waiting all but the newest are skipped: a sensor does
            not wait.
        once: Stop after the first prediction.

    Raises:
        UserError: The source or the link failed, or the rate is not the model's.
    """
    tally = Tally()
    if newest_only:  # what came while the board was being started
        for chunk in _arrived(source, everything=True):
            guard.add(chunk)
            tally.samples += len(chunk.values)
            if windows is not None:
                windows.push(chunk.values[..., order])
    while not should_stop():
        try:
            chunks = _arrived(source, newest_only)
        except EndOfSourceError:
            break
        ready: list[NDArray[np.float32]] = []
        for chunk in chunks:
            guard.add(chunk)
            tally.samples += len(chunk.values)
            values = chunk.values[..., order]
            ready += windows.push(values) if windows is not None else list(values)
        if newest_only and len(ready) > 1:
            tally.skipped += len(ready) - 1
            ready = ready[-1:]
        for raw in ready:
            if should_stop():
                break
            prediction = predictor.predict(raw)
            tally.windows += 1
            tally.classes[prediction.name] += 1
            on_answer(Answered(tally.windows, tally.samples, prediction, tally.skipped, raw))
            if once:
                return tally
    return tally


def _arrived(source: LiveSource, everything: bool) -> list[Chunk]:
    """The next chunk, or all that came while the device was busy."""
    first = source.read(_POLL_S)
    chunks = [first] if first is not None else []
    with contextlib.suppress(EndOfSourceError):  # which the next call will meet
        while everything and chunks and (more := source.read(0)) is not None:
            chunks.append(more)
    return chunks
