"""One round on one board: global weights in, local training by the caller, the change out."""

from collections.abc import Mapping, Sequence
from typing import Any

from ondevice.federate.delta import encode_dense
from ondevice.federate.weights import weight_formats
from ondevice.link.device import Device
from ondevice.noise_key import renew_noise_key


class BoardRound:
    """What a round asks of a board, whatever the model was compiled to send.

    A board that restarts in the middle is begun again; the caller then trains again from the same
    weights.

    Attributes:
        ticks: That the board took to compress its last change, in the unit of its counter.
    """

    def __init__(self, device: Device, manifest: Mapping[str, Any]) -> None:
        self._device = device
        self._manifest = manifest
        self._formats = weight_formats(manifest)
        self._compresses = manifest["round"]["codec"] != "none"
        self._before: Sequence[bytes] = ()
        self.ticks = 0

    def begin(self, weights: Sequence[bytes], taken: bool = True, again: bool = False) -> None:
        """Puts the global weights on the board; optimiser state and gradient scales stay.

        Args:
            weights: Bytes of each trained weight, in the manifest's order.
            taken: The server has averaged what this board sent last. Where it has not, a board that
                compresses adds it to what it has not sent; else it is lost.
            again: The same round once more, after a failure: whether or not the board has
                restarted, nothing of the first attempt remains.

        Raises:
            LinkError: The link failed.
            DeviceError: The board refused them.
        """
        indexed = [(f.index, content) for f, content in zip(self._formats, weights, strict=True)]
        self._device.rounds.begin(indexed, taken, again)
        renew_noise_key(self._device, self._manifest)
        self._before = weights

    def end(self) -> bytes:
        """The change since `begin`, coded as the model was compiled (`decode_delta`).

        Raises:
            LinkError: The link failed.
            DeviceError: No round was begun.
        """
        if self._compresses:
            sent = self._device.rounds.end()
            self.ticks = sent.ticks
            return sent.message
        parameters = self._device.read_parameters()
        after = [parameters[form.index] for form in self._formats]
        return encode_dense(self._formats, self._before, after)
