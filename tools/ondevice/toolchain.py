"""How C is compiled for a board: the same flags for firmware and for measured kernels."""

from __future__ import annotations

from ondevice.board_values import parse_pin, parse_sectors
from ondevice.boards import IN_FILE, Board

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
# -fno-strict-aliasing: the arena's bytes hold tensors of several types.
# -fno-ipa-...: GCC 12 takes some vectorised kernels for functions without effect (it loses
# their stores into the arena) and drops the calls.
# -fno-schedule-insns: moving loads up before registers are allocated spills the register tiles.
CODE = (
    "-O3",
    "-g",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-fno-ipa-pure-const",
    "-fno-ipa-modref",
    "-fno-schedule-insns",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-common",
)
# Files of runtime/src that run between steps, never in one: small is better than fast there. The
# session is not among them: with -Os it takes more of the stack that a step stands on.
BESIDE_STEP = (
    "*_requests.c",
    "checkpoint*.c",
    "codec_*.c",
    "device_info.c",
    "image.c",
    "regions.c",
    "round.c",
    "sensing.c",
    "start_count.c",
)
LINK = ("-nostartfiles", "-Wl,--gc-sections", "--specs=nano.specs")


def tool_prefix(board: Board) -> str:
    """What stands before `gcc`."""
    return "" if board.run == "host" else "arm-none-eabi-"


def machine_flags(board: Board) -> list[str]:
    """CPU and FPU, and what keeps gcc from code that the assembler refuses."""
    machine = [] if board.run == "host" else [f"-mcpu={board.cpu}", "-mthumb"]
    if board.cpu == "cortex-m55":
        # binutils 2.40 reads vcvtne, a conversion under a condition, as the vcvtn of MVE.
        machine += ["-fno-if-conversion2"]
    if board.fpu:
        machine += [f"-mfpu={board.fpu}", "-mfloat-abi=hard"]
    return machine


def driver_folders(board: Board) -> list[str]:
    """Folders of firmware/src that are compiled for a board; the first one's headers are found by
    their name alone."""
    folders = [board.driver]
    if board.driver.startswith("stm32"):
        folders.append("stm32")
    if board.run != "host":
        folders.append("cortex_m")
    return folders


def definitions(board: Board, allow_export: bool | None = None) -> dict[str, str]:
    """What firmware/src is told of the board, macro by macro.

    Args:
        board: Target.
        allow_export: Whether private data may be read from it; None: of simulated boards only, but
            not where the firmware is a real board's.
    """
    if allow_export is None:
        allow_export = board.run in ("host", "qemu")
    return {
        "OD_ALLOW_EXPORT": "1" if allow_export else "0",
        "OD_CLOCK_HZ": f"{board.clock_hz}u",
        "OD_UART_BAUD": f"{board.uart_baud}u",
        "OD_STACK_BYTES": f"{board.stack_bytes}u",
        "OD_STORAGE_ORIGIN": f"{board.storage_origin:#x}u",
        "OD_STORAGE_BANK_BYTES": f"{board.storage_bank_bytes}u",
        "OD_STORAGE_UNIT_BYTES": f"{board.storage_unit_bytes}u",
        "OD_STORAGE_IN_FILE": "1" if board.run in IN_FILE else "0",
        "OD_SIMULATED": "1" if board.run == "qemu" else "0",
        f"OD_UART_{board.uart.upper()}": "1",
        "OD_UART_ORIGIN": f"{board.uart_origin:#x}u",
        "OD_UART_INTERRUPT": str(board.uart_interrupt),
        f"OD_COUNTER_IS_{board.counter.upper()}": "1",
        "OD_COUNTER_ORIGIN": f"{board.counter_origin:#x}u",
        "OD_WATCHDOG_ORIGIN": f"{board.watchdog_origin:#x}u",
        "OD_WATCHDOG_HZ": f"{board.watchdog_hz}u",
        **_pins(board),
        **_sectors(board),
    }


def _pins(board: Board) -> dict[str, str]:
    if not board.uart_tx or not board.uart_rx:
        return {}
    send, receive = parse_pin(board.uart_tx), parse_pin(board.uart_rx)
    return {
        "OD_UART_TX_PORT": f"{send.port}u",
        "OD_UART_TX_PIN": f"{send.number}u",
        "OD_UART_RX_PORT": f"{receive.port}u",
        "OD_UART_RX_PIN": f"{receive.number}u",
        "OD_UART_ALTERNATE": f"{board.uart_alternate}u",
    }


def _sectors(board: Board) -> dict[str, str]:
    if not board.flash_sectors:
        return {}
    groups = parse_sectors(board.flash_sectors)
    return {
        "OD_FLASH_ORIGIN": f"{board.flash_origin:#x}u",
        "OD_FLASH_SECTORS": ",".join(f"{{{group.count}u,{group.bytes}u}}" for group in groups),
    }
