"""Ranges of every tensor, measured on real data by running the joint program in float32.

Activations get the range that holds nearly all values; gradients get their first delayed scale:
without it the first steps would saturate or vanish.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from ondevice_compiler.autodiff import Joint
from ondevice_compiler.errors import UserError
from ondevice_compiler.ops import OPERATORS

OUTSIDE = 2e-4  # Share of activation values left outside the range, on each side.
VALUES_PER_SAMPLE = 4096
MAXIMUM_SAMPLES = 64
MACS_WORTH_OPTIMISING = 2_000_000_000


@dataclass(frozen=True)
class Calibration:
    """What the float program did on the calibration samples.

    Attributes:
        low, high: Range of each activation and of the input.
        gradient_peaks: For each gradient, [samples, channels], the largest magnitude.
        errors: [samples, outputs], gradient of the loss with respect to the output.
    """

    low: dict[str, float]
    high: dict[str, float]
    gradient_peaks: dict[str, NDArray[np.float32]]
    errors: NDArray[np.float32]


def calibrate(joint: Joint, x: NDArray[np.float32], y: NDArray[np.generic]) -> Calibration:
    """Runs the joint program on calibration data in TVM's virtual machine.

    Args:
        joint: From `differentiate`.
        x: Samples in memory order, [n, H, W, C].
        y: Class indices [n], or targets [n, *output].

    Raises:
        UserError: No samples, or values that are not finite.
    """
    if len(x) == 0:
        raise UserError("calibration data is empty; give at least one sample, better 32 or more")
    if not np.all(np.isfinite(x)):
        raise UserError("calibration data holds NaN or infinite values; clean the data first")
    chosen = np.linspace(0, len(x) - 1, min(len(x), MAXIMUM_SAMPLES)).astype(int)
    machine = _machine(joint, len(chosen))
    parameters = [tvm.runtime.tensor(value) for value in joint.loaded.parameters.values()]
    generator = np.random.default_rng(0)
    seen: dict[str, list[NDArray[np.float32]]] = {name: [] for name in joint.outputs}
    program = joint.program
    seen[program.input] = []
    for index in chosen:
        sample = np.ascontiguousarray(x[index], dtype=program.tensor(program.input).dtype)[None]
        label = _label(program.loss, y[index], program.tensor(program.label).shape)
        results = machine["step"](
            tvm.runtime.tensor(sample), tvm.runtime.tensor(label), *parameters
        )
        seen[program.input].append(_subsample(sample, generator))
        for name, result in zip(joint.outputs, results, strict=True):
            value = result.numpy()
            if not np.all(np.isfinite(value)):
                raise UserError(
                    f"calibration: tensor {name} is not finite for sample {index}; "
                    "check the model's weights and the scale of the data"
                )
            if program.tensor(name).kind == "activation":
                seen[name].append(_subsample(value, generator))
            elif name == f"d.{program.output}":
                seen[name].append(value.reshape(-1))
            elif value.ndim == 4:
                seen[name].append(np.abs(value).max(axis=(0, 1, 2)))
    low, high = {}, {}
    for name in (program.input, *joint.outputs):
        if program.tensor(name).kind in ("input", "activation"):
            values = np.concatenate(seen[name])
            low[name] = float(np.quantile(values, OUTSIDE))
            high[name] = float(np.quantile(values, 1 - OUTSIDE))
    peaks = {
        name: np.stack(values)
        for name, values in seen.items()
        if values and program.tensor(name).kind == "gradient"
    }
    return Calibration(low, high, peaks, peaks[f"d.{program.output}"])


def _machine(joint: Joint, samples: int) -> relax.VirtualMachine:
    module = relax.transform.LegalizeOps()(joint.module)
    # Unoptimised code computes the same bits and compiles in a seventh of the time.
    work = samples * sum(OPERATORS[s.op].macs(s, joint.program) for s in joint.program.steps)
    target = tvm.target.Target({"kind": "llvm", "opt-level": int(work > MACS_WORTH_OPTIMISING)})
    return relax.VirtualMachine(tvm.compile(module, target), tvm.cpu())


def _label(loss: str, y: np.generic, shape: tuple[int, ...]) -> NDArray[np.generic]:
    if loss == "cross_entropy":
        return np.asarray([y], dtype=np.int32)
    return np.ascontiguousarray(y, dtype=np.float32).reshape(shape)


def _subsample(value: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    flat = value.reshape(-1)
    if flat.size <= VALUES_PER_SAMPLE:
        return flat.copy()
    extremes = np.asarray([flat.min(), flat.max()], np.float32)
    return np.concatenate([generator.choice(flat, VALUES_PER_SAMPLE - 2), extremes])
