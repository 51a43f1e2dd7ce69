"""Pictures of a camera, or of a video file, by OpenCV."""

from collections.abc import Callable
from time import monotonic
from typing import Any

import numpy as np

from ondevice.errors import UserError
from ondevice.live.source import Chunk, EndOfSourceError

CHANNELS = ("red", "green", "blue")


class CameraSource:
    """Gives one picture at a time: [1, height, width, 3], 0 to 1.

    Args:
        capture: An opened `cv2.VideoCapture`.
        name: For messages.
        is_file: Its end is no fault.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, capture: Any, name: str, is_file: bool, clock: Callable[[], float] = monotonic
    ) -> None:
        self._capture = capture
        self._name = name
        self._is_file = is_file
        self._clock = clock

    @property
    def channels(self) -> tuple[str, ...]:
        """The colours."""
        return CHANNELS

    @property
    def rate_hz(self) -> float | None:
        """None: what drivers say of it is often wrong."""
        return None

    def read(self, timeout_s: float) -> Chunk | None:
        """Waits for the next picture, however long the camera takes."""
        there, picture = self._capture.read()
        if not there:
            if self._is_file:
                raise EndOfSourceError
            raise UserError(
                f"{self._name}: gives no picture any more; it was unplugged, or another program "
                "took it"
            )
        rgb = np.ascontiguousarray(picture[..., ::-1])  # OpenCV has blue first
        values = rgb[np.newaxis].astype(np.float32) / np.float32(255)
        return Chunk(values, self._clock())

    def close(self) -> None:
        """Gives the camera back."""
        self._capture.release()


def open_camera(place: str, clock: Callable[[], float] = monotonic) -> CameraSource:
    """Opens a camera by its number, or a video file.

    Raises:
        UserError: OpenCV is missing, or there is no such camera or file.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            f"camera:{place}: needs OpenCV ({error}): pip install 'ondevice-training[camera]'"
        ) from error
    cv2.utils.logging.setLogLevel(0)  # what matters is said here
    is_file = not (place.isascii() and place.isdigit())
    capture = cv2.VideoCapture(place if is_file else int(place))
    if not capture.isOpened():
        capture.release()
        raise UserError(
            f"camera:{place}: no such video file, or not one that OpenCV reads"
            if is_file
            else f"camera:{place}: there is no such camera, or another program has it; numbers "
            "begin at 0, and on Linux your account must be in the group video"
        )
    return CameraSource(capture, f"camera:{place}", is_file, clock)
