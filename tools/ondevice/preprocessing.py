"""What is made of a sensor's samples before a model sees them: the same everywhere.

Training, evaluation, live prediction and the board's own sensor apply one `Preprocessing`, which
the manifest keeps: windows are cut, features computed, each channel normalised, axes ordered.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice.input_settings import AudioSettings, NormaliseSettings, WindowSettings

AUDIO_SCALE = 32768.0  # int16 sound is -1 to 1


@dataclass(frozen=True)
class Preprocessing:
    """From raw samples [time, channels] or pictures [height, width, colours] to a model's input.

    Attributes:
        channels: Names, in order; empty where they have none.
        rate_hz: Samples a second; None where nobody said.
        window_samples: Length of a window; None: a sample is given whole.
        stride_samples: From one training window to the next.
        layout: "channels_first" or "channels_last".
        offset: Of each channel (after features), or one for all: float32 values.
        gain: Likewise; a channel becomes (value - offset) * gain, in float32.
        audio: Features of sound; None: none.
        class_names: What the classes are called, in order; empty where they are numbers.
    """

    channels: tuple[str, ...] = ()
    rate_hz: float | None = None
    window_samples: int | None = None
    stride_samples: int | None = None
    layout: str = "channels_first"
    offset: tuple[float, ...] = ()
    gain: tuple[float, ...] = ()
    audio: AudioSettings | None = None
    class_names: tuple[str, ...] = ()

    def sample(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Makes one sample of a window [window_samples, channels] or a picture, all the way.

        Returns:
            float32 [sample shape], as a data set's `x` holds it.
        """
        (sample,) = self.apply(np.asarray(raw, np.float32)[None])
        return np.asarray(sample, np.float32)

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Makes samples of what was cut already: [n, window_samples, channels] or pictures."""
        return self.finish(self.with_features(values))

    def with_features(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Computes the features of sound, where the settings ask for them.

        Args:
            values: [n, window_samples, channels], cut.

        Returns:
            float32 [n, frames, bands, 1], or `values` as they are.
        """
        if self.audio is None or self.audio.features == "none":
            return values
        from ondevice.features.compute import compute

        return compute(self.audio, values)

    def finish(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalises and orders axes: the last part of the way, also on the device.

        Args:
            values: [n, ..., channels], cut, and features where there are any.

        Returns:
            float32 [n, ...sample shape].
        """
        values = np.asarray(values, np.float32)
        if self.gain:
            values = (values - np.array(self.offset, np.float32)) * np.array(self.gain, np.float32)
        if self.layout == "channels_first":
            values = np.moveaxis(values, -1, 1)
        return np.ascontiguousarray(values)


def preprocessing_for(
    window: WindowSettings,
    channels: tuple[str, ...] = (),
    rate_hz: float | None = None,
    audio: AudioSettings | None = None,
) -> Preprocessing:
    """Returns what the settings declare, before normalisation is fitted."""
    stride = window.stride
    if stride is None and window.samples is not None:
        stride = max(window.samples // 2, 1)
    return Preprocessing(channels, rate_hz, window.samples, stride, window.layout, audio=audio)


def cut_windows(values: NDArray[np.float32], length: int, stride: int) -> NDArray[np.float32]:
    """Cuts a recording [time, channels] into windows [n, length, channels]; n may be 0."""
    starts = range(0, len(values) - length + 1, stride)
    if not starts:
        return np.empty((0, length, *values.shape[1:]), np.float32)
    return np.stack([values[start : start + length] for start in starts]).astype(np.float32)


def with_normalisation(
    preprocessing: Preprocessing, settings: NormaliseSettings, values: NDArray[np.float32]
) -> Preprocessing:
    """Fits the normalisation on training data.

    Args:
        preprocessing: Without it.
        settings: Method, or given numbers.
        values: Of the training part alone: [n, ..., channels], cut, and features.

    Raises:
        UserError: The given numbers do not fit the channels.
    """
    offset, gain = _normalisation(settings, values)
    return replace(preprocessing, offset=_floats(offset), gain=_floats(gain))


def _normalisation(
    settings: NormaliseSettings, values: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count = values.shape[-1]
    flat = values.reshape(-1, count).astype(np.float64)
    if settings.method == "given":
        gain = np.array(settings.gain or (1.0,))
        offset = np.array(settings.offset or (0.0,))
        for name, given in (("offset", offset), ("gain", gain)):
            if len(given) not in (1, count):
                raise UserError(
                    f"normalise.{name} has {len(given)} numbers; allowed: 1, or one for each of "
                    f"the {count} channels"
                )
        return offset, gain
    zero = np.zeros(count)
    if settings.method == "standard":
        return flat.mean(axis=0), _inverse(flat.std(axis=0))
    if settings.method == "rms":
        return zero, _inverse(np.sqrt(np.mean(flat**2, axis=0)))
    if settings.method == "range":
        low = flat.min(axis=0)
        return low, _inverse(flat.max(axis=0) - low)
    return np.empty(0), np.empty(0)


def _inverse(spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """A channel that never changes stays as it is."""
    return np.where(spread > 0, 1 / np.where(spread > 0, spread, 1.0), 1.0)


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    """The float32 values, which the board has, too."""
    return tuple(float(value) for value in values.astype(np.float32))


def to_manifest(preprocessing: Preprocessing) -> dict[str, Any]:
    """Returns the manifest's table `preprocessing`."""
    return asdict(preprocessing)


def from_manifest(table: dict[str, Any]) -> Preprocessing:
    """Reads what `to_manifest` gave, also after JSON made lists of its tuples.

    Raises:
        UserError: It is of another version, or damaged.
    """
    try:
        read: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
        }
        audio = read.pop("audio", None)
        return Preprocessing(**read, audio=AudioSettings(**audio) if audio else None)
    except TypeError as error:
        raise UserError(f"manifest: preprocessing: {error}; compile the model again") from error
