"""The messages: their numbers, and their payloads as dataclasses (docs/PROTOCOL.md)."""

import struct
from dataclasses import dataclass
from enum import IntEnum

from ondevice.errors import LinkError
from ondevice.link.authentication import TAG_BYTES
from ondevice.schedule import Schedule


class Request(IntEnum):
    """What the host asks; the reply has the same number plus `REPLY`."""

    HELLO = 0x01
    WRITE = 0x02
    READ = 0x03
    DESCRIBE = 0x04
    IDENTIFY = 0x05
    TRAIN = 0x10
    EVALUATE = 0x11
    APPLY = 0x12
    SCHEDULE = 0x13
    READ_COUNTERS = 0x20
    RESET_COUNTERS = 0x21
    MEMORY = 0x22
    PAINT = 0x23
    PARAMETERS_BEGIN = 0x30
    PARAMETERS_COMMIT = 0x31
    RESET_MODEL = 0x32
    BYE = 0x3F
    CHECKPOINT_SAVE = 0x50
    CHECKPOINT_LOAD = 0x51
    CHECKPOINT_LIST = 0x52
    CHECKPOINT_ERASE = 0x53
    SENSOR_DESCRIBE = 0x60
    SENSOR_READ = 0x61
    SENSOR_SETUP = 0x62
    SENSE = 0x63
    ROUND_END = 0x70
    ROUND_READ = 0x71
    ROUND_PULL = 0x72


REPLY = 0x80
READY = 0xC0
NAK = 0xC1
ERROR = 0xC2
FAULT = 0xC3


class NakReason(IntEnum):
    """Why a frame was not executed."""

    CORRUPT = 1
    GAP = 2
    SESSION = 3
    VERSION = 4
    AUTHENTICATION = 5


NO_NOISE_KEY = -5  # OD_ERROR_NOISE_KEY, the detail of a Failure.MODEL


class Failure(IntEnum):
    """Why a request was refused or failed."""

    REQUEST = 1
    LENGTH = 2
    REGION = 3
    RANGE = 4
    READ_ONLY = 5
    STATE = 6
    VALUE = 7
    NUMERIC = 8
    MODEL = 9
    UNSUPPORTED = 10
    CRC = 11
    SCHEDULE = 12
    STORAGE = 13
    CHECKPOINT = 14
    PRIVATE = 15
    IMAGE = 16
    SENSOR = 17


FAILURE_TEXT = {
    Failure.REQUEST: "the firmware does not know this request; flash one of this version",
    Failure.LENGTH: "the request has a wrong length; flash firmware of this version",
    Failure.REGION: "the model has no such tensor; flash the firmware of this model",
    Failure.RANGE: "offset and length reach beyond the tensor; flash the firmware of this model",
    Failure.READ_ONLY: "the tensor cannot be written now; parameters are written by an upload",
    Failure.STATE: "the board's parameters are incomplete because an upload was cut short; "
    "upload them again or reset the model",
    Failure.VALUE: "the learning rate is not a finite number, or its schedule is out of range",
    Failure.NUMERIC: "the loss is not a finite number; nothing was updated. "
    "Lower the learning rate or look for bad values in the data",
    Failure.MODEL: "the model reported an error",
    Failure.UNSUPPORTED: "this model or board does not support it",
    Failure.CRC: "the parameters on the board are not those that were sent; upload them again",
    Failure.SCHEDULE: "no learning-rate schedule was set since the parameters were replaced",
    Failure.STORAGE: "its flash could not be written, or has no room for the checkpoint",
    Failure.CHECKPOINT: "it keeps no such checkpoint of this model; see `ondevice checkpoint list`",
    Failure.IMAGE: "its firmware is damaged; flash it again with `ondevice flash`",
    Failure.SENSOR: "its sensor gave no sample, or one that is no finite number; a recording that "
    "a simulated sensor plays may be at its end",
    Failure.PRIVATE: "its firmware was built so that this does not leave the device",
}


class Region(IntEnum):
    """Memory that can be read or written."""

    INPUT = 0
    LABEL = 1
    OUTPUT = 2
    PARAMETER = 3
    SCALES = 4
    PROFILE = 5


class ParameterKind(IntEnum):
    """What a tensor that outlives a step holds (``od_parameter_kind_t``)."""

    WEIGHT = 0
    OPTIMIZER_STATE = 1
    ACCUMULATED_GRADIENT = 2
    UPDATE_COUNT = 3
    NOISE_KEY = 4


class CounterKind(IntEnum):
    """What the board's step counter counts."""

    NONE = 0
    INSTRUCTIONS = 1
    CYCLES = 2
    NANOSECONDS = 3


