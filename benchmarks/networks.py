"""Every network of the zoo takes training steps in QEMU; writes docs/networks.md.

make networks
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from adaptation import BUILD, ROOT
from zoo import NETWORKS, Network

from ondevice.compiled_model import load_model_directory
from ondevice.config import DeviceSettings, TrainingSettings
from ondevice.data import Dataset
from ondevice.errors import UserError
from ondevice.target import open_target, target_board
from ondevice.train import run_training
from ondevice_compiler import CompileOptions, compile_model
from ondevice_compiler.errors import UserError as CompilerError

STEPS = 3
CALIBRATION_SAMPLES = 8
LARGE, SMALL = "qemu_mps2_an386", "qemu_f405"


@dataclass(frozen=True)
class Outcome:
    """One network, scheme and board.

    Attributes:
        network, scheme, dtype, board: What ran.
        macs: Multiply-accumulates of a training step.
        arena_bytes, model_ram_bytes: Of the plan.
        firmware_ram_bytes: Of the linked firmware without its stack reserve.
        stack_bytes: Measured.
        flash_bytes: Of the linked firmware.
        instructions: Of a training step, by QEMU; the last of the run.
        losses: Of each step.
        refusal: Why it does not fit, or "".
    """

    network: str
    scheme: str
    dtype: str
    board: str
    macs: int = 0
    arena_bytes: int = 0
    model_ram_bytes: int = 0
    firmware_ram_bytes: int = 0
    stack_bytes: int = 0
    flash_bytes: int = 0
    instructions: int = 0
    losses: tuple[float, ...] = ()
    refusal: str = ""


def run(network: Network, scheme: str, dtype: str, board_name: str) -> Outcome:
    """Compiles, builds and takes a few training steps."""
    shown = Path(scheme).stem if scheme.startswith("sparse:") else scheme
    outcome = Outcome(network.name, shown, dtype, board_name)
    x, y = network.samples(CALIBRATION_SAMPLES)
    options = CompileOptions(
        name=network.name, dtype=dtype, scheme=scheme, loss=network.loss, head=network.head
    )
    try:
        compiled = compile_model(network.source(), x, y, options)
        folder = BUILD / "networks" / compiled.manifest["model_id"]
        compiled.write(folder)
        memory = compiled.manifest["memory"]
        outcome = replace(
            outcome,
            macs=sum(op["macs"] for op in compiled.manifest["ops"]),
            arena_bytes=memory["arena_bytes"],
            model_ram_bytes=memory["ram_bytes"],
        )
        model = load_model_directory(folder)
        settings = DeviceSettings(board=board_name)
        target = open_target(settings, target_board(settings), model, BUILD)
    except (UserError, CompilerError) as error:
        return replace(outcome, refusal=str(error))
    firmware = target.firmware
    assert firmware is not None
    data = Dataset(x[:STEPS], y[:STEPS], x[-1:], y[-1:], source=network.name)
    with target.device as device:
        training = TrainingSettings(steps=STEPS, learning_rate=network.rate)
        run_outcome = run_training(device, model.manifest, data, training)
    return replace(
        outcome,
        firmware_ram_bytes=firmware.data_bytes or 0,
        stack_bytes=run_outcome.memory.stack_high_water_bytes,
        flash_bytes=firmware.flash_bytes or 0,
        instructions=int(run_outcome.counts[-1]),
        losses=tuple(float(loss) for loss in run_outcome.losses),
    )


def lines(outcomes: list[Outcome]) -> Iterator[str]:
    """docs/networks.md."""
    yield "# Real networks"
    yield ""
    yield f"Made by `make networks`: each network takes {STEPS} training steps, batch 1, in QEMU,"
    yield "on random samples (what is shown here is that they run, and what they need)."
    yield "*Instructions* are what QEMU retired, not cycles of a board. RAM in all: the linked"
    yield "firmware's data (arena, parameters, buffers of the link) and the stack measured."
    yield ""
    yield (
        "| network | type | scheme | board | M MAC | arena | RAM of the model | RAM in all | "
        "flash | M instructions a step |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for o in outcomes:
        if o.refusal:
            yield f"| {o.network} | {o.dtype} | {o.scheme} | {o.board} | refused: {o.refusal} |"
            continue
        total = o.firmware_ram_bytes + o.stack_bytes
        yield (
            f"| {o.network} | {o.dtype} | {o.scheme} | {o.board} | {o.macs / 1e6:.1f} | "
            f"{o.arena_bytes:,} B | {o.model_ram_bytes:,} B | {total:,} B | {o.flash_bytes:,} B | "
            f"{o.instructions / 1e6:.1f} |"
        )
    yield ""


def main() -> int:
    """Runs everything and writes docs/networks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "networks.md")
    arguments = parser.parse_args()
    outcomes = []
    for name in arguments.networks:
        network = NETWORKS[name]
        if not network.available:
            print(f"{name}: {network.model} is not here", file=sys.stderr)
            continue
        for scheme, dtype, board in (
            ("full", "float32", LARGE),
            ("full", "int8", LARGE),
            (network.sparse, "int8", LARGE),
            (network.sparse, "int8", SMALL),
        ):
            outcome = run(network, scheme, dtype, board)
            outcomes.append(outcome)
            finite = bool(np.all(np.isfinite(outcome.losses)))
            print(outcome, "" if finite else "NOT FINITE", flush=True)
    arguments.output.write_text("\n".join(lines(outcomes)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
