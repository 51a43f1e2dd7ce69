"""A Nucleo's own firmware on an emulated core, with a model of the chip's clocks, flash and UART.

The core is Unicorn's; the registers' behaviour is written here from the reference manuals, apart
from the firmware's headers: what becomes ready when, what the flash controller accepts. It is a
transport, so that a `Device` talks to it. It knows no time, no interrupts but the UART's (taken
where the firmware waits for bytes) and none of the core's own registers: they are plain memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import unicorn
from elftools.elf.elffile import ELFFile
from unicorn import arm_const

from ondevice.board_values import parse_sectors, sector_starts
from ondevice.boards import Board
from ondevice.build import Firmware

CORES = {
    "cortex-m0plus": arm_const.UC_CPU_ARM_CORTEX_M0,
    "cortex-m4": arm_const.UC_CPU_ARM_CORTEX_M4,
    "cortex-m7": arm_const.UC_CPU_ARM_CORTEX_M7,
    "cortex-m33": arm_const.UC_CPU_ARM_CORTEX_M33,
}
KEYS = (0x45670123, 0xCDEF89AB)
CFSR = 0xE000ED28  # cleared by writing 1
RETURN = 0x1E000000  # where a call from here ends
UNIQUE_ID = bytes(range(0x41, 0x4D))


@dataclass(frozen=True)
class Copy:
    """Bits of a register that follow others: ready after on, status after switch.

    Attributes:
        register, mask: What is read.
        of, shift: Register to take it from, and how far to the left; None: always set.
    """

    register: int
    mask: int
    of: int | None = None
    shift: int = 0


@dataclass(frozen=True)
class FlashController:
    """Registers and bits of a flash controller (reference manuals, "Embedded flash memory").

    Attributes:
        keys, status, clear, control: Addresses.
        lock, program, erase, start: Bits of `control`.
        number_shift, number_mask: Of the sector's number in `control`.
        second_bank: Bit of `control` for a page of the second bank; 0: the number says it.
        bank_sectors: Sectors of a bank; 0: one bank.
        torn_register, torn: What says that a read could not be corrected; 0: nothing does.
        word_bits: Bits of `control` that say how wide a write is, and their value for 32 bits.
    """

    keys: int
    status: int
    clear: int
    control: int
    lock: int
    program: int
    erase: int
    start: int
    number_shift: int
    number_mask: int
    second_bank: int = 0
    bank_sectors: int = 0
    torn_register: int = 0
    torn: int = 0
    word_bits: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class ChipModel:
    """What a family's registers do.

    Attributes:
        copies: See there.
        flash: Its controller.
        unique_id: Address.
        one_data_register: Whether the UART is the older kind.
        reset_flags, power_on: Address, and what is in it after power was switched on.
        apb_divider: CPU's clock by the UART's.
    """

    copies: tuple[Copy, ...]
    flash: FlashController
    unique_id: int
    one_data_register: bool
    reset_flags: tuple[int, int]
    apb_divider: int


def _f4_f7(unique_id: int, old_uart: bool) -> ChipModel:
    return ChipModel(
        copies=(
            Copy(0x40023800, 1 << 17, 0x40023800, 1),  # HSERDY after HSEON
            Copy(0x40023800, 1 << 25, 0x40023800, 1),  # PLLRDY after PLLON
            Copy(0x40023808, 3 << 2, 0x40023808, 2),  # SWS after SW
            Copy(0x40007004, 3 << 16, 0x40007000, 0),  # ODRDY, ODSWRDY
        ),
        flash=FlashController(
            *(0x40023C04, 0x40023C0C, 0x40023C0C, 0x40023C10),
            *(1 << 31, 1 << 0, 1 << 1, 1 << 16, 3, 0x1F),
            word_bits=(3 << 8, 2 << 8),
        ),
        unique_id=unique_id,
        one_data_register=old_uart,
        reset_flags=(0x40023874, 0x0E000000),
        apb_divider=4,
    )


_PAGES = (1 << 31, 1 << 0, 1 << 1, 1 << 16, 3)
MODELS = {
    "stm32f4": _f4_f7(0x1FFF7A10, True),
    "stm32f7": _f4_f7(0x1FF0F420, False),
    "stm32l4": ChipModel(
        copies=(
            Copy(0x40021000, 1 << 10, 0x40021000, 2),
            Copy(0x40021000, 1 << 25, 0x40021000, 1),
            Copy(0x40021008, 3 << 2, 0x40021008, 2),
        ),
        flash=FlashController(
            *(0x40022008, 0x40022010, 0x40022010, 0x40022014, *_PAGES, 0xFF),
            second_bank=1 << 11,
            bank_sectors=256,
            torn_register=0x40022018,
            torn=1 << 31,
        ),
        unique_id=0x1FFF7590,
        one_data_register=False,
        reset_flags=(0x40021094, 0x0C000600),
        apb_divider=1,
    ),
    "stm32g0": ChipModel(
        copies=(
            Copy(0x40021000, 1 << 25, 0x40021000, 1),
            Copy(0x40021008, 7 << 3, 0x40021008, 3),
        ),
        flash=FlashController(
            *(0x40022008, 0x40022010, 0x40022010, 0x40022014, *_PAGES, 0x3F),
            torn_register=0x40022018,
            torn=1 << 31,
        ),
        unique_id=0x1FFF7590,
        one_data_register=False,
        reset_flags=(0x40021060, 0x0C000000),
        apb_divider=1,
    ),
    "stm32u5": ChipModel(
        copies=(
            Copy(0x46020C00, 1 << 10, 0x46020C00, 2),
            Copy(0x46020C00, 1 << 25, 0x46020C00, 1),
            Copy(0x46020C1C, 3 << 2, 0x46020C1C, 2),
            Copy(0x4602080C, 1 << 15),  # VOSRDY
            Copy(0x4602080C, 1 << 14, 0x4602080C, -4),  # BOOSTRDY after BOOSTEN
        ),
        flash=FlashController(
            *(0x40022008, 0x40022020, 0x40022020, 0x40022028, *_PAGES, 0x7F),
            second_bank=1 << 11,
            bank_sectors=128,
            torn_register=0x40022030,
            torn=1 << 31,
        ),
        unique_id=0x0BFA0700,
        one_data_register=False,
        reset_flags=(0x46020CF4, 0x0C000000),
        apb_divider=1,
    ),
    "stm32h7": ChipModel(
        copies=(
            Copy(0x58024400, 1 << 17, 0x58024400, 1),
            Copy(0x58024400, 1 << 25, 0x58024400, 1),
            Copy(0x58024410, 7 << 3, 0x58024410, 3),
            Copy(0x58024804, 1 << 13),  # ACTVOSRDY
            Copy(0x58024818, 1 << 13),  # VOSRDY
        ),
        flash=FlashController(
            *(0x52002104, 0x52002110, 0x52002114, 0x5200210C),
            *(1 << 0, 1 << 1, 1 << 2, 1 << 7, 8, 0x7),
            bank_sectors=8,
            torn_register=0x52002110,
            torn=1 << 26,
        ),
        unique_id=0x1FF1E800,
        one_data_register=False,
        reset_flags=(0x580244D0, 0x00E80000),
        apb_divider=4,
    ),
}


def _skip_double_precision(core: Any, _data: Any) -> bool:
    """Unicorn's Cortex-M7 has none; the firmware only adds up losses with it."""
    at = int(core.reg_read(arm_const.UC_ARM_REG_PC))
    first, second = struct.unpack("<HH", core.mem_read(at, 4))
    if first & 0xEC00 != 0xEC00 or second & 0x0E00 != 0x0A00:  # coprocessors 10, 11
        return False
    core.reg_write(arm_const.UC_ARM_REG_PC, (at + 4) | 1)
    return True


