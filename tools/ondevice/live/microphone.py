"""A microphone, by PortAudio: `microphone[:DEVICE]`."""

import queue
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.datasets.wav import CHANNELS
from ondevice.errors import UserError
from ondevice.live.source import Chunk

DEFAULT_RATE_HZ = 16000.0
BLOCKS_KEPT = 1000  # of about a hundredth of a second; older ones are dropped and counted


class MicrophoneSource:
    """Sound as it arrives, -1 to 1.

    Args:
        stream: Of sounddevice, open and running.
        blocks: What its callback fills, with the time of arrival.
        rate_hz: Of the stream.
    """

    def __init__(
        self,
        stream: Any,
        blocks: "queue.Queue[tuple[NDArray[np.float32], float]]",
        rate_hz: float,
    ) -> None:
        self._stream = stream
        self._blocks = blocks
        self._rate_hz = rate_hz

    @property
    def channels(self) -> tuple[str, ...]:
        """One, called sound."""
        return CHANNELS

    @property
    def rate_hz(self) -> float | None:
        """As the device was opened."""
        return self._rate_hz

    def read(self, timeout_s: float) -> Chunk | None:
        """Waits for the next block."""
        try:
            values, t_s = self._blocks.get(timeout=timeout_s)
        except queue.Empty:
            return None
        return Chunk(values, t_s)

    def close(self) -> None:
        """Gives the microphone back; may be called twice."""
        self._stream.close()


def open_microphone(place: str, rate_hz: float | None) -> MicrophoneSource:
    """Opens a microphone.

    Args:
        place: Its number or name, as sounddevice lists them; empty: the default.
        rate_hz: Wanted; None: 16 kHz.

    Raises:
        UserError: No PortAudio, no such microphone, or it is in use.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: PortAudio is missing
        raise UserError(
            "a microphone needs sounddevice and PortAudio: "
            "pip install 'ondevice-training[audio]' and, on Debian, apt-get install libportaudio2 "
            f"({error})"
        ) from error
    rate = rate_hz or DEFAULT_RATE_HZ
    blocks: queue.Queue[tuple[NDArray[np.float32], float]] = queue.Queue(BLOCKS_KEPT)

    def take(data: NDArray[np.float32], frames: int, times: Any, status: Any) -> None:
        if blocks.full():
            blocks.get_nowait()  # nobody reads: the newest sound is worth more
        blocks.put_nowait((data.copy(), monotonic()))

    device = int(place) if place.isdecimal() else place or None
    try:
        stream = sounddevice.InputStream(
            samplerate=rate, channels=1, dtype="float32", device=device, callback=take
        )
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise UserError(
            f"microphone {place or '(the default)'} cannot be opened at {rate:g} Hz: {error}; "
            "`python -m sounddevice` lists what there is"
        ) from error
    return MicrophoneSource(stream, blocks, rate)
