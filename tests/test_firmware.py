"""The firmware of every board: built by PlatformIO, booted, trained and measured.

The model is firmware_model.py's, whose weights tell which steps ran.
"""

import os
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from firmware_model import (
    FAKE_MODEL,
    LABEL_DEEP,
    LABEL_NOPS,
    NOPS,
    costly_model,
    replaced,
    write_model,
)
from ondevice.boards import list_boards, load_board
from ondevice.build import BuildError, Firmware, build_firmware, simulate_command
from ondevice.elf import read_sizes
from ondevice.errors import UserError
from ondevice.link.device import Device
from ondevice.link.messages import CounterKind
from ondevice.link.transport import ProcessTransport

ROOT = Path(__file__).resolve().parent.parent
QEMU_BOARDS = [name for name in list_boards() if load_board(name).run == "qemu"]
SIMULATED = ["host", *QEMU_BOARDS]

Build = Callable[[str], Firmware]


def start(build: Build, name: str) -> Device:
    command = simulate_command(build(name), load_board(name))
    return Device(ProcessTransport(command, name=name))


def sample(step: int) -> bytes:
    return bytes((step * 37 + i * 11) % 256 for i in range(600))


def train(device: Device, steps: int) -> list[int]:
    counts = []
    for step in range(steps):
        device.write_input(sample(step))
        device.write_label(struct.pack("<I", step % 7))
        counts.append(device.train(0.25).count)
    return counts


def expected_weights(steps: int) -> list[int]:
    """What fake_model.c must hold after `train`, worked out here a second time."""
    weights = [0, 1, 2, 3]
    for step in range(steps):
        value = weights[1] * 31
        for byte in sample(step):
            value = (value * 31 + byte) % 2**32
        weights[0] += 1
        weights[1] = (value * 31 + step % 7) % 2**32
        weights[2] = (weights[2] * 31 + 256) % 2**32
    return weights


@pytest.mark.parametrize("name", list_boards())
def test_every_board_builds_within_its_memory_and_without_a_heap(build: Build, name: str) -> None:
    firmware, board = build(name), load_board(name)
    assert firmware.elf.is_file()
    if board.run == "host":
        return
    sizes = read_sizes(firmware.elf)
    assert sizes.heap_symbols == ()
    assert 0 < sizes.flash_bytes <= board.flash_bytes
    assert sizes.stack_bytes == board.stack_bytes
    assert board.stack_bytes < sizes.ram_bytes <= board.ram_bytes
    said = subprocess.run(
        ["arm-none-eabi-size", "-B", firmware.elf], capture_output=True, text=True, check=True
    )
    text, data, bss = (int(word) for word in said.stdout.splitlines()[1].split()[:3])
    assert sizes.flash_bytes == text + data
    assert sizes.ram_bytes == data + bss  # GNU size counts the stack's reserve as bss
    image = firmware.elf.with_suffix(".bin").stat().st_size
    assert abs(image - sizes.flash_bytes) < 16  # alignment between sections


@pytest.mark.parametrize("name", SIMULATED)
def test_a_simulated_board_boots_and_trains_exactly_what_it_was_sent(
    build: Build, name: str
) -> None:
    with start(build, name) as device:
        assert (device.info.board, device.info.model) == (name, "fake")
        assert device.info.model_id == bytes(range(16)).hex()
        assert device.info.stack_bytes == load_board(name).stack_bytes
        assert struct.unpack("<4I", device.read_parameters()[0]) == (0, 1, 2, 3)
        train(device, 5)
        assert list(struct.unpack("<4I", device.read_parameters()[0])) == expected_weights(5)
        assert device.counters().trained == 5