@dataclass
class Flash:
    """What survives a restart, and what the controller was asked to do.

    Attributes:
        content: All of it.
        erased: Numbers of the sectors that were erased, in order.
        programmed: Offset of every word that was programmed.
        wrongs: What a real controller would have refused.
        torn: Offsets of words that cannot be read.
    """

    content: bytearray
    erased: list[int] = field(default_factory=list)
    programmed: list[int] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)
    torn: set[int] = field(default_factory=set)


class NucleoEmulator:
    """A started board; a `Transport`.

    Attributes:
        registers: Every register that was written, by address.
        flash: See `Flash`.
        feeds: How often the watchdog was fed.
    """

    def __init__(
        self,
        board: Board,
        firmware: Firmware,
        flash: Flash | None = None,
        never_ready: frozenset[int] = frozenset(),
    ) -> None:
        """Switch on.

        Args:
            board: With a file in boards/.
            firmware: Built for it.
            flash: From an emulator before; None: new, with the firmware.
            never_ready: Registers whose copied bits stay 0.
        """
        assert firmware.binary is not None
        self.name = board.name
        self.bytes_per_s: float | None = None
        self.board, self.chip = board, MODELS[board.driver]
        image = firmware.binary.read_bytes()
        self.flash = flash or Flash(bytearray(b"\xff" * board.flash_bytes))
        self.flash.content[: len(image)] = image
        self._never_ready = never_ready
        address, value = self.chip.reset_flags
        self.registers: dict[int, int] = {address: value, self.chip.flash.control: self._locked()}
        self.feeds = 0
        self._resumes = self._may_stop = False
        self._sent = bytearray()  # by the board
        self._waiting = bytearray()  # for the board
        self._keys: list[int] = []
        self._starts = sector_starts(parse_sectors(board.flash_sectors))
        with firmware.elf.open("rb") as file:
            symbols = ELFFile(file).get_section_by_name(".symtab").iter_symbols()
            self._functions = {s.name: int(s["st_value"]) for s in symbols}
        self._core = self._start_core(image)

    def _locked(self) -> int:
        return self.chip.flash.lock

    def _start_core(self, image: bytes) -> Any:
        core = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        core.ctl_set_cpu_model(CORES[self.board.cpu])
        core.mem_map(self.board.flash_origin, self.board.flash_bytes)
        core.mem_write(self.board.flash_origin, bytes(self.flash.content))
        core.mem_map(self.board.ram_origin, self.board.ram_bytes)
        core.mem_map(self.chip.unique_id & ~0xFFFF, 0x10000)
        core.mem_write(self.chip.unique_id, UNIQUE_ID)
        core.mem_map(RETURN, 0x1000)
        for origin, size in ((0x40000000, 0x20000000), (0xE0000000, 0x100000)):
            core.mmio_map(origin, size, self._read, origin, self._write, origin)
        end = self.board.flash_origin + self.board.flash_bytes - 1
        hook = unicorn.UC_HOOK_MEM_WRITE
        core.hook_add(hook, self._write_flash, begin=self.board.flash_origin, end=end)
        first = self.board.storage_origin
        core.hook_add(unicorn.UC_HOOK_MEM_READ, self._read_flash, begin=first, end=end)
        feed = self._functions["board_watchdog_feed"] & ~1
        core.hook_add(unicorn.UC_HOOK_CODE, self._stop, begin=feed, end=feed)
        core.hook_add(unicorn.UC_HOOK_INSN_INVALID, _skip_double_precision)
        stack, entry = struct.unpack_from("<II", image)
        core.reg_write(arm_const.UC_ARM_REG_SP, stack)
        core.reg_write(arm_const.UC_ARM_REG_PC, entry)
        return core

    # The core's view.

    def _read(self, _core: Any, offset: int, _size: int, origin: int) -> int:
        address = (origin + offset) & ~3
        value = self.registers.get(address, 0)
        for copy in self.chip.copies:
            if copy.register == address and address not in self._never_ready:
                source = copy.mask if copy.of is None else self.registers.get(copy.of, 0)
                shifted = source << copy.shift if copy.shift >= 0 else source >> -copy.shift
                value = (value & ~copy.mask) | (shifted & copy.mask)
        uart = address - self.board.uart_origin
        status, data = (0x00, 0x04) if self.chip.one_data_register else (0x1C, 0x24)
        if uart == status:
            value = 0xC0 | (0x20 if self._waiting else 0)  # TXE, TC, RXNE
        elif uart == data:
            value = self._waiting.pop(0) if self._waiting else 0
        return value

    def _write(self, _core: Any, offset: int, _size: int, value: int, origin: int) -> None:
        address = origin + offset
        flash = self.chip.flash
        if address == self.board.uart_origin + (0x04 if self.chip.one_data_register else 0x28):
            self._sent.append(value & 0xFF)
        elif address == self.board.watchdog_origin and value == 0xAAAA:
            self.feeds += 1
        elif address == flash.keys:
            self._keys.append(value)
            if tuple(self._keys[-2:]) == KEYS:
                self.registers[flash.control] &= ~flash.lock
        elif address == flash.control:
            self._control_flash(value)
        elif address in (flash.clear, flash.torn_register):
            self.registers[flash.status] = self.registers.get(flash.status, 0) & ~value
            torn = self.registers.get(flash.torn_register, 0)
            self.registers[flash.torn_register] = torn & ~value
        elif address == CFSR:
            self.registers[address] = self.registers.get(address, 0) & ~value
        else:
            self.registers[address] = value

    def _control_flash(self, value: int) -> None:
        flash = self.chip.flash
        before = self.registers[flash.control]
        if before & flash.lock and not value & flash.lock:
            self.flash.wrongs.append("control written while locked")
            return
        self.registers[flash.control] = value
        if value & flash.start:
            if not value & flash.erase:
                self.flash.wrongs.append("start without erase")
            if value & flash.word_bits[0] != flash.word_bits[1]:
                self.flash.wrongs.append("erase at another width")
            self._erase(value)

    def _erase(self, value: int) -> None:
        flash = self.chip.flash
        number = (value >> flash.number_shift) & flash.number_mask
        # A bank that has a register set of its own, or a bit that names it.
        second = flash.bank_sectors and (not flash.second_bank or value & flash.second_bank)
        number += flash.bank_sectors if second else 0
        self.flash.erased.append(number)
        start, end = self._starts[number], self._starts[number + 1]
        self.flash.content[start:end] = b"\xff" * (end - start)
        self.flash.torn -= set(range(start, end))
        self._core.mem_write(self.board.flash_origin + start, b"\xff" * (end - start))

    def _write_flash(
        self, _core: Any, _kind: int, address: int, size: int, value: int, _data: Any
    ) -> None:
        flash, offset = self.chip.flash, address - self.board.flash_origin
        control = self.registers[flash.control]
        if control & flash.lock or not control & flash.program:
            self.flash.wrongs.append(f"write to {address:#x} while it may not")
        if size != 4 or address % 4:
            self.flash.wrongs.append(f"write of {size} bytes to {address:#x}")
        if self.flash.content[offset : offset + 4] != b"\xff\xff\xff\xff":
            self.flash.wrongs.append(f"write to {address:#x}, which is not erased")
        unit_words = self.board.storage_unit_bytes // 4
        place = len(self.flash.programmed) % unit_words
        if place != (offset % self.board.storage_unit_bytes) // 4:
            self.flash.wrongs.append(f"word {place} of a unit at {address:#x}")
        self.flash.content[offset : offset + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")
        self.flash.programmed.append(offset)

    def _read_flash(
        self, _core: Any, _kind: int, address: int, _size: int, _value: int, _data: Any
    ) -> None:
        flash = self.chip.flash
        if (address - self.board.flash_origin) & ~3 in self.flash.torn and flash.torn:
            now = self.registers.get(flash.torn_register, 0)
            self.registers[flash.torn_register] = now | flash.torn

    def _stop(self, core: Any, _address: int, _size: int, _data: Any) -> None:
        """Before the watchdog is fed; not again where the run just begins there."""
        if self._resumes:
            self._resumes = False
        elif self._may_stop:
            core.emu_stop()

    # The host's view.

    def run(self) -> None:
        """Run until the watchdog is fed: the firmware waits for bytes, or goes on from there."""
        at = int(self._core.reg_read(arm_const.UC_ARM_REG_PC))
        self._resumes = at == self._functions["board_watchdog_feed"] & ~1
        self._may_stop = True
        self._core.emu_start(at | 1, RETURN)
        self._may_stop = False

    def call(self, name: str) -> int:
        """Call a function without arguments, as an interrupt would; returns its R0."""
        context = self._core.context_save()
        self._core.reg_write(arm_const.UC_ARM_REG_LR, RETURN | 1)
        self._core.emu_start(self._functions[name] | 1, RETURN)
        result = int(self._core.reg_read(arm_const.UC_ARM_REG_R0))
        self._core.context_restore(context)
        return result

    def write(self, data: bytes) -> None:
        """Send bytes to the board; each raises the UART's interrupt."""
        if not self.feeds:
            self.run()  # until its UART receives
        for byte in data:
            self._waiting.append(byte)
            self.call("uart_interrupt")

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        """Receive up to `max_bytes`; runs the board where there are none."""
        for _ in range(100):
            if self._sent:
                break
            self.run()
        taken = bytes(self._sent[:max_bytes])
        del self._sent[: len(taken)]
        return taken

    def close(self) -> None:
        """Nothing to close."""
