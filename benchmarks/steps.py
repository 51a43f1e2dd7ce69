"""Whole training steps in QEMU: what they retire, phase by phase, and what they need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptation import BUILD
from zoo import NETWORKS

from ondevice import demo
from ondevice.compiled_model import ModelDirectory, load_model_directory
from ondevice.config import DeviceSettings
from ondevice.elf import function_bytes
from ondevice.target import OpenTarget, open_target, target_board
from ondevice_compiler import CompiledModel, CompileOptions, compile_model
from ondevice_compiler.samples import pack_label, pack_sample

BOARD = "qemu_f405"
CALIBRATION_SAMPLES = 8
DEMO = Path(demo.__file__).parent
LISTINGS = ("evaluate", "train", "apply", "reset")
GROUPS = {"conv2d_dx": "dx", "conv2d_dw": "dw", "bias_gradient": "dw"}


@dataclass(frozen=True)
class StepRow:
    """One model and scheme.

    Attributes:
        name: Of both.
        forward_macs, macs: Multiply-accumulates of the forward pass and of the step.
        forward, dx, dw, rest: Instructions of a training step by kind: forward pass, gradients of
            activations through layers, gradients of parameters with their updates, all else.
        step: Instructions of the whole step.
        code_bytes: Of kernels and listings.
        flash_bytes: Of the firmware.
        ram_bytes: Of the firmware's data and the stack that was used.
    """

    name: str
    forward_macs: int
    macs: int
    forward: int
    dx: int
    dw: int
    rest: int
    step: int
    code_bytes: int
    flash_bytes: int
    ram_bytes: int


def steps() -> dict[str, Callable[[], StepRow]]:
    """Every measured step, by name; measured when called."""
    sparse = f"sparse:{DEMO / 'sparse.toml'}"
    made = {
        "watch (demo), int8, full": lambda: _demo("watch (demo), int8, full", "full"),
        "watch (demo), int8, sparse": lambda: _demo("watch (demo), int8, sparse", sparse),
    }
    for network, scheme in (("mcunet-5fps", "49 KB"), ("mobilenetv2-w0.35", "49 KB")):
        if NETWORKS[network].available:
            name = f"{network}, int8, {scheme}"
            made[name] = lambda network=network, name=name: _network(name, network)  # type: ignore[misc]
    return made


def _demo(name: str, scheme: str) -> StepRow:
    x, y = demo.calibration_set()
    options = CompileOptions(name="watch", dtype="int8", scheme=scheme)
    return _measure(name, compile_model(DEMO / "watch.onnx", x[:64], y[:64], options), x[0], y[0])


def _network(name: str, key: str) -> StepRow:
    network = NETWORKS[key]
    x, y = network.samples(CALIBRATION_SAMPLES)
    options = CompileOptions(
        name=network.name, dtype="int8", scheme=network.sparse, loss=network.loss, head=network.head
    )
    return _measure(name, compile_model(network.source(), x, y, options), x[0], y[0])


def _measure(name: str, compiled: CompiledModel, x: Any, y: Any) -> StepRow:
    folder = BUILD / "steps" / compiled.manifest["model_id"]
    compiled.write(folder)
    model = load_model_directory(folder)
    settings = DeviceSettings(board=BOARD)
    target = open_target(settings, target_board(settings), model, BUILD)
    with target.device as device:
        manifest = model.manifest
        sample, label = pack_sample(manifest, x), pack_label(manifest, y)
        for _ in range(2):  # The first step's gradient scales are only calibrated.
            device.paint()
            device.reset_counters()
            device.write_input(sample)
            device.write_label(label)
            result = device.train(0.001)
        by_op = device.profile()
        stack_bytes = device.memory().stack_high_water_bytes
    return _row(name, model, target, by_op, result.count, stack_bytes)


def _row(
    name: str, model: ModelDirectory, target: OpenTarget, by_op: list[int], step: int,
    stack_bytes: int,
) -> StepRow:  # fmt: skip
    sums = {"forward": 0, "dx": 0, "dw": 0}
    macs = {"forward": 0, "all": 0}
    for op, count in zip(model.manifest["ops"], by_op, strict=True):
        group = "forward" if op["phase"] == "forward" else GROUPS.get(op["op"], "rest")
        sums[group] = sums.get(group, 0) + count
        macs["all"] += op["macs"]
        macs["forward"] += op["macs"] if group == "forward" else 0
    firmware = target.firmware
    assert firmware is not None
    mine = {*LISTINGS, *(op["kernel"] for op in model.manifest["ops"])}
    functions = function_bytes(firmware.elf)
    return StepRow(
        name,
        macs["forward"],
        macs["all"],
        sums["forward"],
        sums["dx"],
        sums["dw"],
        step - sums["forward"] - sums["dx"] - sums["dw"],
        step,
        sum(size for symbol, size in functions.items() if symbol.split(".")[0] in mine),
        firmware.flash_bytes or 0,
        (firmware.data_bytes or 0) + stack_bytes,
    )
