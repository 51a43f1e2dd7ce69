"""Boards as data: what boards/NAME.ini may say, and what a wrong one is told."""

import configparser
from pathlib import Path

import pytest

from ondevice.board_values import parse_sectors, sector_starts
from ondevice.boards import BoardError, list_boards, load_board
from ondevice.linker_script import linker_script

ROOT = Path(__file__).resolve().parent.parent
GOOD = """
[env:toy]
[board:toy]
title = Toy
run = qemu
driver = mps2
cpu = cortex-m4
ram_origin = 0x20000000
ram_bytes = 65536
flash_bytes = 262144
stack_bytes = 2048
"""


def write_board(folder: Path, text: str) -> Path:
    (folder / "toy.ini").write_text(text, encoding="utf-8")
    return folder


def test_every_file_in_boards_is_a_board_with_its_environment() -> None:
    files = sorted(path.stem for path in (ROOT / "boards").glob("*.ini"))
    assert list_boards() == files
    cpus = {load_board(name).cpu for name in files if load_board(name).run == "qemu"}
    assert cpus == {f"cortex-m{core}" for core in (0, 3, 4, 7, 33, 55)}
    assert {"host", "nucleo_f446re"} <= set(files)
    for name in files:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(ROOT / "boards" / f"{name}.ini", encoding="utf-8")
        assert f"env:{name}" in parser.sections()
        assert load_board(name).name == name


def test_the_default_simulated_board_has_the_memory_of_the_real_chip() -> None:
    board = load_board("qemu_f405")  # STM32F405RG: DS8626, 128 KB of main SRAM, 1 MB of flash
    assert (board.ram_origin, board.ram_bytes) == (0x2000_0000, 128 * 1024)
    assert (board.flash_origin, board.flash_bytes) == (0x0800_0000, 1024 * 1024)
    assert (board.run, board.qemu_machine) == ("qemu", "netduinoplus2")


def test_the_nucleo_is_real_and_has_half_a_megabyte_of_flash() -> None:
    board = load_board("nucleo_f446re")  # STM32F446RE: DS10693
    assert (board.run, board.ram_bytes, board.flash_bytes) == ("serial", 128 * 1024, 512 * 1024)
    assert (board.clock_hz, board.uart, board.counter) == (180_000_000, "usart2", "dwt")


def test_numbers_are_read_in_decimal_and_hexadecimal(tmp_path: Path) -> None:
    board = load_board("toy", write_board(tmp_path, GOOD))
    assert (board.ram_origin, board.ram_bytes, board.flash_origin) == (0x2000_0000, 65536, 0)


def test_an_unknown_board_is_told_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match=r"'nucleo'.*\btoy\b"):
        load_board("nucleo", write_board(tmp_path, GOOD))


def test_a_name_cannot_leave_the_folder_of_boards(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    write_board(tmp_path, GOOD)
    with pytest.raises(BoardError):
        load_board("../toy", tmp_path / "inner")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("run = qemu", "run = qmeu", ["toy.ini", "run", "qmeu", "serial"]),
        ("driver = mps2", "driver = avr", ["toy.ini", "driver", "avr", "stm32f4"]),
        ("65536", "64K", ["toy.ini", "ram_bytes", "64K"]),
        ("65536", "-1", ["toy.ini", "ram_bytes", "-1"]),
        ("ram_bytes = 65536\n", "", ["toy.ini", "ram_bytes"]),
        ("cpu =", "uart_tx = PZ9\ncpu =", ["toy.ini", "uart_tx", "PZ9", "PA2"]),
        ("cpu =", "uart_rx = PA16\ncpu =", ["toy.ini", "uart_rx", "PA16"]),
        ("cpu =", "flash_sectors = 4x16\ncpu =", ["toy.ini", "flash_sectors", "4x16K,1x64K"]),
        ("cpu =", "flash_sectors = 3x64K\ncpu =", ["toy.ini", "196608", "262144"]),
        ("title = Toy\n", "", ["toy.ini", "title"]),
        ("title = Toy", "titel = Toy", ["toy.ini", "titel", "title"]),
        ("[board:toy]", "[board:tyo]", ["toy.ini", "board:toy"]),
        ("title = Toy", "title = Toy\ntitle = Two", ["toy.ini", "title"]),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong_in_one_line(
    tmp_path: Path, old: str, new: str, named: list[str]
) -> None:
    assert old in GOOD
    folder = write_board(tmp_path, GOOD.replace(old, new))
    with pytest.raises(BoardError) as caught:
        load_board("toy", folder)
    message = str(caught.value)
    assert "\n" not in message
    for word in named:
        assert word in message


def test_the_linker_gets_the_memory_of_the_board(tmp_path: Path) -> None:
    script = linker_script(load_board("toy", write_board(tmp_path, GOOD)))
    assert "ORIGIN = 0x20000000, LENGTH = 65536" in script
    assert "ORIGIN = 0x00000000, LENGTH = 262144" in script


STORAGE = """flash_origin = 0x08000000
storage_origin = 0x08030000
storage_bank_bytes = 32768
storage_unit_bytes = 8
"""


def test_firmware_ends_where_checkpoints_begin(tmp_path: Path) -> None:
    board = load_board("toy", write_board(tmp_path, GOOD + STORAGE))
    assert board.firmware_bytes == 0x30000
    assert "ORIGIN = 0x08000000, LENGTH = 196608" in linker_script(board)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("unit_bytes = 8", "unit_bytes = 12", ["storage_unit_bytes", "12", "16"]),
        ("bank_bytes = 32768", "bank_bytes = 32764", ["storage_bank_bytes", "32764", "8"]),
        ("0x08030000", "0x08031000", ["storage_origin", "0x8031000", "0x8030000"]),
        ("0x08030000", "0x08000000", ["storage_origin", "0x8000000"]),
    ],
)
def test_checkpoints_that_do_not_fit_the_flash_are_refused(
    tmp_path: Path, old: str, new: str, named: list[str]
) -> None:
    text = GOOD + STORAGE
    assert old in text
    with pytest.raises(BoardError) as caught:
        load_board("toy", write_board(tmp_path, text.replace(old, new)))
    for word in named:
        assert word in str(caught.value)


def test_a_bank_of_checkpoints_that_cuts_a_sector_is_refused_with_its_address(
    tmp_path: Path,
) -> None:
    keys = "flash_sectors = 4x16K,3x64K\nstorage_bank_bytes = 32768\nstorage_unit_bytes = 4\n"
    text = GOOD + keys + "storage_origin = 0x20000\n"
    with pytest.raises(BoardError, match=r"toy\.ini.*0x28000"):
        load_board("toy", write_board(tmp_path, text))


def test_sectors_are_where_the_sizes_before_them_end() -> None:
    sectors = parse_sectors("4x16K,1x64K,3x128K")  # STM32F446: RM0390, table 4
    starts = [0, 0x4000, 0x8000, 0xC000, 0x10000, 0x20000, 0x40000, 0x60000, 0x80000]
    assert list(sector_starts(sectors)) == starts
