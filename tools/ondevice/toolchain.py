"""How C is compiled for a board: the same flags for firmware and for measured kernels."""

from __future__ import annotations

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
LINK = ("-nostartfiles", "-Wl,--gc-sections", "--specs=nano.specs")


def tool_prefix(board: Board) -> str:
    """What stands before `gcc`."""
    return "" if board.run == "host" else "arm-none-eabi-"


def machine_flags(board: Board) -> list[str]:
    """CPU and FPU."""
    machine = [] if board.run == "host" else [f"-mcpu={board.cpu}", "-mthumb"]
    if board.fpu:
        machine += [f"-mfpu={board.fpu}", "-mfloat-abi=hard"]
    return machine


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
    }