@dataclass(frozen=True)
class DeviceInfo:
    """What the board says of itself and its model.

    Attributes:
        protocol: Version of the protocol.
        abi: ``OD_MODEL_ABI`` of the runtime and model.
        model_id: 32 hexadecimal digits, as in the manifest.
        model: Name of the model.
        board: Name of the board.
        counter: Unit of every `count`.
        counter_resolution: Smallest difference of two counts, in that unit.
        clock_hz: Of the CPU; 0 where unknown.
        parameters_valid: False where an upload of parameters was cut short.
        allow_export: Whether samples, gradients and optimiser state may be read.
        authenticated: Whether it only serves who has its key.
        image_damaged: Its firmware is not what was built: it executes nothing.
        payload_bytes_max: The largest payload of a frame, both ways.
        receive_bytes: What the board can hold while it is busy.
        arena_bytes: Planned arena.
        input_bytes: Of one packed sample.
        label_bytes: Of one packed label.
        output_count: Numbers in the output.
        parameter_count: Tensors of parameters and optimiser state.
        scale_count: Gradient scales.
        profile_count: Operators in the profile; 0 where the board keeps none.
        accumulation_steps: Samples an update; 1 where every step updates.
        stack_bytes: Reserve checked at link time; 0 where unknown.
        session_bytes: RAM of the link's session.
        keeps_checkpoints: It has flash for checkpoints.
        restored: Its parameters came from a checkpoint when it started.
    """

    protocol: int
    abi: int
    model_id: str
    model: str
    board: str
    counter: CounterKind
    counter_resolution: int
    clock_hz: int
    parameters_valid: bool
    allow_export: bool
    authenticated: bool
    image_damaged: bool
    payload_bytes_max: int
    receive_bytes: int
    arena_bytes: int
    input_bytes: int
    label_bytes: int
    output_count: int
    parameter_count: int
    scale_count: int
    profile_count: int
    accumulation_steps: int
    stack_bytes: int
    session_bytes: int
    keeps_checkpoints: bool = False
    restored: bool = False


@dataclass(frozen=True)
class StepResult:
    """What one sample gave.

    Attributes:
        loss: Loss of the sample.
        predicted: Index of the largest output.
        correct: Whether it is the label; False for a regression.
        count: Ticks of the whole step, in the unit of `DeviceInfo.counter`, modulo 2**32.
    """

    loss: float
    predicted: int
    correct: bool
    count: int


@dataclass(frozen=True)
class Counters:
    """Sums since the counters were reset, over training steps and evaluations.

    Attributes:
        trained: Training steps, one sample each: where the run goes on.
        evaluated: Evaluations.
        correct: Samples predicted right.
        loss_sum: Sum of their losses.
        saturated: Gradient elements that were clamped.
        zeros: Gradient elements that rounded to 0 though they were not.
        run: The run that the board is in; 0: none.
        updates: Of the parameters; fewer than `trained` where gradients accumulate.
    """

    trained: int
    evaluated: int
    correct: int
    loss_sum: float
    saturated: int
    zeros: int
    run: int = 0
    updates: int = 0


@dataclass(frozen=True)
class MemoryUsage:
    """Memory touched since it was painted.

    Attributes:
        arena_high_water_bytes: 1 + index of the last byte of the arena that changed.
        stack_high_water_bytes: The most stack used; 0 where the board does not measure it.
    """

    arena_high_water_bytes: int
    stack_high_water_bytes: int


@dataclass(frozen=True)
class TensorInfo:
    """One region as the board describes it.

    Attributes:
        name: As in the manifest.
        bytes: Its size.
        dtype: ``od_dtype_t``; 255 where it is none of them.
        kind: What a parameter holds; None where it is none.
    """

    name: str
    bytes: int
    dtype: int
    kind: ParameterKind | None

    @property
    def private(self) -> bool:
        """Whether it is made of samples, so that a board may refuse to give it."""
        return self.kind in (ParameterKind.OPTIMIZER_STATE, ParameterKind.ACCUMULATED_GRADIENT)

    @property
    def secret(self) -> bool:
        """Whether no board ever gives it."""
        return self.kind == ParameterKind.NOISE_KEY


# Flags of DEVICE_INFO.
_IMAGE_DAMAGED = 32
_PARAMETERS_VALID, _ALLOW_EXPORT, _KEEPS_CHECKPOINTS, _RESTORED, _AUTHENTICATED = 1, 2, 4, 8, 16
_INFO = struct.Struct("<I16sBBH13I")
_RESULT = struct.Struct("<fIII")
_COUNTERS = struct.Struct("<IIIdQQQI")
_COUNTERS_SET = struct.Struct("<QIIIId")
_MEMORY = struct.Struct("<II")
_TENSOR = struct.Struct("<IBB")
_ERROR = struct.Struct("<BBHi")
_SCHEDULE = struct.Struct("<B3xfIIIfI")
_ADDRESS = struct.Struct("<BBHI")
ADDRESS_BYTES = _ADDRESS.size
PAYLOAD_BYTES_MIN = 256 - TAG_BYTES  # OD_LINK_PAYLOAD_BYTES is 256 or more


def _check(payload: bytes, fits: bool, what: str) -> None:
    if not fits:
        raise LinkError(
            f"the board's {what} has an unexpected length of {len(payload)} bytes; "
            "flash firmware of this version"
        )


