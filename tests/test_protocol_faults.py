"""The device's side in a process (with sanitizers) behind a line that does everything wrong."""

import random
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from spoilt_line import FAULTS, FaultyTransport

from ondevice.errors import DeviceError, HandshakeError, LinkError, UserError
from ondevice.link.device import PAINT_A, PAINT_B, Device
from ondevice.link.framing import Frame, encode_frame
from ondevice.link.messages import READY, CounterKind, Failure, Request, StepResult
from ondevice.link.timing import Timing
from ondevice.link.transport import ProcessTransport, Transport

IMPATIENT = Timing(retry_s=0.003, reply_s=20.0, command_s=20.0, connect_s=20.0)


@pytest.fixture
def device(fake_device: Path) -> Device:
    return Device(ProcessTransport([str(fake_device)]), timing=IMPATIENT)


def sample(seed: int) -> tuple[bytes, bytes]:
    """A sample and its label, 0 to 255."""
    source = random.Random(seed)
    return source.randbytes(600), source.randrange(256).to_bytes(4, "little")


def hash_of(start: int, data: bytes, label: bytes) -> int:
    for byte in data:
        start = (start * 31 + byte) & 0xFFFFFFFF
    return (start * 31 + int.from_bytes(label, "little")) & 0xFFFFFFFF


class FakeModel:
    """What tests/c/fake_model.c computes, again."""

    def __init__(self) -> None:
        self.weights = [0, 1, 2, 3]
        self.table = bytearray(i * 7 & 255 for i in range(3000))

    def result(self, data: bytes, label: bytes) -> tuple[float, int, bool]:
        loss = (hash_of(0, data, label) & 0xFFFF) / 256
        return loss, data[0], data[0] == int.from_bytes(label, "little")

    def train(self, data: bytes, label: bytes, rate: float) -> None:
        self.weights[0] += 1
        self.weights[1] = hash_of(self.weights[1] * 31, data, label)
        self.weights[2] = (self.weights[2] * 31 + int(rate * 1024)) & 0xFFFFFFFF
        self.table[self.weights[1] % 3000] ^= self.weights[0] & 255

    def apply(self, rate: float) -> None:
        self.weights[3] = (self.weights[3] * 31 + int(rate * 1024) + self.weights[0]) & 0xFFFFFFFF

    def parameters(self) -> list[bytes]:
        return [struct.pack("<4I", *self.weights), bytes(self.table)]


def check(found: StepResult, expected: tuple[float, int, bool]) -> None:
    assert (found.loss, found.predicted, found.correct) == expected


def run_steps(device: Device, model: FakeModel, steps: range) -> None:
    """Everything that a training run does, checked against the model at each step."""
    for step in steps:
        data, label = sample(step)
        rate = step % 7 / 8
        device.write_input(data)
        device.write_label(label)
        check(device.train(rate), model.result(data, label))
        model.train(data, label, rate)
        if step % 4 == 3:
            device.apply(rate)
            model.apply(rate)
        if step % 16 == 5:
            check(device.evaluate(), model.result(data, label))
        if step % 128 == 77:
            assert device.read_parameters() == model.parameters()
            model.weights[0] += 1000
            device.write_parameters(model.parameters(), device.read_scales())
    assert device.read_parameters() == model.parameters()


def test_a_clean_line_trains_without_a_retry(fake_device: Path) -> None:
    model = FakeModel()
    # So patient that only a lost frame makes it ask again, not a busy machine.
    patient = Timing(retry_s=30.0, reply_s=60.0)
    with Device(ProcessTransport([str(fake_device)]), timing=patient) as device:
        device.link_statistics.retries = 0  # READY may have crossed HELLO
        run_steps(device, model, range(300))
        assert device.counters().trained == 300
        assert device.link_statistics.retries == 0
        assert device.link_statistics.corrupt_frames == 0


def test_a_board_that_holds_nothing_while_busy_gets_one_frame_at_a_time(fake_device: Path) -> None:
    inner = ProcessTransport([str(fake_device), "stop-and-wait"])
    faulty = FaultyTransport(inner, rate=0.0, seed=0)
    answered = True

    def write(data: bytes) -> None:
        nonlocal answered
        assert answered, "a second frame before the reply to the first"
        answered = False
        inner.write(data)

    def read(max_bytes: int, timeout_s: float) -> bytes:
        nonlocal answered
        data = inner.read(max_bytes, timeout_s)
        answered = answered or bool(data)
        return data

    with Device(faulty, timing=Timing(retry_s=5.0)) as device:
        faulty.write, faulty.read = write, read  # type: ignore[method-assign]
        run_steps(device, FakeModel(), range(130))


@pytest.mark.parametrize("rate", [float("inf"), float("nan"), 1e39])
def test_a_learning_rate_that_is_no_float32_is_refused(device: Device, rate: float) -> None:
    with device:
        with pytest.raises(UserError, match="learning rate"):
            device.train(rate)
        assert device.counters().trained == 0


