"""Trained parameters with the model they belong to: files, real numbers, and back to torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ondevice.checkpoint import Checkpoint, save_checkpoint
from ondevice.errors import UserError

if TYPE_CHECKING:
    import torch

    from ondevice.api.model import Model

Q88_HALF = 128  # makes the high byte of a Q8.8 weight its rounded value


class ModelCheckpoint:
    """Parameters and optimiser state of a board, at one time.

    Example:
        >>> trained = board.checkpoint()
        >>> network.load_state_dict(trained.state_dict())
        <All keys matched successfully>

    Attributes:
        content: As the board holds it (quantised where the model is).
        model: That it belongs to.
    """

    def __init__(self, content: Checkpoint, model: Model) -> None:
        self.content, self.model = content, model

    @property
    def step(self) -> int:
        """Training steps of its run so far."""
        return self.content.step

    def save(self, path: str | Path) -> Path:
        """Writes a file for `Model.checkpoint` and `ondevice eval --checkpoint`.

        Raises:
            OSError: The folder cannot be written.
        """
        file = Path(path)
        save_checkpoint(file, self.content)
        return file

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Returns trained parameters as real numbers, by name, in the compiler's layout.

        A weight is [outputs, rows, columns, inputs of the group]; of one that is trained in part,
        it is that part, see `content.parts`. Where a batch norm was folded into a layer, it is in
        these numbers.
        """
        found: dict[str, NDArray[np.float32]] = {}
        entries = self.model.manifest["parameters"]
        for entry, values in zip(entries, self.content.arrays, strict=True):
            if entry["kind"] != "parameter":
                continue
            real = values.astype(np.float64)
            if entry["format"] == "q8.8":
                real = (real - Q88_HALF) / 256.0
            if entry["scale"]:
                scale = np.asarray(entry["scale"], np.float64)
                real = real * scale.reshape(-1, *[1] * (real.ndim - 1))
            found[entry["name"]] = real.astype(np.float32)
        return found

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the whole state of the torch module, with what was trained in place.

        What was not trained is as it was compiled. A batch norm that was folded into a trained
        layer takes up that layer's new bias, so that the module computes (in evaluation mode) what
        the board does, up to rounding.

        Returns:
            Tensors by name, for `load_state_dict`.

        Raises:
            UserError: The model was not compiled from a module or a .pt2 file, or something was
                trained that the module does not have (a replaced head, lite residual modules).
        """
        file = self.model.config.model.file
        if file is None or file.suffix != ".pt2":
            raise UserError(
                f"{file or 'the demo model'}: no torch module was compiled; arrays() has the "
                "parameters by name"
            )
        from ondevice_compiler.load.trained_module import trained_state

        parts = {name: (part["axis"], part["channels"]) for name, part in self._parts().items()}
        return trained_state(file, self.model.config.model.scheme, self.arrays(), parts)

    def _parts(self) -> dict[str, Any]:
        entries = self.model.manifest["parameters"]
        return {entry["name"]: entry["part"] for entry in entries if entry.get("part")}
