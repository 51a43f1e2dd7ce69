"""Rounds of federated learning, as requests to the board (docs/PROTOCOL.md, "Rounds")."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from ondevice.errors import LinkError
from ondevice.link.channel import Channel
from ondevice.link.messages import ADDRESS_BYTES, Region, Request, encode_write

BEGIN_ROUND = 1
BEGIN_TAKEN = 2
BEGIN_AGAIN = 4
LARGEST_MESSAGE_BYTES = 1 << 24  # more than any board's weights


@dataclass(frozen=True)
class SentChange:
    """What a board sends after a round.

    Attributes:
        message: Coded; see `ondevice.federate.delta`.
        ticks: That splitting and coding it took, in the unit of the board's counter.
    """

    message: bytes
    ticks: int


class BoardRounds:
    """Begins and ends rounds; from `Device.rounds`.

    Every call may raise `LinkError` and `DeviceError`.
    """

    def __init__(self, channel: Channel, payload_bytes_max: int) -> None:
        self._channel, self._payload_bytes_max = channel, payload_bytes_max

    def begin(self, weights: Sequence[tuple[int, bytes]], taken: bool, again: bool = False) -> None:
        """Puts the weights that a round begins with on the board; its state stays.

        Args:
            weights: Index and bytes of each trained weight, in ascending order.
            taken: What the board sent last has been averaged. Else a board that compresses adds it
                to what it has not sent.
            again: These are the weights of the running round, which is begun again. Else what it
                has learnt so far is added to what was not sent.
        """
        flags = BEGIN_ROUND | (BEGIN_TAKEN if taken else 0) | (BEGIN_AGAIN if again else 0)
        self._channel.request(Request.PARAMETERS_BEGIN, bytes([flags]), computes=True)
        step = self._payload_bytes_max - ADDRESS_BYTES
        crc = 0
        for index, data in weights:
            for offset in range(0, len(data), step):
                part = data[offset : offset + step]
                self._channel.post(encode_write(Region.PARAMETER, index, offset, part))
            crc = zlib.crc32(data, crc)
        self._channel.request(Request.PARAMETERS_COMMIT, crc.to_bytes(4, "little"), computes=True)

    def end(self) -> SentChange:
        """Lets the board compress the change since `begin`, and reads it.

        May be asked again, by another session, too: until the next `begin` the board sends the
        same bytes. It neither trains nor evaluates in between.

        Raises:
            DeviceError: No round was begun, or the model was compiled without a codec.
        """
        reply = self._channel.request(Request.ROUND_END, computes=True)
        length, ticks = struct.unpack("<II", reply)
        if length > LARGEST_MESSAGE_BYTES:
            raise LinkError(f"the board announces an update of {length} bytes; flash it again")
        message = b""
        while len(message) < length:
            offset = struct.pack("<I", len(message))
            part = self._channel.request(Request.ROUND_READ, offset, computes=True)
            if not part:
                raise LinkError(f"the board's update ends at byte {len(message)} of {length}")
            message += part
        return SentChange(message, ticks)

    def pull(self, share: float) -> None:
        """Moves the weights back towards those that the round began with.

        The proximal term of FedProx over some steps (Li et al., Federated Optimization in
        Heterogeneous Networks, 2020): weights -= share * (weights - first weights).

        Args:
            share: In [0, 1]: learning rate * mu * steps.

        Raises:
            DeviceError: No round was begun, or the model was compiled without `proximal`.
        """
        self._channel.request(Request.ROUND_PULL, struct.pack("<f", share), computes=True)
