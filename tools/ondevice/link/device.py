"""A board that trains, as the rest of the tool sees it."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from ondevice.errors import DeviceError, HandshakeError, LinkError, UserError
from ondevice.fault import Fault
from ondevice.link.channel import Channel, LinkStatistics, damaged_image
from ondevice.link.flash_checkpoint import (
    FlashCheckpoint,
    Which,
    decode_checkpoint,
    encode_loss,
    encode_which,
)
from ondevice.link.identity import Identity, decode_identity
from ondevice.link.messages import (
    ADDRESS_BYTES,
    Counters,
    DeviceInfo,
    Failure,
    MemoryUsage,
    Region,
    Request,
    StepResult,
    TensorInfo,
    decode_counters,
    decode_memory,
    decode_result,
    decode_tensor,
    encode_counters,
    encode_describe,
    encode_read,
    encode_schedule,
    encode_write,
)
from ondevice.link.rounds import BoardRounds
from ondevice.link.sensor import BoardSensor
from ondevice.link.timing import Timing
from ondevice.link.transport import Transport
from ondevice.schedule import Schedule

PAINT_A = 0xA5
PAINT_B = 0x5A


class Device:
    """One session with a board; a context manager.

    Opening it connects: it waits for a board that is starting and greets one that has long been
    running. Every call may raise `LinkError` (no answer, unplugged, restarted, ended) and
    `DeviceError` (refused by the board). Writes are sent at once but not waited for, so that
    ``write_input, write_label, train`` cost one round trip; a refused write is raised by the call
    after it.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        expected_model_id: str | None = None,
        expected_abi: int | None = None,
        timing: Timing | None = None,
        key: bytes | None = None,
        elf: Path | None = None,
    ) -> None:
        """Connect.

        Args:
            transport: Closed with the device, also where connecting fails.
            expected_model_id: 32 hexadecimal digits of the manifest; None accepts any model.
            expected_abi: ``abi`` of the manifest; None accepts any.
            timing: How long to wait; the defaults suit 115200 baud and slow simulators.
            key: Of the device, where its firmware has one; see `ondevice.key`.
            elf: Of the board's firmware: tells the lines of its faults.

        Raises:
            HandshakeError: No answer, or another protocol, model or key.
        """
        self._transport = transport
        self._channel = Channel(transport, timing, key, elf)
        self._parameters: list[TensorInfo] | None = None
        self._closed = False
        try:
            self._info = self._channel.connect()
            self._check(expected_model_id, expected_abi)
        except BaseException:
            transport.close()
            raise

    def _check(self, model_id: str | None, abi: int | None) -> None:
        info = self._info
        if info.image_damaged:
            raise damaged_image(info.board)
        if abi is not None and info.abi != abi:
            raise HandshakeError(
                f"the {info.board} board's firmware is of model ABI {info.abi}, not {abi}; "
                "build and flash it again with this version"
            )
        if model_id is not None and info.model_id != model_id.lower():
            raise HandshakeError(
                f"the {info.board} board runs model {info.model!r} ({info.model_id}), not the one "
                f"asked for ({model_id}); flash that one with `ondevice flash`"
            )

    @property
    def info(self) -> DeviceInfo:
        """What the board said of itself when the session began."""
        return self._info

    @property
    def last_fault(self) -> Fault | None:
        """How the board's last run ended, where it told so."""
        return self._channel.fault

    def identity(self) -> Identity:
        """Ask which chip and firmware this is, and why it started."""
        return decode_identity(self._channel.request(Request.IDENTIFY))

    @property
    def sensor(self) -> BoardSensor:
        """The board's own sensor, where it has one."""
        return BoardSensor(self._channel, self._info.payload_bytes_max)

    @property
    def rounds(self) -> BoardRounds:
        """Rounds of federated learning."""
        return BoardRounds(self._channel, self._info.payload_bytes_max)

    @property
    def link_statistics(self) -> LinkStatistics:
        """Retries, corrupt frames and bytes so far."""
        return self._channel.statistics

    def write_input(self, data: bytes) -> None:
        """Put one packed sample of ``info.input_bytes`` into the model's input."""
        self._write_whole(Region.INPUT, data, self._info.input_bytes)

    def write_label(self, data: bytes) -> None:
        """Put one packed label of ``info.label_bytes`` into the model's label."""
        self._write_whole(Region.LABEL, data, self._info.label_bytes)

    def set_schedule(self, schedule: Schedule, done_steps: int = 0) -> None:
        """Let the device compute the learning rate of each update from now on.

        The schedule ends with `reset_model` and `write_parameters`.

        Args:
            schedule: Over updates, which are fewer than samples where gradients are accumulated.
            done_steps: Updates of the schedule that are behind already.
        """
        try:
            payload = encode_schedule(schedule, done_steps)
        except OverflowError as error:
            raise _beyond_float32(schedule.learning_rate) from error
        self._channel.request(Request.SCHEDULE, payload)

    def train(self, learning_rate: float | None = None) -> StepResult:
        """Run one training step on the sample and label that were written.

        Args:
            learning_rate: None: by the schedule.

        Raises:
            DeviceError: The loss is not finite (nothing was updated), or an upload of parameters
                is incomplete.
        """
        rate = b"" if learning_rate is None else _encode_rate(learning_rate)
        return decode_result(self._channel.request(Request.TRAIN, rate, computes=True))

    def evaluate(self) -> StepResult:
        """Run the forward pass and the loss; changes no parameter."""
        return decode_result(self._channel.request(Request.EVALUATE, computes=True))

    def apply(self, learning_rate: float | None = None) -> int:
        """Update from the accumulated gradient.

        Args:
            learning_rate: None: by the schedule.

        Returns:
            Ticks that it took.

        Raises:
            DeviceError: The model updates at every step.
        """
        rate = b"" if learning_rate is None else _encode_rate(learning_rate)
        count = self._channel.request(Request.APPLY, rate, computes=True)
        return int.from_bytes(count, "little")

    def parameters(self) -> list[TensorInfo]:
        """Describe the parameters and optimiser state, in the manifest's order."""
        if self._parameters is None:
            self._parameters = [
                decode_tensor(
                    self._channel.request(
                        Request.DESCRIBE, encode_describe(Region.PARAMETER, index)
                    )
                )
                for index in range(self._info.parameter_count)
            ]
        return self._parameters

    def read_parameters(self) -> list[bytes]:
        """Read all parameters and optimiser state, in the manifest's order.

        What the board keeps to itself is zeros: optimiser state, which a restart begins with, and
        the key of noise, without which it trains no further.
        """
        return [
            bytes(tensor.bytes)
            if tensor.secret or (tensor.private and not self._info.allow_export)
            else self._read(Region.PARAMETER, index, tensor.bytes)
            for index, tensor in enumerate(self.parameters())
        ]

    def write_parameters(self, parameters: Sequence[bytes], scales: bytes | None = None) -> None:
        """Replace all parameters, and the gradient scales where given.

        Until the last byte is in place and its CRC agrees, the board refuses to train or evaluate:
        a link that dies in the middle leaves no mixture that works.

        Args:
            parameters: As from `read_parameters`.
            scales: As from `read_scales`.

        Raises:
            ValueError: Their number or a size is not the model's.
            DeviceError: The board's copy is not what was sent.
        """
        tensors = self.parameters()
        sizes = [tensor.bytes for tensor in tensors]
        if [len(data) for data in parameters] != sizes:
            raise ValueError(
                f"parameters of {[len(data) for data in parameters]} bytes; the model has {sizes}"
            )
        if scales is not None and len(scales) != self._scale_bytes:
            raise ValueError(f"{len(scales)} bytes of scales; the model has {self._scale_bytes}")
        self._channel.request(Request.PARAMETERS_BEGIN)
        crc = 0
        for index, data in enumerate(parameters):
            self._write(Region.PARAMETER, index, data)
            crc = zlib.crc32(data, crc)
        if scales is not None:
            self._write(Region.SCALES, 0, scales)
        self._channel.request(Request.PARAMETERS_COMMIT, crc.to_bytes(4, "little"), computes=True)

    def write_noise_key(self, index: int, key: bytes) -> None:
        """Give a model with noise the key of it, at any time; see `ondevice.noise_key`.

        Args:
            index: Of the parameter that holds it.
            key: 32 random bytes that were never used before.
        """
        self._write(Region.PARAMETER, index, key)

    def read_scales(self) -> bytes:
        """Read the gradient scales: 20 bytes each (``od_grad_scale_t``); empty for float32."""
        return self._read(Region.SCALES, 0, self._scale_bytes)

    def read_output(self) -> bytes:
        """Read the output of the last forward pass: ``info.output_count`` float32."""
        return self._read(Region.OUTPUT, 0, 4 * self._info.output_count)

    def profile(self) -> list[int]:
        """Read the ticks of each operator since the counters were reset, modulo 2**32.

        Returns:
            One number an operator, in the manifest's order; empty where the board keeps none.
        """
        data = self._read(Region.PROFILE, 0, 4 * self._info.profile_count)
        return list(struct.unpack(f"<{self._info.profile_count}I", data))

    def counters(self) -> Counters:
        """Read the sums since the counters were reset."""
        return decode_counters(self._channel.request(Request.READ_COUNTERS))

    def reset_counters(self, run: int = 0) -> None:
        """Set counters, saturations, zeros and the profile to 0.

        Args:
            run: The id of the run that begins, below 2**64; 0: none.
        """
        self._channel.request(Request.RESET_COUNTERS, run.to_bytes(8, "little") if run else b"")

    def set_counters(self, counters: Counters) -> None:
        """Set the counters to those of a run that goes on; after its parameters and scales.

        Args:
            counters: All but `saturated` and `zeros`, which are in the scales.
        """
        self._channel.request(Request.RESET_COUNTERS, encode_counters(counters))

    def memory(self) -> MemoryUsage:
        """Measure the memory touched since `paint` with its pattern.

        A byte that was written with the pattern's own value looks untouched: measure once with
        `PAINT_A` and once with `PAINT_B`, and take the larger.
        """
        return decode_memory(self._channel.request(Request.MEMORY, computes=True))

    def paint(self, pattern: int = PAINT_A) -> None:
        """Fill the arena and the unused stack with a pattern.

        Write input and label again afterwards: they may lie in the arena.

        Args:
            pattern: 0 to 255.
        """
        self._channel.request(Request.PAINT, bytes([pattern]), computes=True)

    def reset_model(self) -> None:
        """Put every parameter and all state back to their values in flash."""
        self._channel.request(Request.RESET_MODEL, computes=True)

    def save_checkpoint(self, loss: float | None = None) -> int:
        """Save parameters, gradient scales and counters in the board's flash.

        A power loss at any time leaves the newest whole checkpoint and the best one; the board
        starts with the newest.

        Args:
            loss: That the parameters reach, lower is better; None or not finite: unknown, and this
                checkpoint is never the best.

        Returns:
            Its number.

        Raises:
            DeviceError: The board has no flash for it, not enough, or could not write it.
        """
        number = self._channel.request(Request.CHECKPOINT_SAVE, encode_loss(loss), computes=True)
        return int.from_bytes(number, "little")

    def load_checkpoint(self, which: Which = "newest") -> FlashCheckpoint:
        """Put a checkpoint's parameters, scales and counters back; ends a schedule.

        Args:
            which: Its number, "newest" or "best".

        Raises:
            DeviceError: There is none; what the board holds is as it was.
            ValueError: A number that no checkpoint has.
        """
        found = self._channel.request(Request.CHECKPOINT_LOAD, encode_which(which), computes=True)
        return decode_checkpoint(found)

    def checkpoints(self) -> list[FlashCheckpoint]:
        """Describe the checkpoints in the board's flash, the newest first.

        Raises:
            DeviceError: The board keeps none.
        """
        found: list[FlashCheckpoint] = []
        while True:
            index = struct.pack("<I", len(found))
            try:
                reply = self._channel.request(Request.CHECKPOINT_LIST, index, computes=True)
            except DeviceError as error:
                if error.code != Failure.CHECKPOINT:
                    raise
                return found
            found.append(decode_checkpoint(reply))

    def erase_checkpoints(self) -> None:
        """Erase all checkpoints from the board's flash, also those of other models."""
        self._channel.request(Request.CHECKPOINT_ERASE, computes=True)

    def abandon(self) -> None:
        """Close the transport without a word: the link has failed, and nobody listens."""
        self._closed = True
        self._transport.close()

    def close(self) -> None:
        """Say BYE, which ends a simulated board, and close the transport."""
        if self._closed:
            return
        self._closed = True
        try:
            self._channel.bye()
        finally:
            self._transport.close()

    def __enter__(self) -> "Device":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _scale_bytes(self) -> int:
        return 20 * self._info.scale_count

    def _write_whole(self, region: Region, data: bytes, size: int) -> None:
        if len(data) != size:
            raise ValueError(f"{len(data)} bytes for the {region.name.lower()}; it has {size}")
        self._write(region, 0, data)

    def _write(self, region: Region, index: int, data: bytes) -> None:
        step = self._info.payload_bytes_max - ADDRESS_BYTES
        for offset in range(0, len(data), step):
            self._channel.post(encode_write(region, index, offset, data[offset : offset + step]))

    def _read(self, region: Region, index: int, size: int) -> bytes:
        step = self._info.payload_bytes_max
        data = bytearray()
        for offset in range(0, size, step):
            length = min(step, size - offset)
            piece = self._channel.request(Request.READ, encode_read(region, index, offset, length))
            if len(piece) != length:
                raise LinkError(
                    f"the board sent {len(piece)} of {length} bytes of {region.name}; "
                    "flash firmware of this version"
                )
            data += piece
        return bytes(data)


def _encode_rate(learning_rate: float) -> bytes:
    try:
        return struct.pack("<f", learning_rate)
    except OverflowError as error:
        raise _beyond_float32(learning_rate) from error


def _beyond_float32(learning_rate: float) -> UserError:
    return UserError(f"the learning rate {learning_rate:g} is beyond float32 (3.4e38); lower it")
