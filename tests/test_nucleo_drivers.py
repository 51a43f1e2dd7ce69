"""The drivers of the real boards, run: their own firmware on an emulated core.

No silicon: the chips' registers behave as the reference manuals say, as far as nucleo_emulator.py
knows them.
"""

import struct
from collections.abc import Callable

import pytest

from nucleo_emulator import UNIQUE_ID, NucleoEmulator
from ondevice.board_values import parse_sectors, sector_starts
from ondevice.boards import list_boards, load_board
from ondevice.build import Firmware
from ondevice.errors import DeviceError
from ondevice.link.device import Device
from ondevice.link.identity import StartReason
from ondevice.link.messages import CounterKind

NUCLEOS = [name for name in list_boards() if load_board(name).run == "serial"]
Start = Callable[..., NucleoEmulator]


@pytest.fixture
def start(build: Callable[[str], Firmware]) -> Start:
    def switch_on(name: str, **options: object) -> NucleoEmulator:
        return NucleoEmulator(load_board(name), build(name), **options)  # type: ignore[arg-type]

    return switch_on


def train(device: Device, steps: int) -> list[bytes]:
    for step in range(steps):
        device.write_input(bytes((step * 37 + i * 11) % 256 for i in range(600)))
        device.write_label(struct.pack("<I", step % 7))
        device.train(0.25)
    return device.read_parameters()


@pytest.mark.parametrize("name", NUCLEOS)
def test_a_nucleo_starts_at_full_clock_and_trains(start: Start, name: str) -> None:
    board, emulator = load_board(name), start(name)
    with Device(emulator) as device:
        assert (device.info.board, device.info.clock_hz) == (name, board.clock_hz)
        assert device.info.counter is CounterKind.CYCLES
        identity = device.identity()
        assert identity.unique_id == UNIQUE_ID.hex()
        assert identity.start_reason is StartReason.POWER
        assert struct.unpack("<4I", train(device, 2)[0])[0] == 2
    divisor = emulator.registers[board.uart_origin + baud_register(emulator)]
    rate = board.clock_hz / emulator.chip.apb_divider / divisor
    assert abs(rate / board.uart_baud - 1) < 0.02  # what a UART bears
    assert emulator.feeds > 2
    assert emulator.flash.wrongs == []


def baud_register(emulator: NucleoEmulator) -> int:
    return 0x08 if emulator.chip.one_data_register else 0x0C


@pytest.mark.parametrize("name", ["nucleo_f446re", "nucleo_g071rb", "nucleo_h743zi"])
def test_a_nucleo_whose_pll_does_not_start_runs_on_hsi_and_says_so(start: Start, name: str) -> None:
    board = load_board(name)
    clock_control = start(name).chip.copies[0].register
    emulator = start(name, never_ready=frozenset({clock_control}))
    with Device(emulator) as device:
        slow_hz = device.info.clock_hz
    assert slow_hz == (64_000_000 if board.driver == "stm32h7" else 16_000_000)  # HSI
    divisor = emulator.registers[board.uart_origin + baud_register(emulator)]
    assert abs(slow_hz / divisor / board.uart_baud - 1) < 0.02


@pytest.mark.parametrize("name", NUCLEOS)
def test_a_checkpoint_in_a_nucleo_s_flash_survives_a_restart(start: Start, name: str) -> None:
    board, emulator = load_board(name), start(name)
    with Device(emulator) as device:
        learned = train(device, 3)
        device.save_checkpoint(0.5)
    flash = emulator.flash
    assert flash.wrongs == []
    assert flash.programmed
    first = board.storage_origin - board.flash_origin
    assert first <= min(flash.programmed) < max(flash.programmed) < board.flash_bytes
    with Device(start(name, flash=flash)) as device:
        assert device.info.restored
        assert device.read_parameters() == learned


@pytest.mark.parametrize("name", NUCLEOS)
def test_an_erase_takes_the_bank_s_own_sectors_and_no_others(start: Start, name: str) -> None:
    board, emulator = load_board(name), start(name)
    before = bytes(emulator.flash.content)
    with Device(emulator) as device:
        device.erase_checkpoints()
    flash = emulator.flash
    first = board.storage_origin - board.flash_origin
    assert flash.wrongs == []
    assert len(set(flash.erased)) == len(flash.erased)
    assert flash.content[:first] == before[:first]
    starts = sector_starts(parse_sectors(board.flash_sectors))
    assert {starts[number] for number in flash.erased} <= {s for s in starts[:-1] if s >= first}
    assert len(flash.erased) >= 1


@pytest.mark.parametrize("name", NUCLEOS)
def test_a_unit_that_a_cut_of_power_tore_is_an_error_and_no_crash(start: Start, name: str) -> None:
    emulator = start(name)
    with Device(emulator) as device:
        learned = train(device, 1)
        device.save_checkpoint()
        train(device, 1)
        count = len(emulator.flash.programmed)
        device.save_checkpoint()
    torn = emulator.flash.programmed[count:]
    emulator.flash.torn |= set(torn[: len(torn) // 2])
    if not emulator.chip.flash.torn:  # no ECC: what is torn is read as it lies there
        for offset in torn[: len(torn) // 2]:
            emulator.flash.content[offset] ^= 0x55
    with Device(start(name, flash=emulator.flash)) as device:
        assert device.info.restored
        assert device.read_parameters() == learned


def test_no_flash_is_written_while_the_supply_is_low(start: Start) -> None:
    emulator = start("nucleo_f446re")
    with Device(emulator) as device:
        train(device, 1)
        emulator.registers[0x40007004] = 1 << 2  # PVDO of PWR_CSR
        with pytest.raises(DeviceError, match="flash"):
            device.save_checkpoint()
        emulator.registers[0x40007004] = 0
        device.save_checkpoint()
    assert emulator.flash.wrongs == []


def test_an_nmi_is_the_driver_s_only_while_it_reads_flash(start: Start) -> None:
    emulator = start("nucleo_l476rg")
    emulator.run()
    emulator.registers[0x40022018] = 1 << 31  # ECCD of FLASH_ECCR
    assert emulator.call("board_nmi") == 0


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (0x0E000000, StartReason.POWER),
        (0x06000000, StartReason.BROWN_OUT),
        (0x04000000, StartReason.PIN),
        (0x14000000, StartReason.SOFTWARE),
        (0x24000000, StartReason.WATCHDOG),
        (0x00000000, StartReason.UNKNOWN),
    ],
)
def test_the_reset_flags_of_an_f446_are_its_start_reason(
    start: Start, flags: int, reason: StartReason
) -> None:
    emulator = start("nucleo_f446re")
    emulator.registers[0x40023874] = flags  # RCC_CSR, RM0390 6.3.21
    with Device(emulator) as device:
        assert device.identity().start_reason is reason
    assert emulator.registers[0x40023874] & (1 << 24)  # RMVF: cleared for the next start
