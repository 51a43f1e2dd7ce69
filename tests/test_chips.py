"""Registers, bits, interrupts, pins and memories of the STM32 boards against what others say."""

import os
import re

import pytest

import chip_facts
from chip_facts import Chip, Device, read_device, read_header, read_svd, svd_path
from ondevice.board_values import parse_pin, parse_sectors, sector_starts
from ondevice.boards import Board, load_board

# SVD file, board, and names of ours that the file lacks.
OVERDRIVE = {"PWR_CR_ODEN", "PWR_CR_ODSWEN", "PWR_CSR_ODRDY", "PWR_CSR_ODSWRDY"}
OTHERWISE = {"STRT": "START"}  # a field's name in the manual, and in some files
FROM_PYPI = [
    ("STM32F446x", "nucleo_f446re", set[str]()),
    ("STM32F411xx", "nucleo_f411re", {*OVERDRIVE, "USART2"}),  # over-drive: F446 only
    ("STM32L4x6", "nucleo_l476rg", set[str]()),
]
FROM_ELSEWHERE = [
    ("STM32F7x7", "nucleo_f767zi", set[str]()),
    ("STM32G071", "nucleo_g071rb", set[str]()),
    ("STM32H743x", "nucleo_h743zi", {"DBGMCU_IDC", "AXI_TARG7_FN_MOD"}),
]
CASES = [pytest.param(*case, id=case[1]) for case in (*FROM_PYPI, *FROM_ELSEWHERE)]
DEVICES = {
    "nucleo_f411re": ("stm32f4-01_11.xml", {"name": "11", "pin": "r", "size": "e"}),
    "nucleo_f446re": ("stm32f4-46.xml", {"name": "46", "pin": "r", "size": "e"}),
    "nucleo_f767zi": ("stm32f7-67_68_77_78.xml", {"name": "67", "pin": "z", "size": "i"}),
    "nucleo_g071rb": ("stm32g0-71_81.xml", {"name": "71", "pin": "r", "size": "b"}),
    "nucleo_h743zi": ("stm32h7-42_43_50_53.xml", {"name": "43", "pin": "z", "size": "i"}),
    "nucleo_l476rg": ("stm32l4-76_86.xml", {"name": "76", "pin": "r", "size": "g"}),
    "nucleo_u575zi": ("stm32u5-75_85.xml", {"name": "75", "pin": "z", "size": "i", "variant": "q"}),
}


def device(name: str) -> Device:
    file, traits = DEVICES[name]
    return read_device(file, **traits)


def field_masks(fields: dict[str, int]) -> dict[str, int]:
    """Also of fields that a file gives bit by bit: SW0 and SW1 are SW."""
    masks = dict(fields)
    for name, mask in fields.items():
        stem = re.sub(r"\d+$", "", name)
        if stem != name:
            masks[stem] = masks.get(stem, 0) | mask
    return masks


def register_of(mask: str, registers: list[str]) -> str:
    return max((name for name in registers if mask.startswith(f"{name}_")), key=len)


def check_registers(driver: str, chip: Chip, absent: set[str]) -> int:
    """Compares a chip.h with an SVD file; returns how many registers and masks were equal."""
    header, checked = read_header(driver), 0
    for name, address in header.registers.items():
        if name in absent:
            continue
        assert name in chip.registers, name
        assert hex(address) == hex(chip.registers[name].address), name
        checked += 1
    for name, value in header.masks.items():
        register = register_of(name, list(header.registers))
        if absent & {name, register}:
            continue
        masks = field_masks(chip.registers[register].fields)
        rest = name.removeprefix(f"{register}_")
        rest = rest if rest in masks else OTHERWISE.get(rest, rest)
        field = max(
            (f for f in masks if rest == f or rest.startswith(f"{f}_")), key=len, default=""
        )
        assert field, f"{name}: {register} has {sorted(masks)}"
        assert value & ~masks[field] == 0, f"{name} = {value:#x}, field {masks[field]:#x}"
        if rest == field and (value & (value - 1)) != 0:
            assert value == masks[field], name  # the whole field
        checked += 1
    return checked


@pytest.mark.parametrize(("svd", "name", "absent"), CASES)
def test_every_register_and_bit_of_a_driver_is_where_st_s_svd_file_has_it(
    svd: str, name: str, absent: set[str]
) -> None:
    driver = load_board(name).driver
    assert check_registers(driver, read_svd(svd_path(svd)), absent) > 50


@pytest.mark.parametrize(("svd", "name", "absent"), CASES)
def test_a_board_s_uart_watchdog_and_ports_are_where_st_s_svd_file_has_them(
    svd: str, name: str, absent: set[str]
) -> None:
    board, chip = load_board(name), read_svd(svd_path(svd))
    assert hex(board.uart_origin) == hex(chip.bases[board.uart.upper()])
    assert board.watchdog_origin in {chip.bases.get("IWDG"), chip.bases.get("IWDG1")}
    if board.uart.upper() not in absent:
        assert board.uart_interrupt == chip.interrupts[board.uart.upper()]
    origin = read_header(board.driver).numbers["GPIO_ORIGIN"]
    for pin in (parse_pin(board.uart_tx), parse_pin(board.uart_rx)):
        assert origin + 0x400 * pin.port == chip.bases[f"GPIO{chr(ord('A') + pin.port)}"]
    for register, offset in (("MODER", 0x00), ("AFRL", 0x20), ("AFRH", 0x24)):
        assert chip.registers[f"GPIOA_{register}"].address == origin + offset
    one = ("SR", "DR", "BRR", "CR1")
    two = ("ISR", "ICR", "RDR", "TDR", "BRR", "CR1")
    offsets = dict(zip(one, (0x00, 0x04, 0x08, 0x0C), strict=True))
    if f"{board.uart.upper()}_TDR" in chip.registers:
        offsets = dict(zip(two, (0x1C, 0x20, 0x24, 0x28, 0x0C, 0x00), strict=True))
    for register, offset in offsets.items():
        found = chip.registers[f"{board.uart.upper()}_{register}"]
        assert found.address == board.uart_origin + offset


