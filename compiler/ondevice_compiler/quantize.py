"""Float program -> integer program: every tensor gets a type, a scale and integer bounds.

The numerics are those of docs/numerics.md: int8 activations with a scale for each tensor, weights
with a scale for each output channel (Q8.8 where trained), int32 biases, and int8 gradients with a
power-of-two scale that follows the previous steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.calibrate import Calibration
from ondevice_compiler.errors import UserError
from ondevice_compiler.ops import OPERATORS
from ondevice_compiler.ops.split_weight import scales_of_weight
from ondevice_compiler.program import Program, Quantization, Step, Tensor

SMALLEST_SCALE = 1e-9
HEAD_HEADROOM = 4.0  # The last layer's weights grow most; its scale leaves room for that.


@dataclass(frozen=True)
class Quantized:
    """The integer program and where its delayed gradient scales start.

    Attributes:
        program: Integer program.
        histories: For each int8 gradient with a delayed scale, its first `history`.
    """

    program: Program
    histories: dict[str, float]


def quantize(
    program: Program, calibration: Calibration, input_quantization: Quantization | None = None
) -> Quantized:
    """Gives every tensor its integer type and scale.

    Args:
        program: Fused float32 program. Scales that the model's file fixes are attributes of its
            steps (`y_scale`, `y_zero`, `w_scale`) and win over calibration.
        calibration: Ranges, by the names of the program's tensors.
        input_quantization: Of the input, where the file fixes it.

    Raises:
        UserError: The output is not the direct result of a convolution or linear layer.
    """
    _check_output(program)
    program = _separate_folds(_with_quantized_error(program))
    tensors = dict(program.tensors)
    values: dict[str, NDArray[Any]] = dict(program.values)
    _quantize_activations(program, tensors, calibration, input_quantization)
    for step in program.steps:
        quantize_parameters = OPERATORS[step.op].quantize_parameters
        if quantize_parameters is not None:
            head = program.output in step.outputs
            quantize_parameters(step, tensors, values, HEAD_HEADROOM if head else 1.0)
    _quantize_gradients(program, tensors)
    for step in program.steps:
        for name in step.outputs:
            if tensors[name].kind == "state" and not step.attributes.get("real"):
                owner = tensors[step.attributes["parameter"]]
                tensors[name] = replace(tensors[name], dtype=owner.dtype)
    steps = tuple(_integer_bounds(step, tensors) for step in program.steps)
    quantized = replace(program, tensors=tensors, values=values, steps=steps)
    return Quantized(quantized, _histories(quantized, calibration))


def _check_output(program: Program) -> None:
    producer = program.producer(program.output)
    readers = [s for s in program.consumers(program.output) if s.phase == "forward"]
    layers = ("conv2d", "conv2d_transpose")
    if producer is None or producer.op not in layers or "low" in producer.attributes or readers:
        raise UserError(
            f"int8: the output {program.output} must come straight from a linear or convolution "
            "layer; remove what follows it (softmax is part of the loss), or use --dtype float32"
        )


def _with_quantized_error(program: Program) -> Program:
    """Splits the error of the loss: float32 error, then its int8 form with a scale of its own."""
    gradient = f"d.{program.output}"
    real = f"{gradient}.real"
    tensors = dict(program.tensors)
    tensors[real] = replace(tensors[gradient], name=real)
    steps: list[Step] = []
    for step in program.steps:
        if step.phase != "loss":
            steps.append(step)
            continue
        steps.append(replace(step, outputs=(real,)))
        steps.append(Step(f"loss/{gradient}", "quantize_error", (real,), (gradient,), phase="loss"))
    return replace(program, tensors=tensors, steps=tuple(steps))


def _separate_folds(program: Program) -> Program:
    """A gradient with several readers is stored plain; each convolution gets a copy of its own.

    A convolution needs its weight scale folded into the gradient it reads; a branch does not.
    """
    tensors, steps = dict(program.tensors), list(program.steps)
    for name in [n for n, tensor in tensors.items() if tensor.kind == "gradient"]:
        readers = [step for step in steps if name in step.inputs]
        weights = {step.attributes.get("weight") for step in readers}
        if len(weights) <= 1:
            continue
        for weight in sorted(w for w in weights if w is not None):
            folded = f"{name}.{weight.removesuffix('.weight')}"
            tensors[folded] = replace(tensors[name], name=folded)
            mine = [step for step in readers if step.attributes.get("weight") == weight]
            first = min(steps.index(step) for step in mine)
            for step in mine:
                inputs = tuple(folded if i == name else i for i in step.inputs)
                steps[steps.index(step)] = replace(step, inputs=inputs)
            rescale = Step(
                f"backward/{folded}", "clip_gradient", (name,), (folded,), phase="backward"
            )
            steps.insert(first, rescale)
    return replace(program, tensors=tensors, steps=tuple(steps))


def _quantize_activations(
    program: Program,
    tensors: dict[str, Tensor],
    calibration: Calibration,
    input_quantization: Quantization | None,
) -> None:
    names = [program.input, *(n for s in program.steps for n in s.outputs)]
    for name in dict.fromkeys(names):
        tensor = tensors[name]
        if tensor.kind not in ("input", "activation") or name == program.output:
            continue
        if tensor.dtype == "int32":  # token indices
            continue
        producer = program.producer(name)
        rule = None if producer is None else OPERATORS[producer.op].output_quantization
        fixed = None if producer is None or rule is None else rule(producer, tensors)
        if fixed is not None:
            tensors[name] = replace(tensor, dtype="int8", quantization=fixed)
            continue
        quantization = input_quantization if producer is None else _kept(producer)
        if quantization is None:
            quantization = _calibrated_range(*_range_of(name, program, calibration))
        tensors[name] = replace(tensor, dtype="int8", quantization=quantization)


def _range_of(name: str, program: Program, calibration: Calibration) -> tuple[float, float]:
    """Measured range of an activation.

    A map that is 0 on all calibration data has none: the end of a lite residual, which starts at 0
    and will grow, to either side. It gets that of the sum which it enters.
    """
    entered = name
    while calibration.low[entered] == calibration.high[entered] == 0.0:
        readers = [step for step in program.consumers(entered) if step.phase == "forward"]
        if len(readers) != 1 or readers[0].op not in ("upsample2d", "add"):
            break
        entered = readers[0].outputs[0]
    low, high = calibration.low[entered], calibration.high[entered]
    return (low, high) if entered == name else (-max(-low, high), max(-low, high))


def _kept(producer: Step) -> Quantization | None:
    """The scale that the model's file fixes for what a step writes."""
    if "y_scale" not in producer.attributes:
        return None
    return Quantization((producer.attributes["y_scale"],), producer.attributes["y_zero"])


