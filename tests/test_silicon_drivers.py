"""The half of the STM32F4's drivers that only silicon runs, run in QEMU as far as QEMU goes.

The firmware is the Nucleo's, with OD_SIMULATED=0: the UART by interrupt into a ring, the clock, the
watchdog, the reset flags, the flash controller. QEMU's netduinoplus2 has that UART with its
interrupt. It has no oscillators (the firmware must fall back), no flash controller (a checkpoint
must fail, not hang), no watchdog, and faults where the unique id is read, so this test reads it
elsewhere. What those parts do on silicon is not tested here.
"""

import json
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fake_usb import FakeUsb, usb
from firmware_model import FAKE_MODEL, replaced
from ondevice import cli
from ondevice.boards import load_board
from ondevice.errors import BoardFault, DeviceError
from ondevice.image import seal_image
from ondevice.link.device import Device
from ondevice.link.identity import StartReason
from ondevice.link.messages import CounterKind, Failure
from ondevice.link.transport import ProcessTransport
from ondevice.linker_script import linker_script
from ondevice.toolchain import (
    CODE,
    LINK,
    WARNINGS,
    definitions,
    driver_folders,
    machine_flags,
)
from test_firmware import expected_weights, train
from toy_training import toy_manifest

__all__ = ["usb"]
ROOT = Path(__file__).resolve().parent.parent
BOARD = load_board("nucleo_f446re")
UNIQUE_ID, ELSEWHERE = "0x1FFF7A10u", "0x20000000u"
LABEL_FAULT = 703
HEAD = "static int32_t evaluate(od_result_t *result, od_trace_t *trace) {"
TRAP = f"if (label == {LABEL_FAULT}u) {{ __builtin_trap(); }}"
MODEL = replaced(FAKE_MODEL, HEAD, f"{HEAD} {TRAP}")
HSI_HZ = 16_000_000  # RM0390 6.2.2
QEMU = [
    "qemu-system-arm", "-M", "netduinoplus2", "-nodefaults", "-display", "none", "-monitor", "none",
    "-icount", "shift=0,sleep=off,align=off",
    "-serial", "null", "-serial", "stdio",  # the second UART is the Nucleo's
]  # fmt: skip


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("silicon")
    source = folder / "src"
    shutil.copytree(ROOT / "firmware" / "src", source)
    chip = source / BOARD.driver / "chip.h"
    text = chip.read_text(encoding="utf-8")
    assert text.count(UNIQUE_ID) == 1
    chip.write_text(text.replace(UNIQUE_ID, ELSEWHERE), encoding="utf-8")
    (folder / "model.c").write_text(MODEL, encoding="utf-8")
    (folder / "board.ld").write_text(linker_script(BOARD), encoding="utf-8")
    places = [source, *(source / name for name in driver_folders(BOARD)), ROOT / "runtime" / "src"]
    sources = [path for place in places for path in sorted(place.glob("*.c"))]
    macros = {**definitions(BOARD), "OD_BOARD_NAME": f'"{BOARD.name}"'}
    assert macros["OD_SIMULATED"] == "0"
    includes = (ROOT / "runtime" / "include", source, source / BOARD.driver)
    program = folder / "firmware.elf"
    subprocess.run(
        [
            "arm-none-eabi-gcc", "-std=c99", *machine_flags(BOARD), *CODE, "-O1", *WARNINGS,
            *(f"-I{folder}" for folder in includes),
            *(f"-D{name}={value}" for name, value in macros.items()),
            *sources, folder / "model.c",
            *LINK, f"-T{folder / 'board.ld'}", "-o", program, "-lc", "-lgcc",
        ],
        check=True,
    )  # fmt: skip
    seal_image(program, None)
    return program


@pytest.fixture(scope="module")
def line(elf: Path) -> Iterator[ProcessTransport]:
    """The UART of a board that runs through all tests; each opens a new session."""
    transport = ProcessTransport([*QEMU, "-kernel", str(elf)], name=BOARD.name)
    yield transport
    transport.close()


