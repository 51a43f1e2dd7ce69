"""The board's own sensor over the link (docs/PROTOCOL.md, "Sensor")."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import LinkError, UserError
from ondevice.link.channel import Channel
from ondevice.link.messages import Request
from ondevice.preprocessing import Preprocessing, from_manifest

CHANNELS_MAX = 16
_DESCRIPTION = struct.Struct("<If")
_SETUP = struct.Struct("<IIIidI")
_CHANNEL = struct.Struct("<ff")


@dataclass(frozen=True)
class SensorInfo:
    """What a board's own sensor gives.

    Attributes:
        channels: Values a sample.
        rate_hz: Samples a second; None where the board does not know.
    """

    channels: int
    rate_hz: float | None


class BoardSensor:
    """A board's own sensor; every call raises `DeviceError` where it has none, or none any more.

    Args:
        channel: Of the session.
        payload_bytes_max: Of its frames.
    """

    def __init__(self, channel: Channel, payload_bytes_max: int) -> None:
        self._channel = channel
        self._payload_bytes_max = payload_bytes_max
        self._info: SensorInfo | None = None

    def describe(self) -> SensorInfo:
        """Ask what it gives."""
        if self._info is None:
            reply = self._channel.request(Request.SENSOR_DESCRIBE)
            if len(reply) != _DESCRIPTION.size:
                raise LinkError(f"the board described its sensor in {len(reply)} bytes")
            channels, rate_hz = _DESCRIPTION.unpack(reply)
            if not 1 <= channels <= CHANNELS_MAX:
                raise LinkError(f"the board's sensor has {channels} channels; allowed: 1 to 16")
            self._info = SensorInfo(channels, rate_hz if rate_hz > 0 else None)
        return self._info

    def read(self, samples: int) -> NDArray[np.float32]:
        """Read raw samples; a board whose samples are private refuses it.

        Returns:
            float32 [n, channels]; n is less than `samples`, but not 0, where the sensor ended.
        """
        channels = self.describe().channels
        most = self._payload_bytes_max // 4 // channels
        pieces = []
        while samples > 0:
            count = min(samples, most)
            payload = count.to_bytes(4, "little")
            reply = self._channel.request(Request.SENSOR_READ, payload, computes=True)
            if not reply or len(reply) > 4 * count * channels or len(reply) % (4 * channels):
                raise LinkError(f"the board sent {len(reply)} bytes of {4 * count * channels}")
            pieces.append(np.frombuffer(reply, "<f4").reshape(-1, channels))
            if len(pieces[-1]) < count:
                break
            samples -= count
        return np.concatenate(pieces)

    def setup(self, manifest: dict[str, Any]) -> None:
        """Say how windows become the model's input: as the manifest's preprocessing does.

        Raises:
            UserError: The model was not trained on windows, or on features of sound.
        """
        self._channel.request(
            Request.SENSOR_SETUP, encode_setup(manifest, self.describe().channels)
        )

    def sense(self) -> None:
        """Fill the model's input with the next window, as `write_input` would; after `setup`."""
        self._channel.request(Request.SENSE, computes=True)


def encode_setup(manifest: dict[str, Any], channels: int) -> bytes:
    """Payload of SENSOR_SETUP.

    Args:
        manifest: Of a model with preprocessing.
        channels: Of the sensor.

    Raises:
        UserError: The sensor cannot feed this model.
    """
    table = manifest.get("preprocessing")
    preprocessing = from_manifest(table) if table is not None else Preprocessing()
    window = preprocessing.window_samples
    if window is None or preprocessing.audio is not None:
        raise UserError(
            f"model {manifest['name']!r} was not trained on plain windows of a sensor; set "
            "window.samples, and audio.features = 'none' (docs/sensor.md)"
        )
    wanted = len(preprocessing.channels)
    if wanted not in (0, channels):
        raise UserError(
            f"the board's sensor has {channels} channels, and model {manifest['name']!r} was "
            f"trained on {wanted}: {', '.join(preprocessing.channels)}"
        )
    time_stride, channel_stride = _strides(manifest, preprocessing.layout, window, channels)
    source = manifest["input"]
    is_int8 = source["dtype"] == "int8"
    setup = _SETUP.pack(
        window,
        time_stride,
        channel_stride,
        int(source["zero_point"]) if is_int8 else 0,
        float(source["scale"]) if is_int8 else 0.0,
        channels,
    )
    offsets = _each(preprocessing.offset, channels, 0.0)
    gains = _each(preprocessing.gain, channels, 1.0)
    return setup + b"".join(map(_CHANNEL.pack, offsets, gains))


def _each(values: tuple[float, ...], channels: int, default: float) -> tuple[float, ...]:
    """One number for each channel, of none, one or as many."""
    return values if len(values) == channels else (values or (default,)) * channels


def _strides(manifest: dict[str, Any], layout: str, window: int, channels: int) -> tuple[int, int]:
    """Elements of the input in memory from one sample, and one channel, to the next."""
    from ondevice_compiler.samples import to_memory_order

    shape = (channels, window) if layout == "channels_first" else (window, channels)
    places = np.arange(window * channels).reshape(shape)
    if layout == "channels_first":
        places = places.T  # [time, channel], each the place in the sample
    wanted = tuple(manifest["input"]["source_shape"][1:])
    order = to_memory_order(manifest, np.arange(window * channels).reshape(wanted)).reshape(-1)
    memory = np.empty_like(order)
    memory[order] = np.arange(len(order))  # of each place in the sample, that in memory
    found = memory[places]
    time_stride = int(found[1, 0] - found[0, 0]) if window > 1 else 0
    channel_stride = int(found[0, 1] - found[0, 0]) if channels > 1 else 0
    return time_stride, channel_stride