def _name(payload: bytes, at: int, what: str) -> tuple[str, int]:
    _check(payload, at < len(payload) and at + 1 + payload[at] <= len(payload), what)
    end = at + 1 + payload[at]
    name = payload[at + 1 : end].decode("utf-8", "replace")
    # It is shown in terminals, which obey some characters.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name), end


def decode_info(payload: bytes, protocol: int) -> DeviceInfo:
    """Decode the payload of READY or of the reply to HELLO."""
    _check(payload, len(payload) >= _INFO.size, "description")
    abi, model_id, counter, flags, payload_bytes_max, *numbers = _INFO.unpack_from(payload)
    if payload_bytes_max < PAYLOAD_BYTES_MIN:
        raise LinkError(
            f"the board takes {payload_bytes_max} bytes a frame; allowed: {PAYLOAD_BYTES_MIN} or "
            "more; flash firmware of this version"
        )
    model, end = _name(payload, _INFO.size, "description")
    board, _ = _name(payload, end, "description")
    return DeviceInfo(
        protocol=protocol,
        abi=abi,
        model_id=model_id.hex(),
        model=model,
        board=board,
        counter=CounterKind(counter) if counter in list(CounterKind) else CounterKind.NONE,
        parameters_valid=bool(flags & _PARAMETERS_VALID),
        allow_export=bool(flags & _ALLOW_EXPORT),
        authenticated=bool(flags & _AUTHENTICATED),
        image_damaged=bool(flags & _IMAGE_DAMAGED),
        payload_bytes_max=payload_bytes_max,
        receive_bytes=numbers[0],
        clock_hz=numbers[1],
        counter_resolution=numbers[2],
        arena_bytes=numbers[3],
        input_bytes=numbers[4],
        label_bytes=numbers[5],
        output_count=numbers[6],
        parameter_count=numbers[7],
        scale_count=numbers[8],
        profile_count=numbers[9],
        accumulation_steps=numbers[10],
        stack_bytes=numbers[11],
        session_bytes=numbers[12],
        keeps_checkpoints=bool(flags & _KEEPS_CHECKPOINTS),
        restored=bool(flags & _RESTORED),
    )


def decode_result(payload: bytes) -> StepResult:
    """Decode the reply to TRAIN or EVALUATE."""
    _check(payload, len(payload) == _RESULT.size, "result")
    loss, predicted, correct, count = _RESULT.unpack(payload)
    return StepResult(loss, predicted, bool(correct), count)


def decode_counters(payload: bytes) -> Counters:
    """Decode the reply to READ_COUNTERS."""
    _check(payload, len(payload) == _COUNTERS.size, "counters")
    return Counters(*_COUNTERS.unpack(payload))


def decode_memory(payload: bytes) -> MemoryUsage:
    """Decode the reply to MEMORY."""
    _check(payload, len(payload) == _MEMORY.size, "memory usage")
    return MemoryUsage(*_MEMORY.unpack(payload))


def decode_tensor(payload: bytes) -> TensorInfo:
    """Decode the reply to DESCRIBE."""
    _check(payload, len(payload) >= _TENSOR.size, "tensor description")
    size, dtype, kind = _TENSOR.unpack_from(payload)
    name, _ = _name(payload, _TENSOR.size, "tensor description")
    known = ParameterKind(kind) if kind in list(ParameterKind) else None
    return TensorInfo(name, size, dtype, known)


def decode_error(payload: bytes) -> tuple[int, int]:
    """Decode ERROR.

    Returns:
        The failure's number and its detail.
    """
    _check(payload, len(payload) == _ERROR.size, "error")
    code, _, _, detail = _ERROR.unpack(payload)
    return code, detail


def encode_write(region: Region, index: int, offset: int, data: bytes) -> bytes:
    """Payload of WRITE."""
    return _ADDRESS.pack(region, 0, index, offset) + data


def encode_read(region: Region, index: int, offset: int, length: int) -> bytes:
    """Payload of READ."""
    return _ADDRESS.pack(region, 0, index, offset) + struct.pack("<I", length)


def encode_describe(region: Region, index: int) -> bytes:
    """Payload of DESCRIBE."""
    return struct.pack("<BBH", region, 0, index)


def encode_counters(counters: Counters) -> bytes:
    """Payload of RESET_COUNTERS for a run that goes on."""
    return _COUNTERS_SET.pack(
        counters.run,
        counters.trained,
        counters.updates,
        counters.evaluated,
        counters.correct,
        counters.loss_sum,
    )


def encode_schedule(schedule: Schedule, done_steps: int) -> bytes:
    """Payload of SCHEDULE.

    Raises:
        OverflowError: The learning rate is beyond float32.
    """
    return _SCHEDULE.pack(
        schedule.kind,
        schedule.learning_rate,
        schedule.warmup_steps,
        schedule.total_steps,
        schedule.step_every,
        schedule.step_factor,
        done_steps,
    )