@pytest.mark.parametrize("name", SIMULATED)
def test_a_simulated_board_takes_and_gives_back_every_byte(build: Build, name: str) -> None:
    with start(build, name) as device:
        sent = [
            struct.pack("<4I", 9, 8, 7, 6),
            bytes((i * 131 + i // 256) % 256 for i in range(3000)),
        ]
        device.write_parameters(sent)
        assert device.read_parameters() == sent
        device.reset_model()
        assert struct.unpack("<4I", device.read_parameters()[0]) == (0, 1, 2, 3)


@pytest.mark.parametrize("name", QEMU_BOARDS)
def test_the_counter_counts_instructions(build: Build, name: str) -> None:
    with start(build, name) as device:
        assert device.info.counter is CounterKind.INSTRUCTIONS
        counts = []
        for label in (LABEL_NOPS + 99, LABEL_NOPS):
            device.write_input(sample(0))
            device.write_label(struct.pack("<I", label))
            counts.append(device.evaluate().count)
        # A few more for the call, and one step of the counter at either end.
        slack = 8 + 2 * device.info.counter_resolution
        assert abs(counts[1] - counts[0] - NOPS) <= slack


def test_the_default_simulated_board_counts_single_instructions_and_repeats_them(
    build: Build,
) -> None:
    runs = []
    for _ in range(2):
        with start(build, "qemu_f405") as device:
            assert device.info.counter_resolution == 1
            counts = train(device, 8)
            profile = device.profile()
        assert len(profile) == 3
        assert 0 < sum(profile) <= sum(counts)
        runs.append((counts, profile))
    assert min(runs[0][0]) > 600  # at least one instruction for each byte that is hashed
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", QEMU_BOARDS)
def test_the_stack_is_measured(build: Build, name: str) -> None:
    with start(build, name) as device:
        peaks = []
        for label in (1, LABEL_DEEP):
            device.paint()
            device.write_input(sample(0))
            device.write_label(struct.pack("<I", label))
            device.evaluate()
            peaks.append(device.memory().stack_high_water_bytes)
        shallow, deep = peaks
        depth = struct.unpack("<3f", device.read_output())[1]  # the model's own word
        assert depth <= deep <= depth + 32
        assert 0 < shallow < deep
        assert deep <= device.info.stack_bytes


@pytest.mark.parametrize(
    ("name", "interrupt"),
    [  # of the UART that is the ST-LINK's port: the reference manuals' vector tables
        ("nucleo_f411re", 38),
        ("nucleo_f446re", 38),
        ("nucleo_f767zi", 39),
        ("nucleo_g071rb", 28),
        ("nucleo_h743zi", 39),
        ("nucleo_l476rg", 38),
        ("nucleo_u575zi", 61),
    ],
)
def test_a_nucleo_starts_at_its_reset_handler_and_has_its_uart_interrupt(
    build: Build, name: str, interrupt: int
) -> None:
    board, firmware = load_board(name), build(name)
    vectors = struct.unpack_from(
        f"<{17 + interrupt}I", firmware.elf.with_suffix(".bin").read_bytes()
    )
    with firmware.elf.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".symtab")
        address = {s.name: s["st_value"] for s in symbols.iter_symbols()}
    # The program's stack is the first of the RAM: below it is nothing to spoil.
    assert address["od_stack_limit"] == board.ram_origin
    assert address["od_stack_top"] == board.ram_origin + board.stack_bytes
    assert vectors[0] == address["od_handler_stack_top"]
    assert vectors[1] == address["reset_handler"] | 1
    assert vectors[16 + interrupt] == address["uart_interrupt"] | 1
    assert vectors[16 + interrupt - 1] != vectors[16 + interrupt]


@pytest.mark.parametrize("name", [n for n in list_boards() if load_board(n).run == "renode"])
def test_renode_runs_the_firmware_of_the_real_board_bit_for_bit(build: Build, name: str) -> None:
    simulated, real = build(name), build(load_board(name).like)
    assert simulated.binary is not None
    assert real.binary is not None
    assert simulated.binary.read_bytes() == real.binary.read_bytes()


def test_a_real_board_cannot_be_simulated(build: Build) -> None:
    with pytest.raises(UserError, match="nucleo_f446re"):
        simulate_command(build("nucleo_f446re"), load_board("nucleo_f446re"))


def test_the_linker_refuses_a_model_by_the_byte_and_says_by_how_many(
    build: Build, tmp_path: Path
) -> None:
    board = load_board("qemu_f405")
    # Of the same model, so that nothing but the arena differs; a multiple of 8 as .bss is aligned.
    free = (board.ram_bytes - read_sizes(build("qemu_f405").elf).ram_bytes) // 8 * 8
    text = costly_model()

    def with_arena(count: int) -> Path:
        return write_model(tmp_path / "m", replaced(text, "arena[256]", f"arena[{count}]"))

    fits = build_firmware(with_arena(256 + free), board, tmp_path / "b")
    assert board.ram_bytes - read_sizes(fits.elf).ram_bytes < 8
    with pytest.raises(BuildError, match="qemu_f405") as caught:
        build_firmware(with_arena(256 + free + 800), board, tmp_path / "b")
    message = str(caught.value)
    assert "\n" not in message
    assert "RAM" in message
    named = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", message)]
    assert any(800 - 8 < number <= 800 for number in named), message


def test_a_model_with_too_many_constants_is_refused_by_the_flash(tmp_path: Path) -> None:
    big = "static const uint8_t big[2000000] = {'b'};\n"
    text = replaced(FAKE_MODEL, "static uint8_t input[", big + "static uint8_t input[")
    text = replaced(text, '.name = "fake"', ".name = (const char *)big")
    with pytest.raises(BuildError, match=r"qemu_f405.*FLASH|FLASH.*qemu_f405"):
        build_firmware(write_model(tmp_path / "m", text), load_board("qemu_f405"), tmp_path / "b")


def test_a_model_that_allocates_is_refused(tmp_path: Path) -> None:
    text = replaced(FAKE_MODEL, "#include <string.h>", "#include <stdlib.h>\n#include <string.h>")
    text = replaced(text, "    arena[49] = 1;", "    arena[49] = *(uint8_t *)malloc(label);")
    with pytest.raises(BuildError, match=r"malloc|sbrk"):
        build_firmware(write_model(tmp_path / "m", text), load_board("qemu_f405"), tmp_path / "b")


def test_the_allocator_is_found_in_an_elf_file(tmp_path: Path) -> None:
    source, elf = tmp_path / "heap.c", tmp_path / "heap.elf"
    source.write_text(
        "#include <stdlib.h>\nint main(int n) { free(malloc((size_t)n)); return 0; }\n",
        encoding="utf-8",
    )
    flags = ["-mcpu=cortex-m4", "-mthumb", "-O0", "-w", "--specs=rdimon.specs"]
    subprocess.run(["arm-none-eabi-gcc", *flags, source, "-o", elf], check=True)
    assert {"malloc", "free"} <= set(read_sizes(elf).heap_symbols)


def test_no_name_of_an_allocator_goes_unnoticed(tmp_path: Path) -> None:
    """Those of libc, newlib and C++ (Itanium ABI: _Znwj is operator new(unsigned))."""
    names = [
        "malloc",
        "calloc",
        "realloc",
        "free",
        "_malloc_r",
        "_sbrk",
        "_Znwj",
        "_Znaj",
        "_ZdlPv",
    ]
    names += ["_sbrk_r", "memalign", "aligned_alloc", "strdup", "posix_memalign", "_free_r", "sbrk"]
    source, made = tmp_path / "heap.c", tmp_path / "heap.o"
    flags = ["-mcpu=cortex-m4", "-mthumb", "-ffreestanding", "-w", "-c"]
    for name in names:
        source.write_text(f"void {name}(void) {{}}\n", encoding="utf-8")
        subprocess.run(["arm-none-eabi-gcc", *flags, "-o", made, source], check=True)
        assert read_sizes(made).heap_symbols == (name,)


def test_what_is_no_elf_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.elf"
    path.write_text("no", encoding="utf-8")
    with pytest.raises(UserError, match=r"notes\.elf"):
        read_sizes(path)


def test_c_that_does_not_compile_is_one_line_with_its_place(tmp_path: Path) -> None:
    text = replaced(FAKE_MODEL, "    arena[49] = 1;", "    arena[49] = undeclared_thing;")
    with pytest.raises(BuildError, match=r"model\.c.*undeclared_thing") as caught:
        build_firmware(write_model(tmp_path / "m", text), load_board("host"), tmp_path / "b")
    assert "\n" not in str(caught.value)


def test_builds_in_one_folder_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most = [], []

    def platformio(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        running.append(command)
        most.append(len(running))
        time.sleep(0.2)  # as long as another thread would need to begin
        running.pop()
        return subprocess.CompletedProcess(command, 1, "an error", "")

    def build() -> None:
        with pytest.raises(BuildError):
            build_firmware(tmp_path, load_board("host"), tmp_path)

    monkeypatch.setattr("ondevice.build.subprocess.run", platformio)
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(build) for _ in range(3)]:
            done.result(30)
    assert most == [1, 1, 1]


@pytest.mark.parametrize(("name", "package"), [("qemu_f405", "gcc-arm-none-eabi"), ("host", "gcc")])
def test_a_missing_compiler_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, package: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    model = write_model(tmp_path / "m", FAKE_MODEL)
    with pytest.raises(UserError, match=rf"apt.* {package}\b"):
        build_firmware(model, load_board(name), tmp_path / "b")


def test_a_missing_simulator_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, build: Build, tmp_path: Path
) -> None:
    firmware = build("qemu_f405")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"apt.* qemu-system-arm\b"):
        simulate_command(firmware, load_board("qemu_f405"))


def test_pio_run_builds_a_board_from_the_root(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "ONDEVICE_MODEL_DIR": str(write_model(tmp_path / "model", FAKE_MODEL)),
        "PLATFORMIO_CORE_DIR": str(tmp_path / "core"),
        "PLATFORMIO_BUILD_DIR": str(tmp_path / "out"),
        "PLATFORMIO_WORKSPACE_DIR": str(tmp_path / "workspace"),
        "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no",
        "PLATFORMIO_DISABLE_UPGRADE_CHECK": "true",
    }
    command = [sys.executable, "-m", "platformio", "run", "-e", "qemu_f405"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    assert read_sizes(tmp_path / "out" / "qemu_f405" / "firmware.elf").heap_symbols == ()