def test_the_comparison_notices_a_wrong_address_and_a_wrong_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chip, header = read_svd(svd_path("STM32L4x6")), read_header("stm32l4")
    for wrong in (
        chip_facts.Header({**header.registers, "RCC_CR": 0x40021004}, header.masks, {}),
        chip_facts.Header(header.registers, {**header.masks, "RCC_CR_PLLON": 1 << 23}, {}),
        chip_facts.Header(header.registers, {**header.masks, "FLASH_CR_PNB": 127 << 3}, {}),
    ):
        monkeypatch.setattr("test_chips.read_header", lambda _driver, header=wrong: header)
        with pytest.raises(AssertionError):
            check_registers("stm32l4", chip, set())


@pytest.mark.parametrize("name", DEVICES)
def test_a_board_s_memory_core_and_interrupt_are_its_chip_s(name: str) -> None:
    board, chip = load_board(name), device(name)
    memories = chip.memories()
    flash = [m for key, m in memories.items() if key in ("flash", "flash1", "flash2", "flash_ns")]
    assert (board.flash_origin, board.flash_bytes) == (min(flash)[0], sum(m[1] for m in flash))
    spans = sorted(m for m in memories.values() if m[0] >= board.ram_origin)
    end = board.ram_origin
    for start, size in spans:  # neighbours, from the board's first address on
        if start == end and end < board.ram_origin + board.ram_bytes:
            end += size
    assert board.ram_origin + board.ram_bytes == end
    cpu, fpu = chip.core()
    assert (cpu.removesuffix("+") + ("plus" if "+" in cpu else ""), fpu) == (board.cpu, board.fpu)
    numbers = {n for key, n in chip.interrupts().items() if key.startswith(board.uart.upper())}
    assert numbers == {board.uart_interrupt}


@pytest.mark.parametrize("name", DEVICES)
def test_a_board_s_uart_pins_have_that_alternate_function(name: str) -> None:
    board, chip = load_board(name), device(name)
    for text, signal in ((board.uart_tx, "tx"), (board.uart_rx, "rx")):
        pin = parse_pin(text)
        found = chip.alternates(chr(ord("a") + pin.port), pin.number)
        assert found[f"{board.uart} {signal}"] == board.uart_alternate


@pytest.mark.parametrize("name", DEVICES)
def test_the_flash_has_as_many_wait_states_as_the_clock_wants(name: str) -> None:
    board = load_board(name)
    hclk_hz = board.clock_hz // 2 if board.driver == "stm32h7" else board.clock_hz
    names = [re.fullmatch(r"FLASH_ACR_LATENCY_(\d+)", m) for m in read_header(board.driver).masks]
    ours = {int(match[1]) for match in names if match} or {wait_states_of_f4_f7(board)}
    assert ours.pop() >= device(name).wait_states(hclk_hz)


def wait_states_of_f4_f7(board: Board) -> int:
    return (board.clock_hz - 1) // 30_000_000  # clock_f4_f7.c


@pytest.mark.parametrize("name", DEVICES)
def test_checkpoints_lie_in_whole_sectors_at_the_end_of_the_flash(name: str) -> None:
    board = load_board(name)
    starts = sector_starts(parse_sectors(board.flash_sectors))
    assert starts[-1] == board.flash_bytes
    first = board.storage_origin - board.flash_origin
    banks = [first + i * board.storage_bank_bytes for i in range(3)]
    assert set(banks) <= set(starts)
    assert banks[2] == board.flash_bytes
    units = {"stm32f4": 4, "stm32f7": 4, "stm32l4": 8, "stm32g0": 8, "stm32u5": 16, "stm32h7": 32}
    assert board.storage_unit_bytes == units[board.driver]  # reference manuals, flash chapters
    if board.driver == "stm32h7":  # flash.c writes the second bank only
        assert first >= board.flash_bytes // 2
    if board.cpu == "cortex-m7":  # one MPU region leaves both banks out of the cache
        assert board.storage_origin % (2 * board.storage_bank_bytes) == 0
        assert board.storage_bank_bytes & (board.storage_bank_bytes - 1) == 0


@pytest.mark.skipif("CI" not in os.environ, reason="elsewhere the files may be missing")
def test_ci_has_the_files_that_pypi_has() -> None:
    for svd, _, _ in FROM_PYPI:
        assert (chip_facts.CHIPS / f"{svd}.svd").is_file()
    for file, _ in DEVICES.values():
        assert (chip_facts.CHIPS / file).is_file()
