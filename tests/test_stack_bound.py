"""The worst-case stack of small programs whose depth is known."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ondevice.boards import load_board
from ondevice.build import build_firmware, simulate_command
from ondevice.flash_file import prepare_flash_file
from ondevice.link.device import Device
from ondevice.link.transport import ProcessTransport
from ondevice.stack_bound import (
    FIELDS,
    StackBound,
    StackBoundError,
    check_stack_bound,
    firmware_stack_bound,
    stack_bound,
)

HEADERS = Path(__file__).parent.parent / "runtime" / "include" / "ondevice"
FAKE_MODEL = Path(__file__).parent / "c" / "fake_model.c"
BOARD = load_board("qemu_f405")
FLAGS = ["-mcpu=cortex-m4", "-mthumb", "-O2", "-g", "-nostartfiles", "-fcallgraph-info=su"]
HEAD = """
#include <stdint.h>
#define DEEP(bytes) volatile uint8_t deep[bytes]; deep[0] = 1; deep[(bytes) - 1] = 2
__attribute__((noipa)) void run(void);
void reset_handler(void);
void uart_interrupt(void);
int zero;
void reset_handler(void) { run(); }
"""


def bound_of(folder: Path, text: str) -> StackBound:
    """Builds a program, whose file is called main.c, and works out its bound."""
    (folder / "main.c").write_text(HEAD + text, encoding="utf-8")
    command = ["arm-none-eabi-gcc", *FLAGS, "--specs=nano.specs", "--specs=nosys.specs"]
    command += ["-Wl,-ereset_handler", "main.c", "-o", "firmware.elf"]
    subprocess.run(command, cwd=folder, check=True)
    return stack_bound(folder / "firmware.elf", folder, folder, BOARD)


EXCEPTION_BYTES = 112  # eight core and eighteen floating-point registers, and a word to align


def between(found: int, least: int) -> bool:
    """A frame may hold some saved registers beside what is known."""
    return least <= found <= least + 64


def test_the_deepest_of_several_paths_counts(tmp_path: Path) -> None:
    bound = bound_of(
        tmp_path,
        """
        __attribute__((noipa)) static void shallow(void) { DEEP(400); }
        __attribute__((noipa)) static void deepest(void) { DEEP(600); }
        __attribute__((noipa)) static void middle(void) { DEEP(200); deepest(); }
        void run(void) { shallow(); if (zero) { middle(); } shallow(); }
        """,
    )
    assert bound.deepest == ("run", "middle", "deepest")
    assert between(bound.program_bytes, EXCEPTION_BYTES + 800)


def test_a_call_through_a_pointer_counts_as_the_deepest_that_its_field_may_hold(
    tmp_path: Path,
) -> None:
    bound = bound_of(
        tmp_path,
        """
        typedef struct { void (*write)(void); } port_t;
        __attribute__((noipa)) static void port_write(void) { DEEP(640); }
        volatile port_t port = {port_write};
        void run(void) { port_t *p = (port_t *)&port; p->write(); zero = 1; }
        """,
    )
    assert bound.deepest == ("run", "port_write")
    assert between(bound.program_bytes, EXCEPTION_BYTES + 640)


def test_functions_of_the_compilers_library_count(tmp_path: Path) -> None:
    text = "volatile double x;\nvoid run(void) {{ {} }}"
    empty = bound_of(tmp_path, text.format(""))
    division = bound_of(tmp_path, text.format("x = x / 3; zero = 1;"))
    assert division.deepest[1] in ("__aeabi_ddiv", "__divdf3")
    assert division.program_bytes >= empty.program_bytes + 8


def test_an_interrupt_has_its_own_stack(tmp_path: Path) -> None:
    text = "void run(void) {} __attribute__((used)) void uart_interrupt(void) { DEEP(320); }"
    bound = bound_of(tmp_path, text + "\nvoid (*volatile vector)(void) = uart_interrupt;")
    assert between(bound.program_bytes, EXCEPTION_BYTES)
    assert between(bound.handler_bytes, EXCEPTION_BYTES + 320)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "__attribute__((noipa)) int down(int n);\n"
            "int down(int n) { DEEP(8); return n == 0 ? zero : down(n - 1) + deep[0]; }\n"
            "void run(void) { zero = down(9); }",
            "recursion has no bound: down > down",
        ),
        (
            "typedef struct { void (*surprise)(void); } port_t;\nvolatile port_t port;\n"
            "void run(void) { port_t *p = (port_t *)&port; p->surprise(); zero = 1; }",
            "a call through a pointer that stack_bound.FIELDS does not know",
        ),
        (
            "__attribute__((noipa)) void use(volatile char *p);\n"
            "void use(volatile char *p) { p[0] = 1; }\n"
            "void run(void) { volatile char any[zero]; use(any); }",
            "run: the size of its stack frame is not known",
        ),
    ],
    ids=["recursion", "pointer", "dynamic"],
)
def test_what_has_no_bound_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StackBoundError, match=message):
        bound_of(tmp_path, text)


def test_a_firmware_whose_stack_may_overflow_is_refused_by_name() -> None:
    check_stack_bound(StackBound(BOARD.stack_bytes, 512, ("run",)), BOARD)
    with pytest.raises(
        StackBoundError, match="may use 4104 B of stack and qemu_f405 reserves 4096"
    ):
        check_stack_bound(StackBound(BOARD.stack_bytes + 8, 512, ("run", "main")), BOARD)
    with pytest.raises(StackBoundError, match="interrupts of qemu_f405 may use 520 B"):
        check_stack_bound(StackBound(8, 520, ("run",)), BOARD)


@pytest.mark.parametrize("name", ["qemu_f405", "qemu_microbit", "qemu_mps2_an500"])
def test_no_run_uses_more_stack_than_its_bound(tmp_path: Path, name: str) -> None:
    board, model = load_board(name), tmp_path / "model"
    model.mkdir()
    shutil.copy(FAKE_MODEL, model / "model.c")
    firmware = build_firmware(model, board, tmp_path / "build")
    bound = firmware_stack_bound(firmware.elf, board)
    flash = None
    if board.storage_bank_bytes:
        flash = prepare_flash_file(tmp_path / "f", board)
    with Device(ProcessTransport(simulate_command(firmware, board, flash))) as device:
        device.write_input(bytes(600))
        device.write_label(bytes(4))
        device.train(0.5)
        device.write_parameters(device.read_parameters())
        used = [device.memory().stack_high_water_bytes]
        if board.storage_bank_bytes:
            device.save_checkpoint(0.5)
            device.load_checkpoint()
            used.append(device.memory().stack_high_water_bytes)
    assert used == sorted(used)
    # A bound far above what simple use takes would be no help, one below it wrong.
    assert 0.4 * bound.program_bytes <= used[-1] <= bound.program_bytes


def test_every_pointer_to_a_function_of_the_runtime_is_known() -> None:
    text = "".join(header.read_text(encoding="utf-8") for header in HEADERS.glob("*.h"))
    fields = set(re.findall(r"\(\*(\w+)\)\(", text))
    assert {"train", "compress", "erase"} <= fields
    assert fields - set(FIELDS) == set()
