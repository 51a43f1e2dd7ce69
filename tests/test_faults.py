"""Faults of the firmware on every core: caught, told with their line of C, and survived."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from firmware_model import (
    ACCESS,
    ARRAY,
    CANARY,
    CANARY_WORDS,
    CUT_FRAME,
    DIVISION,
    FAKE_MODEL,
    HANG,
    JUMP,
    LAST_BYTES,
    LONG_DIVISION,
    RECURSION,
    UNDEFINED,
    costly_model,
)
from ondevice.boards import load_board
from ondevice.build import Firmware, build_firmware, simulate_command
from ondevice.errors import BoardFault, LinkError
from ondevice.fault import Fault, FaultKind, decode_fault, describe_fault, fault_cause
from ondevice.flash_file import prepare_flash_file
from ondevice.link.device import Device
from ondevice.link.identity import StartReason
from ondevice.link.transport import ProcessTransport
from ondevice.source_lines import SourceLines
from test_firmware import expected_weights, train

BOARDS = ["qemu_f405", "qemu_microbit"] + [
    f"qemu_mps{board}" for board in ("2_an385", "2_an500", "2_an505", "3_an547")
]
Build = Callable[[str], Firmware]


@pytest.fixture
def board(request: pytest.FixtureRequest, build: Build) -> Iterator["Board"]:
    """A simulated board that runs through all of a test's faults."""
    running = Board(build(request.param), request.param)
    yield running
    running.transport.close()


class Board:
    """One simulator; each `device` is a new session with it."""

    def __init__(self, firmware: Firmware, name: str, flash: Path | None = None) -> None:
        self.name = name
        self.elf = firmware.elf
        command = simulate_command(firmware, load_board(name), flash)
        self.transport = ProcessTransport(command, name=name)

    def device(self) -> Device:
        return Device(self.transport, elf=self.elf)

    def evaluate(self, label: int, device: Device | None = None) -> list[float]:
        device = device if device is not None else self.device()
        device.write_input(bytes(600))
        device.write_label(struct.pack("<I", label))
        device.evaluate()
        return list(struct.unpack("<3f", device.read_output()))

    def fault(self, label: int, device: Device | None = None) -> BoardFault:
        with pytest.raises(BoardFault) as caught:
            self.evaluate(label, device)
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith("; it restarted")
        return caught.value


def line_of(label: int) -> str:
    lines = costly_model().splitlines()
    found = [number for number, line in enumerate(lines, 1) if f"/* line of {label} */" in line]
    assert len(found) == 1
    return f"model.c:{found[0]})"


on_every_core = pytest.mark.parametrize("board", BOARDS, indirect=True)


@on_every_core
def test_a_fault_is_told_with_its_cause_its_line_and_its_caller(board: Board) -> None:
    core = load_board(board.name).cpu
    causes = {
        UNDEFINED: ("undefined instruction", FaultKind.USAGE, "run_undefined"),
        ACCESS: ("access to an address", FaultKind.BUS, "store_nowhere"),
        DIVISION: ("division by zero", FaultKind.USAGE, "divide"),
        LONG_DIVISION: ("division by zero", FaultKind.USAGE, "divide_long"),
    }
    for label, (cause, kind, function) in causes.items():
        error = board.fault(label)
        assert f"failed: {cause}" in str(error)
        assert f"{function} (model/{line_of(label)}, called from evaluate (model/" in str(error)
        assert error.fault.kind == (FaultKind.HARD if core == "cortex-m0" else kind)
        assert error.fault.registers
    if core != "cortex-m0":
        assert board.fault(ACCESS).fault.bfar == 0xE8000000
    error = board.fault(JUMP)
    assert "failed: jump to" in str(error)
    assert "jump_nowhere (model/model.c:" in str(error)
    assert board.evaluate(1)[0] == 0  # and it still works


@on_every_core
def test_a_stack_overflow_is_told_as_such_and_spoils_nothing(board: Board) -> None:
    for label in (RECURSION, ARRAY):
        device = board.device()
        board.evaluate(1, device)  # uses floats: from then on a fault has theirs to save, too
        error = board.fault(label, device)
        assert error.fault.kind == FaultKind.STACK
        assert "failed: stack overflow in" in str(error)
        assert board.evaluate(CANARY)[2] == CANARY_WORDS
        if label == RECURSION:
            assert f"recurse (model/{line_of(label)}" in str(error)
    with board.elf.open("rb") as file:
        elf = ELFFile(file)
        sections = {s.name: s for s in elf.iter_sections() if s["sh_addr"] and s["sh_size"]}
    ram = load_board(board.name).ram_origin
    beside = [s for s in sections.values() if s["sh_addr"] >= ram and s.name != ".stack"]
    assert sections[".stack"]["sh_addr"] == ram < min(s["sh_addr"] for s in beside)
    assert sections[".noinit"]["sh_size"] > 4 * CANARY_WORDS


@pytest.mark.parametrize("board", ["qemu_microbit"], indirect=True)
def test_without_a_guard_the_stack_s_last_bytes_are_watched(board: Board) -> None:
    assert board.fault(LAST_BYTES).fault.kind == FaultKind.STACK


@pytest.mark.parametrize(
    "board", [name for name in BOARDS if load_board(name).watchdog_origin], indirect=True
)
def test_a_model_that_hangs_is_restarted_by_the_watchdog_and_told_where(board: Board) -> None:
    error = board.fault(HANG)
    assert error.fault.kind == FaultKind.WATCHDOG
    assert "it hung" in str(error)
    assert "hang (model/model.c:" in str(error)
    assert board.evaluate(1)[0] == 0


