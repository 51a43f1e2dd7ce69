"""A live source read by a thread, so that a slow screen or board does not lose samples."""

import queue
import threading

from ondevice.live.source import Chunk, EndOfSourceError, LiveSource, notes_of

MOST_CHUNKS = 4096  # waiting; then the thread waits, and what the device loses is seen as a gap
_POLL_S = 0.1


class BackgroundSource:
    """Passes on what another source gives; times of arrival are those of its thread.

    Args:
        source: Read by the thread from now on; closed with this one.
    """

    def __init__(self, source: LiveSource) -> None:
        self._source = source
        self._queue: queue.Queue[Chunk | Exception] = queue.Queue(MOST_CHUNKS)
        self._stop = threading.Event()
        self._end: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="live source", daemon=True)
        self._thread.start()

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return self._source.channels

    @property
    def rate_hz(self) -> float | None:
        """As the source promises it."""
        return self._source.rate_hz

    @property
    def notes(self) -> tuple[str, ...]:
        """What the source has to say of what has come."""
        return notes_of(self._source)

    def read(self, timeout_s: float) -> Chunk | None:
        """Returns the next chunk; see `LiveSource.read`. With 0, only what waits already."""
        if self._end is not None:
            raise self._end
        try:
            got = self._queue.get(timeout=timeout_s) if timeout_s > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(got, Exception):
            self._end = got
            raise got
        return got

    def close(self) -> None:
        """Ends the thread and closes the source."""
        self._stop.set()
        self._thread.join(timeout=2)
        self._source.close()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                chunk = self._source.read(_POLL_S)
                if chunk is not None:
                    self._put(chunk)
        except EndOfSourceError as end:
            self._put(end)
        except Exception as error:  # raised where it is read
            self._put(error)

    def _put(self, item: Chunk | Exception) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL_S)
                return
            except queue.Full:
                continue