def _calibrated_range(low: float, high: float) -> Quantization:
    low, high = min(0.0, low), max(0.0, high)
    scale = max((high - low) / 255.0, SMALLEST_SCALE)
    return Quantization((scale,), int(np.clip(np.rint(-128 - low / scale), -128, 127)))


def _quantize_gradients(program: Program, tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.kind != "gradient" or name.endswith(".real"):
            continue
        weights = {step.attributes.get("weight") for step in program.consumers(name)}
        weight = next(iter(weights)) if len(weights) == 1 else None
        quantization = None
        if weight is not None:
            scales = scales_of_weight(weight, program.steps, tensors)
            quantization = Quantization(tuple(scales.tolist()))
        tensors[name] = replace(tensor, dtype="int8", quantization=quantization)


def _integer_bounds(step: Step, tensors: dict[str, Tensor]) -> Step:
    """Clip bounds in the integers of the tensor that they bound."""
    if "low" not in step.attributes:
        return step
    if step.attributes.get("mask") == "bits":
        return step
    bounded = step.inputs[0] if step.op == "pack_mask" else step.outputs[0]
    if step.attributes.get("mask") == "output":
        bounded = step.inputs[-1]
    quantization = tensors[bounded].quantization
    assert quantization is not None
    scale, zero = quantization.scale[0], quantization.zero_point
    low = max(-128.0, np.rint(step.attributes["low"] / scale) + zero)
    high = min(127.0, np.rint(step.attributes["high"] / scale) + zero)
    return step.with_attributes(low=int(low), high=int(high))


def _histories(program: Program, calibration: Calibration) -> dict[str, float]:
    """First largest magnitude of each delayed gradient, in units of the step's error scale."""
    final = f"d.{program.output}"
    folds = program.tensor(final).quantization
    fold = np.ones(1) if folds is None else folds.scales
    unit = np.abs(calibration.errors * fold).max(axis=1) / 127.0
    usable = unit > 0
    histories = {}
    for name, tensor in program.tensors.items():
        if tensor.kind != "gradient" or tensor.dtype != "int8" or name == final:
            continue
        peaks = calibration.gradient_peaks[_calibrated(name, calibration)]
        own = tensor.quantization
        scaled = peaks * (np.ones(1) if own is None else own.scales)
        relative = scaled.max(axis=1)[usable] / unit[usable]
        histories[name] = float(relative.max()) if relative.size else 127.0
    return histories


def _calibrated(name: str, calibration: Calibration) -> str:
    """Name under which a gradient was measured; a folded copy was measured as its source."""
    shorter = name
    while shorter and shorter not in calibration.gradient_peaks:
        shorter = shorter.rpartition(".")[0]
    assert shorter, f"gradient {name} was not measured"
    return shorter