def test_ten_thousand_spoilt_frames_change_no_weight(fake_device: Path) -> None:
    faulty = FaultyTransport(ProcessTransport([str(fake_device)]), rate=0.3, seed=1)
    model = FakeModel()
    with Device(faulty, timing=IMPATIENT) as device:
        step = 0
        while faulty.faults.total() < 10_000:
            run_steps(device, model, range(step, step + 100))
            step += 100
        assert device.counters().trained == step
        faulty.rate = 0.0
        assert device.read_parameters() == model.parameters()
    assert all(faulty.faults[fault] > 500 for fault in FAULTS)


def test_a_line_that_spoils_most_frames_still_opens_a_session(fake_device: Path) -> None:
    for seed in range(10):
        inner = ProcessTransport([str(fake_device)])
        with Device(FaultyTransport(inner, rate=0.7, seed=seed), timing=IMPATIENT) as device:
            assert device.info.board == "fake_board"


def test_the_device_says_what_it_is(device: Device) -> None:
    with device:
        info = device.info
        assert (info.protocol, info.abi, info.model, info.board) == (3, 5, "fake", "fake_board")
        assert info.model_id == "000102030405060708090a0b0c0d0e0f"
        assert info.counter is CounterKind.INSTRUCTIONS
        assert (info.clock_hz, info.counter_resolution) == (168_000_000, 1)
        assert (info.input_bytes, info.label_bytes, info.output_count) == (600, 4, 3)
        assert (info.arena_bytes, info.stack_bytes) == (256, 4096)
        assert (info.parameter_count, info.scale_count, info.profile_count) == (2, 2, 3)
        assert info.accumulation_steps == 2
        assert info.session_bytes > 2000
        names = [(tensor.name, tensor.bytes) for tensor in device.parameters()]
        assert names == [("fc.weight", 16), ("fc.table", 3000)]


def test_a_label_that_breaks_the_loss_updates_nothing(device: Device) -> None:
    with device:
        before = device.read_parameters()
        device.write_label((999).to_bytes(4, "little"))
        with pytest.raises(DeviceError, match="not a finite number") as caught:
            device.train(0.5)
        assert caught.value.code == Failure.NUMERIC
        assert device.read_parameters() == before
        assert device.counters().trained == 0


def test_memory_needs_both_paints_to_see_every_byte(device: Device) -> None:
    with device:
        device.evaluate()
        assert device.memory().arena_high_water_bytes == 50
        device.paint(PAINT_B)
        assert device.memory().arena_high_water_bytes == 0
        device.evaluate()
        assert device.memory().arena_high_water_bytes == 100
        device.paint(PAINT_A)
        assert device.memory().stack_high_water_bytes == 123


def test_counters_and_profile_add_up_and_can_be_reset(device: Device) -> None:
    with device:
        losses = []
        for step in range(5):
            data, label = sample(step)
            device.write_input(data)
            device.write_label(label)
            losses += [device.train(0.5).loss, device.evaluate().loss]
        counters = device.counters()
        assert (counters.trained, counters.evaluated) == (5, 5)
        assert counters.loss_sum == pytest.approx(sum(losses), rel=1e-12)
        assert (counters.saturated, counters.zeros) == (5, 10)
        assert device.profile() == [10, 10, 5]
        device.reset_counters()
        assert device.profile() == [0, 0, 0]
        assert device.counters().saturated == 0


def test_the_model_can_be_put_back_to_its_flash(device: Device) -> None:
    with device:
        run_steps(device, FakeModel(), range(3))
        device.reset_model()
        assert device.read_parameters() == FakeModel().parameters()
        assert device.read_scales() == bytes(40)


class SeveredTransport:
    """Breaks off after so many bytes, in the middle of a frame."""

    def __init__(self, inner: Transport) -> None:
        self.name = inner.name
        self.bytes_per_s = inner.bytes_per_s
        self.left_bytes: int | None = None
        self.inner = inner

    def write(self, data: bytes) -> None:
        if self.left_bytes is None:
            self.inner.write(data)
            return
        data, self.left_bytes = data[: self.left_bytes], max(0, self.left_bytes - len(data))
        if data:
            self.inner.write(data)
        else:
            raise LinkError("unplugged")

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        return self.inner.read(max_bytes, timeout_s)

    def close(self) -> None:
        self.inner.close() if self.left_bytes is None else None


def test_an_upload_that_is_cut_off_leaves_no_mixture_that_trains(fake_device: Path) -> None:
    inner = ProcessTransport([str(fake_device)])
    severed = SeveredTransport(inner)
    first = Device(severed, timing=IMPATIENT)
    tensors = first.read_parameters()
    severed.left_bytes = 1500
    with pytest.raises(LinkError, match="unplugged"):
        first.write_parameters([bytes(len(tensor)) for tensor in tensors])
    first.close()
    with Device(inner, timing=IMPATIENT) as second:
        assert not second.info.parameters_valid
        for use in (lambda: second.train(0.5), second.evaluate, lambda: second.apply(0.5)):
            with pytest.raises(DeviceError, match="incomplete"):
                use()
        second.write_parameters(tensors)
        assert second.read_parameters() == tensors
        second.evaluate()


