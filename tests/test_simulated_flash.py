"""Checkpoints of simulated boards: a file that outlives the simulator, with the rules of flash."""

import itertools
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ondevice.boards import list_boards, load_board
from ondevice.build import Firmware, simulate_command
from ondevice.errors import LinkError, UserError
from ondevice.flash_file import locked, prepare_flash_file
from ondevice.link.device import Device
from ondevice.link.transport import ProcessTransport

ROOT = Path(__file__).resolve().parent.parent
BOARDS = [name for name in list_boards() if load_board(name).run in ("host", "qemu")]
Build = Callable[[str], Firmware]


def start(build: Build, name: str, flash: Path | None) -> Device:
    board = load_board(name)
    if flash is None:
        return Device(ProcessTransport(simulate_command(build(name), board), name=name))
    path = prepare_flash_file(flash, board)
    with locked(path) as inherited:
        command = simulate_command(build(name), board, path)
        return Device(ProcessTransport(command, name=name, inherited=inherited))


def train(device: Device, steps: int) -> None:
    for step in range(steps):
        device.write_input(bytes((step * 37 + i * 11) % 256 for i in range(600)))
        device.write_label(struct.pack("<I", step % 7))
        device.train(0.25)


@pytest.mark.parametrize("name", BOARDS)
def test_a_simulated_board_starts_with_what_it_saved(
    build: Build, name: str, tmp_path: Path
) -> None:
    flash = tmp_path / "a folder, with a comma" / "flash.bin"
    board = load_board(name)
    with start(build, name, flash) as device:
        assert device.info.keeps_checkpoints
        assert not device.info.restored
        device.reset_counters(run=77)
        train(device, 3)
        saved = device.read_parameters(), device.counters()
        assert device.save_checkpoint(0.5) == 1
        train(device, 2)
    assert flash.stat().st_size == 2 * board.storage_bank_bytes
    with start(build, name, flash) as device:
        assert device.info.restored
        assert (device.read_parameters(), device.counters()) == saved
        (found,) = device.checkpoints()
        assert (found.run, found.trained, found.loss) == (77, 3, 0.5)
        # The rest counts starts, where the firmware has a key.
        assert found.bank_bytes == board.storage_bank_bytes * 15 // 16
    with start(build, name, None) as device:
        assert not device.info.keeps_checkpoints


def test_a_board_without_a_whole_checkpoint_starts_with_the_values_in_its_program(
    build: Build, tmp_path: Path
) -> None:
    flash, size = tmp_path / "flash.bin", 2 * load_board("host").storage_bank_bytes
    flash.write_bytes(bytes(i * 37 % 251 for i in range(size)))
    with start(build, "host", flash) as device:
        assert not device.info.restored
        assert struct.unpack("<4I", device.read_parameters()[0]) == (0, 1, 2, 3)
        train(device, 1)
        device.save_checkpoint()
    with start(build, "host", flash) as device:
        assert device.info.restored


def test_the_file_only_loses_bits_where_nothing_was_erased(build: Build, tmp_path: Path) -> None:
    flash = tmp_path / "flash.bin"
    contents = []
    for _ in range(3):
        with start(build, "host", flash) as device:
            train(device, 1)
            device.save_checkpoint()
        contents.append(flash.read_bytes())
    for before, after in itertools.pairwise(contents):
        assert before != after
        assert all(b & a == a for b, a in zip(before, after, strict=True))


def test_one_flash_belongs_to_one_running_board(build: Build, tmp_path: Path) -> None:
    flash = tmp_path / "flash.bin"
    with (
        start(build, "host", flash),
        pytest.raises(UserError, match=r"flash\.bin: another simulated board .*--flash-file"),
    ):
        start(build, "host", flash)
    with start(build, "host", flash) as device:
        device.save_checkpoint()


def test_a_file_of_another_board_is_refused(build: Build, tmp_path: Path) -> None:
    flash = tmp_path / "flash.bin"
    flash.write_bytes(b"\xff" * 1000)
    with pytest.raises(UserError, match=r"1000 bytes; the flash of host .* 524288"):
        start(build, "host", flash)
    with pytest.raises(UserError, match="at most 480 bytes"):
        prepare_flash_file(tmp_path / "/".join(["n" * 100] * 5), load_board("host"))
    small = replace(load_board("host"), storage_bank_bytes=512)
    other = prepare_flash_file(tmp_path / "small.bin", small)
    with pytest.raises(LinkError, match="the flash file is of another board"):
        Device(ProcessTransport(simulate_command(build("host"), load_board("host"), other)))
    missing = tmp_path / "missing.bin"
    command = simulate_command(build("qemu_f405"), load_board("qemu_f405"), missing)
    with pytest.raises(LinkError, match=r"exit code 98.* cannot be opened"):
        Device(ProcessTransport(command))
