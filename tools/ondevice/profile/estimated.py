"""A measurement in QEMU with an estimate of the cycles beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ondevice.boards import Board
from ondevice.build import simulate_command
from ondevice.compiled_model import ModelDirectory
from ondevice.errors import UserError
from ondevice.estimate.cost import cost_model, price
from ondevice.estimate.instructions import disassemble
from ondevice.estimate.kinds import Kind
from ondevice.estimate.trace import build_plugin, check_counts, tracer
from ondevice.link.device import Device
from ondevice.link.transport import ProcessTransport
from ondevice.profile.measure import Measurement
from ondevice.target import build_for


@dataclass(frozen=True)
class OpEstimate:
    """Of one operator, mean of a training step.

    Attributes:
        cycles: By the cost model.
        mix: Instructions by kind.
    """

    cycles: float
    mix: dict[Kind, float]


def check_board(board: Board | None) -> None:
    """Refuses a board whose cycles cannot, or need not, be estimated.

    Raises:
        UserError: It is a real one, or of a CPU without a cost model.
    """
    if board is None or board.run != "qemu":
        name = board.name if board is not None else "at this port"
        raise UserError(
            f"board {name} is not simulated by QEMU: leave out --estimate; a real board's counter "
            "counts cycles"
        )
    cost_model(board.cpu)


def run_estimated(
    board: Board,
    model: ModelDirectory,
    build_root: Path,
    run: Callable[[Device], Measurement],
) -> tuple[Measurement, list[OpEstimate]]:
    """Runs a simulated board with every executed instruction counted.

    Args:
        board: Passed `check_board`.
        model: Compiled.
        build_root: Where the firmware and QEMU's plugin are built.
        run: Takes the device from its start to the measurement; resets no counter in between.

    Returns:
        What `run` gave, and an estimate for each operator.

    Raises:
        UserError: It cannot be built or run, or QEMU counts otherwise than the firmware.
    """
    manifest = model.manifest
    firmware = build_for(model, board, build_root)
    plugin = build_plugin(build_root / "estimate")
    counts_file = firmware.elf.resolve().with_name("instructions.txt")
    trace = tracer(firmware.elf, len(manifest["ops"]), plugin, counts_file)
    command = [*simulate_command(firmware, board), *trace.options]
    transport = ProcessTransport(command, name=board.name)
    with Device(transport, expected_abi=int(manifest["abi"])) as device:
        measured = run(device)
    counts = trace.read()
    if measured.resolution == 1:
        check_counts(counts, measured.op_totals, [str(op["name"]) for op in manifest["ops"]])
    code = price(disassemble(firmware.elf), cost_model(board.cpu))
    steps = measured.steps
    return measured, [
        OpEstimate(
            code.total_cycles(op) / steps,
            {kind: count / steps for kind, count in code.mix(op).items()},
        )
        for op in counts
    ]
