"""One session of `ondevice record`: samples and keys go to the recorder until it ends."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from ondevice.live.recorder import Recorder, SavedTake
from ondevice.live.source import Chunk, EndOfSourceError, LiveSource, notes_of

HISTORY_S = 2.0  # is shown
HISTORY = (64, 32_000)  # samples, at least and at most
SHOW_EVERY_S = 0.125
RATE_EVERY_S = 1.0
SETTLE_S = 10.0
_POLL_S = 0.05
_LINES = 4


@dataclass(frozen=True)
class View:
    """What a screen shows.

    Attributes:
        channels: Names.
        recent: float32 [n, channels], of the last seconds; of a camera, mean colours of pictures.
        samples: Of the whole session.
        rate: Samples a second, in words.
        label: Being recorded; None: nothing.
        seconds: Length of that take.
        counts: (label, takes, seconds) of this session.
        said: The newest sentences.
    """

    channels: tuple[str, ...]
    recent: NDArray[np.float32]
    samples: int
    rate: str
    label: str | None
    seconds: float
    counts: tuple[tuple[str, int, float], ...]
    said: tuple[str, ...]


class RecordSession:
    """Runs a recorder.

    Args:
        source: Read until it ends; not closed.
        recorder: Gets its samples.
        labels: For keys 1, 2, ...
        duration_s: A take ends by itself after so long; None: it does not.
        should_stop: Ctrl-C.
        clock: Seconds, monotonic; for the screen alone.
    """

    def __init__(
        self,
        source: LiveSource,
        recorder: Recorder,
        labels: tuple[str, ...],
        duration_s: float | None,
        should_stop: Callable[[], bool],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._source = source
        self._recorder = recorder
        self._labels = labels
        self._duration_s = duration_s
        self._should_stop = should_stop
        self._clock = clock
        self._recent: deque[NDArray[np.float32]] = deque()
        self._remembered = 0  # samples in it
        self._samples = 0
        self._history = HISTORY[0]
        self._rate = "measuring ..."
        self._rated_s = float("-inf")
        self._said: deque[str] = deque(maxlen=_LINES)

    def run(self, keys: Callable[[], str], show: Callable[[View], None]) -> None:
        """Lets keys decide: 1 to 9 begin and end takes, space ends, u undoes, q leaves.

        Args:
            keys: Gives those that were pressed since it was last asked.
            show: Draws.

        Raises:
            UserError: The source failed, or its rate is not the data set's. What was recorded is
                written also then.
        """
        shown_s = float("-inf")
        try:
            while not self._should_stop():
                if not self._receive() or not all(map(self._key, keys())):
                    break
                if self._take_is_complete():
                    self._recorder.stop()
                now = self._clock()
                if now - shown_s >= SHOW_EVERY_S:
                    shown_s = now
                    self._check_rate(now)
                    show(self.view())
            self._settle()
        finally:
            self._recorder.finish()

    def run_one(self, label: str, drop_backlog: bool) -> None:
        """Records one take without keys, of `duration_s`, or until the source ends.

        Args:
            label: Class.
            drop_backlog: What had come before anybody looked (the first chunk) is not recorded.

        Raises:
            UserError: Like `run`.
        """
        if drop_backlog:
            while self._samples == 0 and not self._should_stop() and self._receive():
                pass
        self._recorder.start(label)
        try:
            while not self._should_stop() and self._receive():
                if self._recorder.label is None:  # of a camera: a picture is a take
                    self._recorder.start(label)
                    if self._recorder.saved:
                        break
                elif self._take_is_complete():
                    break
            self._settle()
        finally:
            self._recorder.finish()

    def saved(self, take: SavedTake) -> None:
        """Tells of a take that has been written."""
        length = f" ({take.seconds:.1f} s)" if take.seconds else ""
        self._said.append(f"{take.path}{length}")
        self._said.extend(f"{take.path.name}: {warning}" for warning in take.warnings)

    def view(self) -> View:
        """Returns what is to be shown now."""
        saved = self._recorder.saved
        counts = tuple(
            (
                label,
                sum(take.label == label for take in saved),
                sum(take.seconds for take in saved if take.label == label),
            )
            for label in self._labels
        )
        columns = len(self._source.channels)
        recent = np.concatenate([np.empty((0, columns), np.float32), *self._recent])
        return View(
            self._source.channels,
            recent[-self._history :],
            self._samples,
            self._rate,
            self._recorder.label,
            self._recorder.seconds,
            counts,
            (*self._said, *notes_of(self._source)),
        )

    def _receive(self) -> bool:
        """Passes on what has arrived; returns whether more may come."""
        try:
            chunk = self._source.read(_POLL_S)
        except EndOfSourceError:
            return False
        if chunk is not None:
            self._recorder.receive(chunk)
            self._remember(chunk)
        return True

    def _remember(self, chunk: Chunk) -> None:
        values = chunk.values
        if values.ndim == 4:
            values = values.mean(axis=(1, 2))
        self._samples += len(values)
        self._recent.append(values)
        self._remembered += len(values)
        while self._remembered - len(self._recent[0]) >= self._history:
            self._remembered -= len(self._recent.popleft())

    def _settle(self) -> None:
        """Ends the take; reads on for a while where the rate is not known yet."""
        self._recorder.stop()
        end_s = self._clock() + SETTLE_S
        while self._recorder.waiting and not self._should_stop() and self._clock() < end_s:
            if not self._receive():
                break

    def _take_is_complete(self) -> bool:
        return self._duration_s is not None and self._recorder.seconds >= self._duration_s

    def _key(self, key: str) -> bool:
        """Does what a key says; returns False for q."""
        if key.isdigit() and 1 <= int(key) <= len(self._labels):
            label = self._labels[int(key) - 1]
            if self._recorder.label == label:
                self._recorder.stop()
            else:
                self._recorder.start(label)
        elif key == " ":
            self._recorder.stop()
        elif key in ("u", "U"):
            undone = self._recorder.undo()
            said = "nothing to undo" if undone is None else f"undone: the last take of {undone}"
            self._said.append(said)
        return key not in ("q", "Q")

    def _check_rate(self, now: float) -> None:
        if now - self._rated_s < RATE_EVERY_S:
            return
        self._rated_s = now
        self._recorder.check_rate()
        known = self._recorder.known_rate()
        if known is not None:
            self._history = int(np.clip(HISTORY_S * known.rate_hz, *HISTORY))
        measured = self._recorder.rate()
        if known is not None and known.uncertainty_hz == 0:
            self._rate = f"{known.rate_hz:g} Hz ({known.basis})"
        elif measured is not None:
            self._rate = f"{measured}" if measured.known else f"measuring ... {measured}"
            if measured.warnings:
                self._rate += f"; {'; '.join(measured.warnings)}"
