"""The update that the device really sends: compiled, trained on the host board, read, decoded.

The `host` board runs the generated C and the runtime of every other board, bit for bit in int8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.config import Config, Overrides, with_overrides
from ondevice.errors import UserError
from ondevice.evaluation import pack_samples
from ondevice.federate.board_round import BoardRound
from ondevice.federate.delta import Codec, decode_delta
from ondevice.federate.weights import weight_formats, weights_from_device
from ondevice.link.device import Device
from ondevice.privacy.update import Part, Update, whole
from ondevice.session import Prepared, open_session, prepare

LEAVES_OUT = (Codec.TOPK, Codec.TERNARY)
"""Codings in which an element that is 0 was not sent."""


class DeviceUpdates:
    """A board compiled with some options, that trains on what it is given; a context manager.

    Args:
        config: With model and data; the board is the host's.
        options: Keys of the section [model] over it.
        build_root: Where compiled models and firmware are kept.

    Raises:
        UserError: It cannot be compiled with these options.
    """

    def __init__(self, config: Config, options: Mapping[str, object], build_root: Path) -> None:
        tables: Overrides = {"model": dict(options), "device": {"board": "host"}}
        self._config = with_overrides(config, tables, "ondevice privacy audit")
        if self._config.model.optimizer != "sgd" or self._config.model.loss != "cross_entropy":
            raise UserError(
                f"optimizer {self._config.model.optimizer!r}, loss {self._config.model.loss!r}: "
                "an audit takes sgd and cross_entropy, whose change is the gradient times the rate"
            )
        self._prepared: Prepared = prepare(self._config, build_root, lambda line: None)
        self._session = open_session(self._config, self._prepared, build_root)

    @property
    def manifest(self) -> dict[str, Any]:
        """Of the compiled model."""
        return self._prepared.model.manifest

    def train(
        self,
        x: NDArray[np.float32],
        y: NDArray[Any],
        learning_rate: float,
        passes: int = 1,
    ) -> Update:
        """Trains on samples, from the weights as they were compiled, and reads what it would send.

        Args:
            x: [n, ...sample shape]; whole updates.
            y: [n].
            learning_rate: Of each update.
            passes: Over the samples.
        """
        device, formats = self._session.device, weight_formats(self.manifest)
        device.reset_model()
        parameters = device.read_parameters()
        before = [parameters[form.index] for form in formats]
        around = BoardRound(device, self.manifest)
        around.begin(before)
        updates = self._steps(device, x, y, learning_rate, passes)
        message = around.end()
        change = decode_delta(self.manifest, message)
        entries = {entry["name"]: entry.get("part") for entry in self.manifest["parameters"]}
        left_out = message[0] in LEAVES_OUT
        return Update(
            names=tuple(form.name for form in formats),
            parts=tuple(_part(entries[form.name]) for form in formats),
            weights=weights_from_device(formats, parameters),
            gradients=tuple(-values / (learning_rate * updates) for values in change),
            sent=tuple(values != 0 for values in change) if left_out else whole(change),
            size_bytes=len(message),
            updates=updates,
            learning_rate=learning_rate,
        )

    def _steps(
        self,
        device: Device,
        x: NDArray[np.float32],
        y: NDArray[Any],
        learning_rate: float,
        passes: int,
    ) -> int:
        every = int(self.manifest["optimizer"].get("accumulation_steps", 1))
        samples = pack_samples(self.manifest, x, y) * passes
        if len(samples) % every:
            raise UserError(f"{len(samples)} samples are no whole updates of {every}")
        for done, (sample, label) in enumerate(samples, start=1):
            device.write_input(sample)
            device.write_label(label)
            device.train(learning_rate)
            if every > 1 and done % every == 0:
                device.apply(learning_rate)
        return len(samples) // every

    def __enter__(self) -> DeviceUpdates:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session.close()


def _part(entry: Mapping[str, Any] | None) -> Part | None:
    return None if not entry else (int(entry["axis"]), list(entry["channels"]))


def with_gradients(update: Update, gradients: Sequence[NDArray[np.float64]]) -> Update:
    """The same update with other gradients, all of them sent."""
    return replace(update, gradients=tuple(gradients), sent=whole(gradients))
