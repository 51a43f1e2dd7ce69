"""What the device makes of one window."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice.link.messages import StepResult
from ondevice.live.picture_size import Fit, as_it_is
from ondevice.preprocessing import Preprocessing
from ondevice_compiler.samples import pack_label, pack_sample


class PredictingDevice(Protocol):
    """The part of a device that prediction uses; `ondevice.link.device.Device` is one."""

    def write_input(self, data: bytes) -> None:
        """Put one packed sample into the model's input."""

    def write_label(self, data: bytes) -> None:
        """Put one packed label into the model's label."""

    def evaluate(self) -> StepResult:
        """Forward and loss."""

    def read_output(self) -> bytes:
        """The output of that forward pass, float32."""


@dataclass(frozen=True)
class Prediction:
    """The device's answer to one window.

    Attributes:
        outputs: Probabilities of the classes, or the outputs of a regression.
        index: Of the likeliest class; None for a regression.
        name: Its name, or its number where classes have no names; "" for a regression.
    """

    outputs: tuple[float, ...]
    index: int | None
    name: str


class Predictor:
    """Sends windows to a device.

    Args:
        device: Runs the manifest's model.
        manifest: Of the compiled model.
        preprocessing: What was made of raw samples in training.
        class_names: One a class, or empty.
        fit: Of pictures: brings them to the model's size.
    """

    def __init__(
        self,
        device: PredictingDevice,
        manifest: dict[str, Any],
        preprocessing: Preprocessing,
        class_names: tuple[str, ...],
        fit: Fit = as_it_is,
    ) -> None:
        self._device = device
        self._manifest = manifest
        self._preprocessing = preprocessing
        self._fit = fit
        self._loss = str(manifest["loss"])
        self._shape = tuple(manifest["input"]["source_shape"][1:])
        count = int(manifest["output"]["count"])
        self.names = class_names or tuple(str(index) for index in range(count))
        vector = manifest["label"]["kind"] != "class"
        label = np.zeros(int(manifest["label"]["count"]), np.float32) if vector else 0
        # The forward pass is that of an evaluation, whose loss nobody looks at.
        device.write_label(pack_label(manifest, label))

    def predict(self, raw: NDArray[np.float32]) -> Prediction:
        """Predicts one sample.

        Args:
            raw: As the sensor gives it: [window, channels], [channels] or a picture [height, width,
                colours].

        Raises:
            UserError: It does not fit the model, or the link failed.
        """
        ready = self._preprocessing.sample(self._fit(raw))
        if ready.size != int(np.prod(self._shape)):
            raise UserError(
                f"a sample of the source becomes {list(ready.shape)} and the model takes "
                f"{list(self._shape)}; the source has other channels than the training data, or "
                "[window] is another one"
            )
        self._device.write_input(pack_sample(self._manifest, ready.reshape(self._shape)))
        result = self._device.evaluate()
        outputs = np.frombuffer(self._device.read_output(), "<f4").astype(np.float64)
        if self._loss == "mse":
            return Prediction(tuple(outputs.tolist()), None, "")
        shares = probabilities(outputs, self._loss)
        name = self.names[result.predicted] if result.predicted < len(self.names) else "?"
        return Prediction(tuple(shares.tolist()), result.predicted, name)


def probabilities(outputs: NDArray[np.float64], loss: str) -> NDArray[np.float64]:
    """What the loss takes a model's outputs for: a distribution, or one probability each."""
    if loss == "binary_cross_entropy":
        return np.asarray(0.5 * (1 + np.tanh(0.5 * outputs)))
    powers = np.exp(outputs - outputs.max())
    return np.asarray(powers / powers.sum())
