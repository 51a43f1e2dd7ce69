"""The cycle estimate: counts of a known loop in QEMU, and costs against ARM's worked examples."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ondevice.boards import load_board
from ondevice.build import Firmware, build_firmware, simulate_command
from ondevice.cli import app
from ondevice.errors import UserError
from ondevice.estimate import cortex_m4, cortex_m7
from ondevice.estimate.cost import Count, cost_model, price
from ondevice.estimate.instructions import Instruction, disassemble, parse_instruction
from ondevice.estimate.trace import PLUGIN_SOURCE, TraceError, build_plugin, check_counts, tracer
from ondevice.link.device import Device
from ondevice.link.transport import ProcessTransport
from ondevice.profile.estimated import check_board

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "tests" / os.environ.get("PYTEST_XDIST_WORKER", "main")
OPS, ROUNDS, STEPS = 3, 37, 2
# Each round: two loads, a store, a SIMD multiply-accumulate, a division, a subtraction, a branch;
# and one branch that is taken in every round but the last.
LOOP = f"""
__attribute__((noinline, noclone)) void known_loop(uint32_t *word) {{
    __asm__ volatile(
        "mov r1, #{ROUNDS}\\n"
        "1: ldr r2, [%0]\\n"
        "ldrb r3, [%0, #1]\\n"
        "smlad r2, r2, r3, r2\\n"
        "udiv r3, r2, r1\\n"
        "str r3, [%0]\\n"
        "subs r1, r1, #1\\n"
        "cbz r1, 2f\\n"
        "b 1b\\n"
        "2: nop\\n"
        :: "r"(word) : "r1", "r2", "r3", "cc", "memory");
}}
"""
EXPECTED = {
    "load": 2 * ROUNDS,
    "mac": ROUNDS,
    "divide": ROUNDS,
    "store": ROUNDS,
    "alu": ROUNDS + 1,
    "branch": 2 * ROUNDS,  # cbz each time, b in all rounds but the last, and the return
    "other": 1,
}


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    """A model whose operator 0 runs the known loop twice."""
    folder = tmp_path_factory.mktemp("loop")
    fake = (ROOT / "tests" / "c" / "fake_model.c").read_text(encoding="utf-8")
    head = "static int32_t evaluate(od_result_t *result, od_trace_t *trace) {"
    assert fake.count(head) == 1
    calls = "static uint32_t word;\n    known_loop(&word);\n    known_loop(&word);"
    text = fake.replace(head, f"void known_loop(uint32_t *word);\n{LOOP}\n{head}\n    {calls}")
    (folder / "model").mkdir()
    (folder / "model" / "model.c").write_text(text, encoding="utf-8")
    return build_firmware(folder / "model", load_board("qemu_f405"), folder / "build")


@pytest.fixture(scope="module")
def traced(firmware: Firmware) -> tuple[list[dict[int, Count]], list[int]]:
    """Counts of the plugin and of the firmware after some training steps."""
    board = load_board("qemu_f405")
    counts_file = firmware.elf.with_name("counts.txt")
    trace = tracer(firmware.elf, OPS, build_plugin(BUILD / "estimate"), counts_file)
    command = [*simulate_command(firmware, board), *trace.options]
    with Device(ProcessTransport(command, name=board.name)) as device:
        for step in range(STEPS):
            device.write_input(bytes(600))
            device.write_label(struct.pack("<I", step))
            device.train(0.25)
        totals = device.profile()
        device.evaluate()  # is in no total that was read, but in the trace
        after = device.profile()
    assert after != totals
    return trace.read(), after


def assembled(text: str, folder: Path, cpu: str = "cortex-m4") -> list[Instruction]:
    """A listing as the assembler and objdump understand it."""
    source = folder / "listing.s"
    source.write_text(f".syntax unified\n.thumb\n{text}\n", encoding="utf-8")
    target = folder / "listing.o"
    fpu = ["-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"]
    command = ["arm-none-eabi-as", f"-mcpu={cpu}", *fpu, "-mthumb", str(source)]
    subprocess.run([*command, "-o", str(target)], check=True)
    return [instruction for function in disassemble(target) for instruction in function]


def within(counts: dict[int, Count], elf: Path, name: str) -> dict[int, Count]:
    """The counts of one function."""
    with elf.open("rb") as file:
        (symbol,) = ELFFile(file).get_section_by_name(".symtab").get_symbol_by_name(name)
        first = symbol["st_value"] & ~1
        end = first + symbol["st_size"]
    return {address: count for address, count in counts.items() if first <= address < end}


def test_the_plugin_counts_what_the_firmwares_own_counter_counts(
    traced: tuple[list[dict[int, Count]], list[int]],
) -> None:
    counts, totals = traced
    names = [f"op {index}" for index in range(OPS)]
    check_counts(counts, totals, names)
    assert all(totals)
    with pytest.raises(TraceError, match="op 1: the plugin saw"):
        check_counts(counts, [totals[0], totals[1] + 1, totals[2]], names)


def test_a_loop_written_in_assembly_has_the_counts_that_are_written_there(
    firmware: Firmware, traced: tuple[list[dict[int, Count]], list[int]]
) -> None:
    calls = 2 * (STEPS + 1)
    counts = within(traced[0][0], firmware.elf, "known_loop")
    code = price(disassemble(firmware.elf), cost_model("cortex-m4"))
    assert code.mix(counts) == {kind: calls * count for kind, count in EXPECTED.items()}
    taken = {code.instructions[a].mnemonic: count[1] for a, count in counts.items() if count[1]}
    assert taken == {"cbz": calls, "b": calls * (ROUNDS - 1), "bx": calls}
    assert not within(traced[0][1], firmware.elf, "known_loop")  # nor in another operator's

    refill, divide = cortex_m4.REFILL_CYCLES, cortex_m4.DIVIDE_CYCLES
    # ldr 2, ldrb 1 (pipelined), smlad, udiv, str imm 1, subs, cbz, b 1 + P but for the last round
    one_round = 2 + 1 + 1 + divide + 1 + 1 + 1 + (1 + refill)
    call = 1 + ROUNDS * one_round - (1 + refill) + refill + 1 + (1 + refill)
    assert code.total_cycles(counts) == calls * call


# The worked examples of "Load/store timings" in the Cortex-M4's reference manual.
ARM_EXAMPLES = {
    "ldr r0, [r1]; ldr r1, [r2]": 3,
    "ldr r0, [r1, r2]; str r0, [r3, #20]": 3,
    "ldr r0, [r1, r2]; str r1, [r3, r2]": 3,
    "ldr r0, [r1, r5]; ldr r1, [r2]; ldr r2, [r3, #4]": 4,
    "ldr r0, [r1]; ldr r2, [r0]": 4,  # an address that has just been loaded
    "str r0, [r1, #4]": 1,
    "ldrd r0, r1, [r2]": 3,
    "ldm r0, {r1, r2, r3}": 4,
    "push {r4, r5, lr}": 4,
    "add r0, r1, r2; ldr r3, [r0]": 4,  # no forwarding to an address: a stall
    "add r0, r1, r2; ldr r3, [r4]": 3,
    "smull r0, r1, r2, r3; smlad r0, r1, r2, r3; mla r0, r1, r2, r3": 3,
    "vadd.f32 s0, s1, s2; vmul.f32 s3, s4, s5": 2,
    "vadd.f32 s0, s1, s2; vmul.f32 s3, s0, s5": 3,  # its result is awaited
    "vldr s0, [r0]; vldm r1!, {s4-s7}": 7,
    "vdiv.f32 s0, s1, s2; vfma.f32 s3, s4, s5": 17,
}


@pytest.mark.parametrize("listing", ARM_EXAMPLES)
def test_costs_on_a_cortex_m4_are_those_of_arms_examples(listing: str, tmp_path: Path) -> None:
    code = assembled(listing.replace(";", "\n"), tmp_path)
    assert sum(cortex_m4.costs(code)) == ARM_EXAMPLES[listing]


# Issued together, or one after another, by the published rules.
PAIRS = {
    "add r0, r1, r2; add r3, r4, r5": 1,
    "add r0, r1, r2; add r3, r0, r5": 2,
    "ldr r0, [r1]; ldr r2, [r3]": 1,
    "str r0, [r1]; str r2, [r3]": 2,
    "ldr r0, [r1]; smlad r2, r3, r4, r2": 1,
    "smlad r0, r3, r4, r0; smlad r1, r3, r4, r1": 2,
    "ldr r0, [r1]; add r2, r0, r3": 3,  # a cycle is lost to the load
    "ldr r0, [r1]; add r4, r5, r6; add r7, r5, r6; add r8, r5, r6; add r2, r0, r3": 3,
    "sdiv r0, r1, r2; add r3, r4, r5": cortex_m7.DIVIDE_CYCLES + 1,
}


@pytest.mark.parametrize("listing", PAIRS)
def test_a_cortex_m7_pairs_what_may_be_paired(listing: str, tmp_path: Path) -> None:
    code = assembled(listing.replace(";", "\n"), tmp_path, "cortex-m7")
    assert sum(cortex_m7.costs(code)) == PAIRS[listing]


KINDS = {
    "alu": ["add r0, r1", "lsls r0, r1, #3", "cmp r0, r1", "uxtb r0, r1", "bic r0, r1, r2"],
    "dsp": ["sxtb16 r0, r1", "pkhbt r0, r1, r2", "ssat r0, #8, r1", "qadd r0, r1, r2"],
    "multiply": ["mul r0, r1, r2", "smulbb r0, r1, r2", "smull r0, r1, r2, r3", "smuad r0, r1, r2"],
    "mac": ["mla r0, r1, r2, r3", "smlad r0, r1, r2, r3", "smlabt r0, r1, r2, r3"],
    "divide": ["sdiv r0, r1, r2"],
    "load": ["ldrsb r0, [r1]", "ldr r0, [r1], #4", "vldr s0, [r1]"],
    "store": ["strh r0, [r1]", "vstr s0, [r1]"],
    "load_multiple": ["pop {r0, pc}", "ldrd r0, r1, [r2]", "vldm r0, {s0-s3}"],
    "store_multiple": ["push {r0, lr}", "stm r0!, {r1, r2}", "strd r0, r1, [r2]", "vpush {d8}"],
    "branch": ["bx lr", "blx r3", "cbz r0, .+6", "tbb [pc, r0]", "b ."],
    "fp": ["vadd.f32 s0, s1, s2", "vcmpe.f32 s0, #0", "vcvt.f32.s32 s0, s1"],
    "fp_mac": ["vmla.f32 s0, s1, s2", "vfma.f32 s0, s1, s2"],
    "fp_divide": ["vsqrt.f32 s0, s1"],
    "fp_move": ["vmov s0, r0", "vmrs APSR_nzcv, fpscr"],
    "other": ["nop", "dsb"],
}  # fmt: skip


def test_every_kind_of_instruction_is_known_from_the_assemblers_own_words(tmp_path: Path) -> None:
    lines = [line for group in KINDS.values() for line in group]
    found = [instruction.kind for instruction in assembled("\n".join(lines), tmp_path)]
    assert found == [kind for kind, group in KINDS.items() for _ in group]


def test_registers_are_read_and_written_as_the_architecture_says(tmp_path: Path) -> None:
    listing = {
        "adds r3, #1": ("r3", "r3"),
        "mov r0, r1": ("r1", "r0"),
        "smlal r0, r1, r2, r3": ("r0 r1 r2 r3", "r0 r1"),
        "ldr r0, [r1, r2]": ("r1 r2", "r0"),
        "ldrb r0, [r1], #1": ("r1", "r0 r1"),
        "str r0, [r1, #4]!": ("r0 r1", "r1"),
        "pop {r4, pc}": ("sp", "r4 sp pc"),
        "vfma.f32 s0, s1, s2": ("s0 s1 s2", "s0"),
        "vstm r0!, {d0-d1}": ("r0 s0 s1 s2 s3", "r0"),
        "cmp r0, r1": ("r0 r1", ""),
    }
    for instruction, (reads, writes) in zip(
        assembled("\n".join(listing), tmp_path), listing.values(), strict=True
    ):
        assert instruction.operands.reads == set(reads.split()), instruction
        assert instruction.operands.writes == set(writes.split()), instruction


@given(st.lists(st.sampled_from(sorted(ARM_EXAMPLES)), min_size=1, max_size=8))
def test_two_ways_cannot_do_more_than_two_instructions_a_cycle(
    listings: list[str],
) -> None:
    words = [line.strip() for listing in listings for line in listing.split(";")]
    code = [parse_instruction(4 * n, 4, *line.split(" ", 1)) for n, line in enumerate(words)]
    cycles = cortex_m7.costs(code)
    assert all(cost >= 0 for cost in cycles)
    assert sum(cycles) >= len(code) / 2


def test_the_plugin_is_clean_under_the_projects_warnings(tmp_path: Path) -> None:
    flags = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-fPIC", "-c"]
    command = ["gcc", "-std=c99", "-D_POSIX_C_SOURCE=200809L", *flags]
    subprocess.run([*command, str(PLUGIN_SOURCE), "-o", str(tmp_path / "plugin.o")], check=True)


def test_an_estimate_has_every_instruction_of_the_demos_operators_in_its_mix() -> None:
    arguments = ["profile", "--json", "--estimate", "--steps", "1", "--build-dir", str(BUILD)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    *ops, outside, step = [
        json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")
    ]
    for op in ops:
        assert sum(op["instruction_mix"].values()) == op["instructions"]
        assert op["instructions"] / 2 < op["cycles_estimate"] < 4 * op["instructions"]
    assert "cycles_estimate" not in outside
    assert sum(op["cycles_estimate"] for op in ops) == pytest.approx(step["cycles_estimate"])
    assert "Cycles are an estimate" in result.output


def test_an_estimate_is_refused_where_it_makes_no_sense() -> None:
    with pytest.raises(UserError, match="a real board's counter counts cycles"):
        check_board(load_board("nucleo_f446re"))
    with pytest.raises(UserError, match="allowed: cortex-m4, cortex-m7"):
        cost_model("cortex-m33")