def test_an_upload_with_another_crc_is_not_taken(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    with device:
        tensors = device.read_parameters()
        crc32 = zlib.crc32
        with monkeypatch.context() as patch:
            patch.setattr(
                "ondevice.link.device.zlib",
                type("", (), {"crc32": staticmethod(lambda data, crc: crc32(data, crc) ^ 1)}),
            )
            with pytest.raises(DeviceError, match="not those that were sent"):
                device.write_parameters(tensors)
        with pytest.raises(DeviceError, match="incomplete"):
            device.evaluate()


def test_a_refused_write_is_raised_by_the_step_after_it(device: Device) -> None:
    with device:
        device._write(3, 0, b"\x01")  # type: ignore[arg-type]  # a parameter, with no upload begun
        with pytest.raises(DeviceError, match="refused WRITE"):
            device.train(0.5)
        assert device.counters().trained == 0
        device.train(0.5)


def test_another_model_and_another_abi_are_refused(fake_device: Path) -> None:
    with pytest.raises(HandshakeError, match=r"runs model 'fake' \(0001.*flash"):
        Device(ProcessTransport([str(fake_device)]), expected_model_id="ff" * 16)
    with pytest.raises(HandshakeError, match="ABI 5, not 9"):
        Device(ProcessTransport([str(fake_device)]), expected_abi=9)


class ScriptedTransport:
    """Answers every write with the same bytes."""

    name = "scripted"
    bytes_per_s: float | None = None

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._waiting = b""
        self.closed = False
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += 1
        self._waiting += self._answer

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        data, self._waiting = self._waiting, b""
        return data

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "nothing came"),
        (b"U-Boot 2024.01\r\n\x00", "it says 'U-Boot 2024.01'"),
        (encode_frame(Frame(READY, 0, 0, b"", version=4)), "version 4 .* version 3; flash"),
        (encode_frame(Frame(Request.HELLO, 1, 0)), "no answer"),  # an echo
    ],
)
def test_what_does_not_speak_our_protocol_is_named(answer: bytes, message: str) -> None:
    transport = ScriptedTransport(answer)
    with pytest.raises(HandshakeError, match=message):
        Device(transport, timing=Timing(retry_s=0.01, connect_s=0.2))
    assert transport.closed
    assert transport.written < 100, "noise must not breed noise"


class RestartingTransport:
    """Starts the program anew, as a board that lost power for a moment."""

    bytes_per_s: float | None = None

    def __init__(self, program: Path) -> None:
        self.name = "board"
        self._program = program
        self._inner = ProcessTransport([str(program)])

    def restart(self) -> None:
        self._inner.close()
        self._inner = ProcessTransport([str(self._program)])

    def write(self, data: bytes) -> None:
        self._inner.write(data)

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        return self._inner.read(max_bytes, timeout_s)

    def close(self) -> None:
        self._inner.close()


def test_a_board_that_restarts_in_the_middle_is_noticed(fake_device: Path) -> None:
    transport = RestartingTransport(fake_device)
    with Device(transport, timing=IMPATIENT) as device:
        device.train(0.5)
        transport.restart()
        with pytest.raises(LinkError, match="restarted"):
            device.train(0.5)


def test_a_board_that_falls_silent_is_given_up_after_retries(fake_device: Path) -> None:
    faulty = FaultyTransport(ProcessTransport([str(fake_device)]), rate=0.0, seed=0)
    timing = Timing(retry_s=0.01, command_s=0.3, bye_s=0.05)
    with Device(faulty, timing=timing) as device:
        device.train(0.5)
        faulty._inner.write = lambda data: None  # type: ignore[method-assign]
        with pytest.raises(LinkError, match=r"did not answer TRAIN within 0.3 s \(\d+ frames"):
            device.train(0.5)
        assert 2 <= device.link_statistics.retries < 40


def test_ctrl_c_during_a_step_leaves_a_link_that_works(fake_device: Path) -> None:
    faulty = FaultyTransport(ProcessTransport([str(fake_device)]), rate=0.0, seed=0)
    model = FakeModel()
    with Device(faulty, timing=IMPATIENT) as device:
        read = faulty.read

        def interrupted(max_bytes: int, timeout_s: float) -> bytes:
            read(max_bytes, timeout_s)  # the reply is lost, too
            raise KeyboardInterrupt

        data, label = sample(0)
        device.write_input(data)
        device.write_label(label)
        faulty.read = interrupted  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            device.train(0.5)
        faulty.read = read  # type: ignore[method-assign]
        model.train(data, label, 0.5)
        assert device.read_parameters() == model.parameters()
        run_steps(device, model, range(5))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_frames_of_any_content_cannot_break_the_session(
    seed: int, compile_c: Callable[[str], Path]
) -> None:
    done = subprocess.run(
        [compile_c("session_fuzz"), "100000", str(seed)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    frames, executed = map(int, done.stdout.split())
    assert frames == 100_000
    assert executed > 10_000