@pytest.mark.parametrize("board", ["qemu_f405", "qemu_microbit"], indirect=True)
def test_a_fault_in_the_middle_of_a_frame_is_told(board: Board) -> None:
    device = board.device()
    error = board.fault(CUT_FRAME, device)
    assert f"write_half_a_frame (model/{line_of(CUT_FRAME)}" in str(error)
    assert device.link_statistics.corrupt_frames == 1


@pytest.mark.parametrize("board", ["qemu_f405"], indirect=True)
def test_after_the_restart_the_fault_is_told_once_more_and_then_no_more(board: Board) -> None:
    first = board.fault(ACCESS).fault
    assert not first.again
    told = board.device().last_fault
    assert told is not None
    assert told.again
    assert (told.kind, told.pc, told.callers) == (first.kind, first.pc, first.callers)
    assert board.device().last_fault is None


class Deaf:
    """A line that loses every FAULT frame."""

    def __init__(self, transport: ProcessTransport) -> None:
        self._transport = transport
        self.name, self.bytes_per_s = transport.name, transport.bytes_per_s
        self._pending = b""

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        data = self._pending + self._transport.read(max_bytes, timeout_s)
        *whole, self._pending = data.split(b"\0")
        return b"".join(piece + b"\0" for piece in whole if b"\x03\xc3" not in piece[:4])

    def close(self) -> None:
        pass


@pytest.mark.parametrize("board", ["qemu_f405"], indirect=True)
def test_a_board_that_restarted_unheard_refuses_the_old_session_and_is_as_flashed(
    board: Board,
) -> None:
    device = Device(Deaf(board.transport))
    device.write_input(bytes(600))
    device.write_label(struct.pack("<I", 1))
    device.train(0.25)
    assert struct.unpack("<4I", device.read_parameters()[0])[0] == 1
    with pytest.raises(LinkError, match="does not know this session any more") as caught:
        board.evaluate(ACCESS, device)
    assert not isinstance(caught.value, BoardFault)
    assert struct.unpack("<4I", board.device().read_parameters()[0]) == (0, 1, 2, 3)


def test_a_board_that_fails_at_every_start_is_not_waited_for(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    head = "static void reset(void) {"
    text = FAKE_MODEL.replace(head, head + "\n    __builtin_trap();")
    (model / "model.c").write_text(text, encoding="utf-8")
    board = Board(build_firmware(model, load_board("qemu_f405"), tmp_path / "out"), "qemu_f405")
    with pytest.raises(BoardFault, match=r"undefined instruction in reset.*at every start"):
        board.device()


def fault(**changed: int) -> Fault:
    words = dict.fromkeys(("pc", "lr", "sp", "xpsr", "cfsr", "hfsr", "mmfar", "bfar"), 0)
    kind = changed.pop("kind", int(FaultKind.USAGE))
    exception = changed.pop("exception", 6)
    words.update(changed)
    found = decode_fault(struct.pack("<BBH16I", kind, 1, exception, *words.values(), *[0] * 8))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("bit", "word"),
    [
        (0, "jump to a forbidden"), (1, "access to a forbidden"), (9, "where nothing is"),
        (10, "somewhat before"), (16, "undefined instruction"), (17, "no Thumb code"),
        (19, "coprocessor"), (24, "unaligned"), (25, "division by zero"),
    ],
)  # fmt: skip
def test_each_bit_of_the_fault_status_has_words(bit: int, word: str) -> None:
    assert word in fault_cause(fault(cfsr=1 << bit))


def test_a_fault_without_its_elf_file_is_told_with_addresses(tmp_path: Path) -> None:
    found = fault(cfsr=1 << 9 | 1 << 15, bfar=0x1234, pc=0x08000124)
    for elf in (None, tmp_path / "gone.elf"):
        text = describe_fault(found, elf)
        assert text == "access to an address where nothing is (0x00001234) near 0x08000124"
    assert "interrupt 21" in describe_fault(fault(kind=FaultKind.INTERRUPT, exception=37))
    assert "brown-out" in describe_fault(fault(kind=FaultKind.BROWN_OUT))
    assert decode_fault(bytes(7)) is None


def test_lines_of_an_elf_file_are_those_of_binutils(build: Build) -> None:
    import subprocess

    elf = build("qemu_f405").elf
    lines = SourceLines(elf)
    with elf.open("rb") as file:
        text = ELFFile(file).get_section_by_name(".text")
        start, size = text["sh_addr"], text["sh_size"]
    addresses = range(start + 64, start + size // 3, 62)
    said = subprocess.run(
        ["arm-none-eabi-addr2line", "-e", elf, *map(hex, addresses)],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    compared = 0
    for address, expected in zip(addresses, said, strict=True):
        place = expected.partition(" (")[0]
        if "?" not in place:
            assert lines.line(address) == "/".join(place.split("/")[-2:])
            compared += 1
    assert compared > 50


@pytest.mark.parametrize("name", ["qemu_f405", "qemu_microbit"])
def test_a_fault_in_a_training_step_leaves_the_checkpoints_whole(
    build: Build, name: str, tmp_path: Path
) -> None:
    flash = prepare_flash_file(tmp_path / "flash.bin", load_board(name))
    board = Board(build(name), name, flash)
    device = board.device()
    train(device, 3)
    number = device.save_checkpoint(loss=0.5)
    train(device, 2)
    saved = flash.read_bytes()
    device.write_label(struct.pack("<I", ACCESS))
    with pytest.raises(BoardFault, match="store_nowhere"):
        device.train(0.25)
    again = board.device()
    assert again.identity().start_reason is StartReason.FAULT
    assert [checkpoint.sequence for checkpoint in again.checkpoints()] == [number]
    # It started with what it had saved, and learns on as if nothing had been.
    assert list(struct.unpack("<4I", again.read_parameters()[0])) == expected_weights(3)
    assert flash.read_bytes() == saved
    assert again.counters().trained == 3
    board.transport.close()
