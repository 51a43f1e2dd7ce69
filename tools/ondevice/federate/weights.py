"""The trained weights of a model, between the device's integers and real numbers.

A server averages in real numbers; a device holds Q8.8 weights and int32 biases in units of its own
model. All boards of a federation run the same compiled model, so these units are the same for all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Q88_ONE = 256  # Q8.8 units in one int8 step of a weight.
Q88_HALF = 128  # Stored Q8.8 weights are this much above their value (docs/numerics.md).
Q88_RANGE = (-127 * 256, 127 * 256 + 255)

Weights = tuple[NDArray[np.float64], ...]
"""One array of real numbers a trained weight, in the manifest's order and shapes."""


@dataclass(frozen=True)
class WeightFormat:
    """How the device stores one trained weight or bias.

    Attributes:
        index: Of the parameter, on the device.
        name: In the user's model.
        shape: In memory order; channels of the scale first.
        dtype: "int16" (Q8.8 plus one half), "int32" or "float32".
        unit: [channels or 1, 1, ...]: real value of one integer step.
        offset: Integer that stands for 0.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    unit: NDArray[np.float64]
    offset: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape))

    @property
    def size_bytes(self) -> int:
        """Bytes on the device."""
        return self.elements * np.dtype(self.dtype).itemsize

    @property
    def _limits(self) -> tuple[float, float]:
        if self.dtype == "int16":
            return Q88_RANGE
        return (-(2.0**31), 2.0**31 - 1) if self.dtype == "int32" else (-np.inf, np.inf)

    def to_real(self, content: bytes) -> NDArray[np.float64]:
        """What the device's bytes stand for."""
        stored = np.frombuffer(content, f"<{np.dtype(self.dtype).str[1:]}").reshape(self.shape)
        return (stored.astype(np.float64) - self.offset) * self.unit

    def to_device(self, real: NDArray[np.float64]) -> bytes:
        """The nearest that the device can hold, as its bytes."""
        stored = real / self.unit + self.offset
        if self.dtype != "float32":
            stored = np.clip(np.rint(stored), *self._limits)
        return np.ascontiguousarray(stored.astype(f"<{np.dtype(self.dtype).str[1:]}")).tobytes()


def weight_formats(manifest: Mapping[str, Any]) -> list[WeightFormat]:
    """The trained weights of a model: of its parameters, those that are no optimiser state."""
    formats = []
    for entry in manifest["parameters"]:
        if entry["kind"] != "parameter":
            continue
        shape, dtype = tuple(entry["shape"]), str(entry["dtype"])
        scale = np.asarray(entry["scale"] or [1.0], np.float64)
        unit = scale / Q88_ONE if dtype == "int16" else scale
        formats.append(
            WeightFormat(
                index=int(entry["index"]),
                name=str(entry["name"]),
                shape=shape,
                dtype=dtype,
                unit=unit.reshape(-1, *(1 for _ in shape[1:])),
                offset=Q88_HALF if dtype == "int16" else 0,
            )
        )
    return formats


def weights_from_device(formats: Sequence[WeightFormat], parameters: Sequence[bytes]) -> Weights:
    """Real weights of what `Device.read_parameters` gave."""
    return tuple(form.to_real(parameters[form.index]) for form in formats)


def weights_to_device(formats: Sequence[WeightFormat], weights: Weights) -> list[bytes]:
    """Bytes of each trained weight for the device, in the order of `formats`."""
    return [form.to_device(real) for form, real in zip(formats, weights, strict=True)]
