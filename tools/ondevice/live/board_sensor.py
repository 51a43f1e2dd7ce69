"""Another board's own sensor as a live source: `board:PORT`."""

from time import monotonic

from ondevice.errors import DeviceError
from ondevice.link.device import Device
from ondevice.link.messages import Failure
from ondevice.link.transport import SerialTransport
from ondevice.live.source import Chunk, EndOfSourceError
from ondevice.target import DEFAULT_BAUD

READS_PER_SECOND = 10  # samples of a tenth of a second at once


class BoardSensorSource:
    """Reads the raw samples of a board that lets them out (`--allow-export`).

    Args:
        device: Its own; closed with the source.
        rate_hz: Where the board does not know it.
    """

    def __init__(self, device: Device, rate_hz: float | None = None) -> None:
        self._device = device
        try:
            info = device.sensor.describe()
        except DeviceError:
            device.close()
            raise
        self._rate_hz = info.rate_hz or rate_hz
        self._channels = tuple(f"channel{index}" for index in range(info.channels))
        self._samples = max(1, round((self._rate_hz or READS_PER_SECOND) / READS_PER_SECOND))

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return self._channels

    @property
    def rate_hz(self) -> float | None:
        """As the board says, or as it was given."""
        return self._rate_hz

    def read(self, timeout_s: float) -> Chunk | None:
        """Waits for the board's next samples, however long that takes it."""
        try:
            values = self._device.sensor.read(self._samples)
        except DeviceError as error:
            if error.code == Failure.SENSOR:
                raise EndOfSourceError from error
            raise
        return Chunk(values, monotonic())

    def close(self) -> None:
        """Gives the board back; may be called twice."""
        self._device.close()


def open_board_sensor(place: str, rate_hz: float | None) -> BoardSensorSource:
    """Opens the sensor of the board at a serial port.

    Raises:
        UserError: No board answers there, or it has no sensor.
    """
    return BoardSensorSource(Device(SerialTransport(place, DEFAULT_BAUD)), rate_hz)