def test_the_interrupt_driven_uart_trains_exactly_what_it_was_sent(line: ProcessTransport) -> None:
    device = Device(line)
    assert device.info.board == "nucleo_f446re"
    assert device.info.receive_bytes == 2047  # a ring; the simulated boards poll
    assert device.info.counter is CounterKind.CYCLES
    assert len(device.identity().unique_id) == 24
    device.reset_model()
    train(device, 3)
    weights = device.read_parameters()[0]
    values = [int.from_bytes(weights[i : i + 4], "little") for i in range(0, 16, 4)]
    assert values[:3] == expected_weights(3)[:3]


def test_without_an_oscillator_the_chip_stays_on_its_own(line: ProcessTransport) -> None:
    assert Device(line).info.clock_hz == HSI_HZ


def test_a_flash_that_takes_nothing_is_a_refused_checkpoint_and_the_session_goes_on(
    line: ProcessTransport,
) -> None:
    device = Device(line)
    assert device.info.keeps_checkpoints
    before = device.counters().trained
    train(device, 1)
    with pytest.raises(DeviceError) as caught:
        device.save_checkpoint()
    assert caught.value.code == Failure.STORAGE
    train(device, 1)
    assert device.counters().trained == before + 2


def test_a_fault_is_told_over_the_uart_and_the_board_restarts(
    line: ProcessTransport, elf: Path
) -> None:
    device = Device(line, elf=elf)
    device.write_input(bytes(600))
    device.write_label(struct.pack("<I", LABEL_FAULT))
    with pytest.raises(BoardFault, match=r"evaluate .*model\.c:\d+.*; it restarted"):
        device.train(0.25)
    again = Device(line, elf=elf)
    assert again.last_fault is not None
    assert again.last_fault.again
    assert again.identity().start_reason is StartReason.FAULT
    assert again.counters().trained == 0
    train(again, 2)
    assert again.counters().trained == 2


@pytest.fixture
def port(elf: Path) -> Iterator[str]:
    """A serial port of this computer with the board behind it."""
    command = [*QEMU[:-1], "pty", "-kernel", str(elf)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as board:
        assert board.stdout is not None
        found = re.search(r"/dev/pts/\d+", board.stdout.readline())
        assert found is not None
        yield found[0]
        board.terminate()


def test_a_nucleo_is_found_on_usb_and_trains_behind_its_serial_port(
    port: str, usb: FakeUsb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The way of a real board; only its chip is a stand-in."""
    usb.plug_in("/dev/ttyACM7", "other", "NODE_F303K8")
    usb.plug_in(port, "066AFF", "NODE_F446RE")
    monkeypatch.chdir(tmp_path)
    write_fake_models_folder(tmp_path / "model")
    inputs = {key: np.zeros((8, 150), np.float32) for key in ("x", "x_test")}
    labels = {key: np.arange(8) % 2 for key in ("y", "y_test")}
    np.savez(tmp_path / "data.npz", **inputs, **labels)  # type: ignore[arg-type]
    arguments = ["--board", "nucleo_f446re", "--model", "model", "--data", "data.npz"]
    monkeypatch.setattr(sys, "argv", ["ondevice", "train", *arguments, "--steps", "3"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    (summary,) = tmp_path.glob("runs/*/summary.json")
    told = json.loads(summary.read_text())
    assert (told["steps"], told["board"]) == (3, "nucleo_f446re")


def write_fake_models_folder(folder: Path) -> None:
    """As the compiler writes one, for the model that is in the firmware."""
    folder.mkdir()
    shape = [1, 1, 1, 150]
    manifest = toy_manifest(
        optimizer={"name": "sgd", "momentum": 0.0, "accumulation_steps": 2},
        parameters=[
            {"name": "fc.weight", "shape": [4], "dtype": "int32", "bytes": 16},
            {"name": "fc.table", "shape": [3000], "dtype": "uint8", "bytes": 3000},
        ],
    )
    manifest["input"].update(source_shape=[1, 150], shape=shape, memory_shape=shape, bytes=600)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
