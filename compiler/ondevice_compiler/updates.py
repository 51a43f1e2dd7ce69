"""How gradients change parameters: the optimiser, its state, and the steps that update in place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ondevice_compiler.private_updates import NOISE_KEY, PrivateSum, noise_key, sum_tensor
from ondevice_compiler.program import Program, Step, Tensor

OPTIMIZER_STATE = {"sgd": (), "momentum": ("velocity",), "adam": ("m", "v")}
UPDATE_STEPS = "update_steps"  # The tensor that counts updates: Adam and schedules need it.


@dataclass(frozen=True)
class Optimizer:
    """Rule by which a gradient changes a parameter; each is PyTorch's of the same name.

    Attributes:
        name: "sgd", "momentum" (v = momentum * v + g; w -= rate * v) or "adam" (AdamW where
            there is weight decay).
        momentum: Decay of the velocity, in [0, 1).
        beta1, beta2, epsilon: Adam's.
        weight_decay: Of weights, not of biases: added to the gradient as weight_decay * w, or by
            Adam to the change as rate * weight_decay * w.
        clip_norm: Largest norm of the gradient over all trained parameters; None: no limit.
        clip_value: Largest magnitude of each of its elements; None: no limit.
        accumulation_steps: Samples whose mean gradient makes one update.
        dp_clip_norm: Largest norm of the gradient of each sample, DP-SGD; None: it is not.
        dp_noise_multiplier: Standard deviation of DP-SGD's noise, in units of `dp_clip_norm`.
    """

    name: str = "sgd"
    momentum: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    accumulation_steps: int = 1
    dp_clip_norm: float | None = None
    dp_noise_multiplier: float = 0.0

    @property
    def private(self) -> PrivateSum | None:
        """How gradients are summed in DP-SGD; None: it is not."""
        if self.dp_clip_norm is None:
            return None
        return PrivateSum(self.dp_clip_norm, self.dp_noise_multiplier, self.accumulation_steps)

    @property
    def sums(self) -> bool:
        """Whether gradients are summed before anything is updated."""
        return self.accumulation_steps > 1 or self.clip_norm is not None

    @property
    def real(self) -> bool:
        """Whether an integer program, too, computes with real gradients, in float32."""
        return (
            self.name == "adam"
            or self.weight_decay > 0
            or self.clip_norm is not None
            or self.clip_value is not None
            or self.dp_clip_norm is not None
        )

    def attributes(self, parameter: Tensor) -> dict[str, Any]:
        """Attributes of the step that moves a parameter."""
        found: dict[str, Any] = {"update": self.name, "parameter": parameter.name}
        if self.real:
            found["real"] = True
        if self.name == "momentum":
            found["momentum"] = self.momentum
        if self.name == "adam":
            found |= {"beta1": self.beta1, "beta2": self.beta2, "epsilon": self.epsilon}
        if self.weight_decay > 0 and len(parameter.shape) > 1:
            found["weight_decay"] = self.weight_decay
        if self.clip_value is not None:
            found["clip_value"] = self.clip_value
        return found


def updates_in_place(program: Program, optimizer: Optimizer) -> Program:
    """The gradient of each trained parameter is consumed by its update as it is computed.

    Where it has to be summed first, the step that computes it adds to the sum, and one step of the
    phase "apply" for each parameter moves it and clears the sum. In DP-SGD that step writes one
    sample's gradient, and another one clips all of them and adds them to the sums.
    """
    private = optimizer.private
    tensors = dict(program.tensors)
    tensors[UPDATE_STEPS] = Tensor(UPDATE_STEPS, (1,), "uint32", "state", trainable=True)
    steps = list(program.steps)
    sums: list[str] = []
    kept: list[str] = []  # in DP-SGD: one sample's gradients
    apply: list[Step] = []
    for parameter, gradient in program.gradients.items():
        index = next(i for i, step in enumerate(steps) if gradient in step.outputs)
        states = [_state(tensors, parameter, kind) for kind in OPTIMIZER_STATE[optimizer.name]]
        outputs = (parameter, *states)
        attributes = optimizer.attributes(tensors[parameter])
        if optimizer.sums:
            total = _sum(tensors, parameter, private)
            sums.append(total)
            moved = (parameter, total, *states)
            step = Step(f"apply/{parameter}", "apply_update", moved, moved, phase="apply")
            clip = {} if optimizer.clip_norm is None else {"clip": True}
            mean = {} if private is None else {"mean": private.factor}
            apply.append(step.with_attributes(**attributes, **clip, **mean))
            outputs = (total,)
            attributes = {
                "update": "accumulate",
                "parameter": parameter,
                "real": optimizer.real,
                "factor": 1.0 / optimizer.accumulation_steps,
            }
        if private is not None:
            kept.append(private.sample_gradient(tensors, parameter))
            steps[index] = replace(
                steps[index], name=f"update/{parameter}", outputs=(kept[-1],), phase="update"
            ).with_attributes(update="store", parameter=parameter, real=True)
            continue
        steps[index] = replace(
            steps[index],
            name=f"update/{parameter}",
            outputs=outputs,
            inputs=(*steps[index].inputs, *outputs),
            phase="update",
        ).with_attributes(**attributes)
    if optimizer.clip_norm is not None:
        norm = Step("apply/clip", "clip_norm", tuple(sums), (), phase="apply")
        apply.insert(0, norm.with_attributes(norm=optimizer.clip_norm))
    if private is not None:
        steps.append(private.sum_step(tuple(kept), tuple(sums)))
        if (noise := private.noise_step(tuple(sums))) is not None:
            tensors[NOISE_KEY] = noise_key()
            apply.insert(0, noise)
    return replace(program, steps=(*steps, *apply), tensors=tensors, gradients={})


def _sum(tensors: dict[str, Tensor], parameter: str, private: PrivateSum | None) -> str:
    """Declares the sum of a parameter's gradient."""
    return _state(tensors, parameter, "sum") if private is None else sum_tensor(tensors, parameter)


def _state(tensors: dict[str, Tensor], parameter: str, kind: str) -> str:
    """Declares optimiser state of a parameter's shape, zero at the start."""
    name = f"{parameter}.{kind}"
    tensors[name] = replace(tensors[parameter], name=name, kind="state", trainable=True)
    return name
