"""The whole compiler: model file or module -> C and manifest, through the named stages."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.autodiff import Joint, differentiate
from ondevice_compiler.calibrate import Calibration, calibrate
from ondevice_compiler.calibration_cache import cached_calibration
from ondevice_compiler.compression import CODECS, Compression
from ondevice_compiler.emit import emit
from ondevice_compiler.errors import DoesNotFitError, UserError
from ondevice_compiler.kernel_cache import KernelCache
from ondevice_compiler.load import load_model, load_module
from ondevice_compiler.load.head import replace_head
from ondevice_compiler.load.normal_form import LoadedModel
from ondevice_compiler.lower import lower
from ondevice_compiler.plan import Plan
from ondevice_compiler.samples import to_memory_order
from ondevice_compiler.schedule import MemoryOptions, Schedule, schedule
from ondevice_compiler.scheme import UpdateScheme, prepare, resolve_scheme
from ondevice_compiler.tiling.database import tile_choice
from ondevice_compiler.tiling.simd import SIMD, for_simd
from ondevice_compiler.updates import Optimizer

STAGES = (
    "load", "autodiff", "calibrate", "select", "fuse", "quantize", "order", "lower", "plan", "emit",
)  # fmt: skip
DTYPES = ("int8", "float32")
LOSSES = ("cross_entropy", "binary_cross_entropy", "mse")
OPTIMIZERS = ("sgd", "momentum", "adam")
TOKEN_DTYPES = (np.int32, np.int64)  # what a torch module reads as indices of an embedding
SHOWN_TENSORS = 3
LARGEST_HEAD = 65535
LARGEST_MULTIPLIER = 100  # of noise: the rest of a gradient would be rounded away

OnStage = Callable[[str], None]


@dataclass(frozen=True)
class CompileOptions:
    """How to compile a model.

    Attributes:
        name: Of the model, in the manifest and on the device.
        dtype: "int8" (int8 forward and backward) or "float32".
        scheme: What to train, see `resolve_scheme`.
        loss: "cross_entropy", "binary_cross_entropy" or "mse".
        label_smoothing: Share of the target that cross entropy spreads over all classes, in [0, 1).
        optimizer: "sgd", "momentum" or "adam"; see `Optimizer` for the rules.
        momentum: Decay of the velocity, in [0, 1); only of "momentum".
        beta1, beta2, epsilon: Of "adam" only.
        weight_decay: Of weights, not of biases.
        clip_norm: Largest norm of the gradient over all trained parameters; needs a float32 sum of
            each parameter's gradient. None: no limit.
        clip_value: Largest magnitude of each element of the gradient; None: no limit.
        accumulation_steps: Samples whose mean gradient makes one update.
        dp_clip_norm: Largest norm of the gradient of each sample, for DP-SGD: needs
            `accumulation_steps` of 2 or more, its lot, which sums are divided by; a sum of 4 bytes
            a trained element, and as much in the arena. None: no DP-SGD.
        dp_noise_multiplier: Standard deviation of the noise on the sums, in units of
            `dp_clip_norm`.
        compress: How the change of a federated round is sent: "none", "topk", "ternary", "sign" or
            "int8"; see `Compression`. All but "none" keep a residual of the trained weights' size.
        compress_ratio: Share of all trained elements that "topk" sends, above 0 and at most 1.
        proximal: Keep the weights that a round began with, for FedProx.
        ram_limit_bytes: Most RAM that the model's buffers may take; None: no limit.
        flash_limit_bytes: Most flash that its constants may take; None: no limit.
        classes: If given, must equal the number of outputs.
        head: Outputs of a fresh last layer that replaces the model's own; None keeps it.
        reorder: Search for the order of steps that needs the least memory.
        patch: Execute runs of forward steps band by band of rows where that saves memory.
        in_place: Write outputs over inputs that die, as far as the kernels' reads allow, and read
            slices that are contiguous where they lie.
        remat_macs_cap: Share of the step's multiply-accumulates, in [0, 1], that may be spent on
            computing activations again in backward instead of keeping them.
        simd: Vector instructions of the CPU that the kernels are made for: "dsp", "mve" or "none".
            Any runs everywhere, with the same integers.
        tuning: Database of `ondevice tune`, which wins over the one that comes with the compiler.
        cache: Folder where calibrations and kernels are kept between compilations; None: nowhere.
        preprocessing: What is made of raw samples before the model sees them, for the manifest.
    """

    name: str = "model"
    dtype: str = "int8"
    scheme: str | UpdateScheme = "full"
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    optimizer: str = "sgd"
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    accumulation_steps: int = 1
    dp_clip_norm: float | None = None
    dp_noise_multiplier: float = 0.0
    compress: str = "none"
    compress_ratio: float = 0.01
    proximal: bool = False
    ram_limit_bytes: int | None = None
    flash_limit_bytes: int | None = None
    classes: int | None = None
    head: int | None = None
    reorder: bool = True
    patch: bool = True
    in_place: bool = True
    remat_macs_cap: float = 0.0
    simd: str = "dsp"
    tuning: Path | None = None
    cache: Path | None = None
    preprocessing: dict[str, Any] | None = None

    @property
    def rule(self) -> Optimizer:
        """The optimiser of these options."""
        return Optimizer(
            name=self.optimizer,
            momentum=self.momentum if self.optimizer == "momentum" else 0.0,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            clip_value=self.clip_value,
            accumulation_steps=self.accumulation_steps,
            dp_clip_norm=self.dp_clip_norm,
            dp_noise_multiplier=self.dp_noise_multiplier,
        )

    @property
    def compression(self) -> Compression:
        """What a federated round keeps and sends."""
        return Compression(self.compress, self.compress_ratio, self.proximal)

    @property
    def memory(self) -> MemoryOptions:
        """How these options save memory."""
        return MemoryOptions(self.reorder, self.patch, self.in_place, self.remat_macs_cap)

    def check(self) -> None:
        """Raises UserError for a value outside its range."""
        choices = {"dtype": DTYPES, "loss": LOSSES, "optimizer": OPTIMIZERS, "simd": SIMD}
        choices["compress"] = CODECS
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise UserError(f"{key} '{getattr(self, key)}'; allowed: {', '.join(allowed)}")
        smoothing_limit = 1.0 if self.loss == "cross_entropy" else 0.0
        if self.label_smoothing and not 0.0 <= self.label_smoothing < smoothing_limit:
            raise UserError(
                f"label_smoothing {self.label_smoothing} with loss {self.loss}; allowed: at least "
                "0 and below 1 for cross_entropy, 0 for any other loss"
            )
        for key in ("momentum", "beta1", "beta2"):
            if not 0.0 <= getattr(self, key) < 1.0:
                raise UserError(f"{key} {getattr(self, key)}; allowed: at least 0 and below 1")
        for key in ("epsilon", "clip_norm", "clip_value", "dp_clip_norm"):
            value = getattr(self, key)
            if value is not None and not 0.0 < value < math.inf:
                raise UserError(f"{key} {value}; allowed: above 0")
        if not 0.0 <= self.weight_decay < math.inf:
            raise UserError(f"weight_decay {self.weight_decay}; allowed: 0 or more")
        if not 1 <= self.accumulation_steps <= 4096:
            raise UserError(f"accumulation_steps {self.accumulation_steps}; allowed: 1 to 4096")
        self._check_privacy()
        if not 0.0 < self.compress_ratio <= 1.0:
            raise UserError(f"compress_ratio {self.compress_ratio}; allowed: above 0 and at most 1")
        if self.head is not None and not 1 <= self.head <= LARGEST_HEAD:
            raise UserError(f"head {self.head}; allowed: 1 to {LARGEST_HEAD}")

    def _check_privacy(self) -> None:
        """Raises UserError for options of DP-SGD that do not go together."""
        multiplier, private = self.dp_noise_multiplier, self.rule.private
        if private is None:
            if multiplier != 0:
                raise UserError(
                    f"dp_noise_multiplier {multiplier} without dp_clip_norm; give that, too: noise "
                    "means nothing where a sample's gradient has no limit"
                )
            return
        if self.clip_norm is not None:
            raise UserError(
                "dp_clip_norm and clip_norm exclude each other: the first clips the gradient of "
                "each sample, the second that of a whole update"
            )
        if self.accumulation_steps < 2:
            raise UserError(
                f"dp_clip_norm with accumulation_steps {self.accumulation_steps}; allowed: 2 or "
                "more, the samples of a lot"
            )
        least = private.least_multiplier
        if multiplier != 0 and not least <= multiplier <= LARGEST_MULTIPLIER:
            raise UserError(
                f"dp_noise_multiplier {multiplier} with accumulation_steps "
                f"{self.accumulation_steps}; allowed: 0, or {least:.2g} to {LARGEST_MULTIPLIER}"
            )


@dataclass(frozen=True)
class Analysis:
    """What is known of a model before its update scheme is chosen; shared by all schemes.

    Attributes:
        loaded: In normal form.
        joint: Differentiated with respect to every parameter.
        calibration: Ranges for int8; None for float32.
        stages: Printed form of these stages.
    """

    loaded: LoadedModel
    joint: Joint
    calibration: Calibration | None
    stages: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class CompiledModel:
    """A model as C.

    Attributes:
        files: Text by file name.
        manifest: Contents of manifest.json.
        stages: Printed form of what each stage produced.
    """

    files: dict[str, str]
    manifest: dict[str, Any]
    stages: dict[str, str] = field(repr=False)

    def stage_text(self, stage: str) -> str:
        """What `--stop-after STAGE` prints."""
        if stage not in self.stages:
            raise UserError(f"unknown stage '{stage}'; allowed: {', '.join(STAGES)}")
        return self.stages[stage]

    def write(self, directory: Path) -> None:
        """Writes the model directory as a whole: either the old one or the new one exists."""
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        try:
            temporary.chmod(0o755)
            for name, text in self.files.items():
                (temporary / name).write_text(text, encoding="utf-8")
            if directory.exists():
                retired = temporary.with_name(temporary.name + ".old")
                os.replace(directory, retired)
                os.replace(temporary, directory)
                shutil.rmtree(retired)
            else:
                os.replace(temporary, directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _ignore(stage: str) -> None:
    """Shows no progress."""


def compile_model(
    model: Path | Any,
    calibration_x: NDArray[Any],
    calibration_y: NDArray[Any],
    options: CompileOptions,
    on_stage: OnStage = _ignore,
) -> CompiledModel:
    """Compiles a model into a training step.

    Args:
        model: Path of a model file (`load_model`), or a `torch.nn.Module`.
        calibration_x: float32 [n, *source shape without batch]; 32 or more real samples. Token
            indices: int32 or int64 (or, for a model file, whole numbers of any type).
        calibration_y: Class indices [n], or targets [n, ...].
        options: See `CompileOptions`.
        on_stage: Called with the name of each stage as it starts, for progress.

    Raises:
        UserError: Anything wrong with the model, the data or the options.
        DoesNotFitError: The plan exceeds a limit of the options.
    """
    analysis = analyse(model, calibration_x, calibration_y, options, on_stage)
    return generate(analysis, plan_scheme(analysis, options, on_stage), options, on_stage)


def analyse(
    model: Path | Any,
    calibration_x: NDArray[Any],
    calibration_y: NDArray[Any],
    options: CompileOptions,
    on_stage: OnStage = _ignore,
) -> Analysis:
    """Loads, differentiates and calibrates; see `compile_model`.

    Good for every scheme, but for those that add layers (`bn`, `tinytl`): each for itself.


    Raises:
        UserError: Anything wrong with the model, the data or the options.
    """
    options.check()
    stages: dict[str, str] = {}
    on_stage("load")
    samples = np.asarray(calibration_x)
    if samples.dtype not in TOKEN_DTYPES:
        samples = samples.astype(np.float32)
    loaded = load_model(model) if isinstance(model, Path) else load_module(model, _example(samples))
    if options.head is not None:
        loaded = replace_head(loaded, options.head)
    loaded = prepare(loaded, options.scheme)
    stages["load"] = loaded.module.script(show_meta=False)
    on_stage("autodiff")
    loss: Any = options.loss
    joint = differentiate(loaded, loss, options.name, options.label_smoothing)
    stages["autodiff"] = str(joint.program)
    _check_classes(joint.program.tensor(joint.program.output).elements, calibration_y, options)
    resolve_scheme(options.scheme, joint.program)  # a wrong one is refused before the long work
    on_stage("calibrate")
    calibration = None
    if options.dtype == "int8":
        ordered, labels = _in_memory_order(loaded, samples), np.asarray(calibration_y)
        calibration = cached_calibration(
            options.cache and options.cache / "calibrations",
            (stages["load"], stages["autodiff"]),
            (ordered, labels, *loaded.parameters.values()),
            lambda: calibrate(joint, ordered, labels),
        )
        stages["calibrate"] = "\n".join(
            f"{name}: {calibration.low[name]:.6g} to {calibration.high[name]:.6g}"
            for name in calibration.low
        )
    return Analysis(loaded, joint, calibration, stages)


def plan_scheme(
    analysis: Analysis, options: CompileOptions, on_stage: OnStage = _ignore
) -> Schedule:
    """Says what the options' scheme costs: the stages from select to plan, a second at most.

    Raises:
        UserError: The scheme is wrong, or the model cannot be quantised.
    """
    options.check()
    on_stage("plan")
    scheme = resolve_scheme(options.scheme, analysis.joint.program)
    return schedule(
        analysis.joint,
        analysis.calibration,
        scheme,
        options.rule,
        options.memory,
        options.compression,
    )


def generate(
    analysis: Analysis, planned: Schedule, options: CompileOptions, on_stage: OnStage = _ignore
) -> CompiledModel:
    """Lowers and emits a planned scheme.

    Raises:
        DoesNotFitError: It exceeds a limit of the options.
    """
    stages = dict(analysis.stages)
    stages.update((stage, str(program)) for stage, program in planned.stages.items())
    stages["plan"] = _plan_text(planned.plan)
    on_stage("lower")
    lowered = lower(
        planned.program,
        planned.plan,
        for_simd(options.simd, tile_choice(options.tuning)),
        KernelCache(options.cache and options.cache / "kernels"),
    )
    stages["lower"] = str(lowered)
    on_stage("emit")
    loaded, scheme = analysis.loaded, planned.scheme
    manifest = {
        "name": options.name,
        "dtype": options.dtype,
        "input": {
            "source_shape": list(loaded.source_shape),
            "axes": list(loaded.input_axes),
        },
        "scheme": {
            "name": scheme.name,
            "parameters": sorted(scheme.parameters),
            "channels": {name: list(channels) for name, channels in scheme.channels.items()},
        },
        "optimizer": asdict(options.rule),
        "round": asdict(options.compression),
        "preprocessing": options.preprocessing,
    }
    histories = dict(planned.histories)
    emitted = emit(
        lowered,
        planned.plan,
        histories,
        manifest,
        options.accumulation_steps,
        options.compression,
    )
    stages["emit"] = emitted.files["model.c"]
    _check_limits(emitted.manifest, options)
    return CompiledModel(emitted.files, emitted.manifest, stages)


def _example(samples: NDArray[Any]) -> Any:
    import torch

    if len(samples) == 0:
        raise UserError("calibration data is empty; give at least one sample, better 32 or more")
    return torch.from_numpy(samples[:1].copy())


def _in_memory_order(loaded: LoadedModel, samples: NDArray[Any]) -> NDArray[Any]:
    expected = loaded.source_shape[1:]
    if samples.shape[1:] != expected:
        raise UserError(
            f"samples have shape {list(samples.shape[1:])}; the model {loaded.source} "
            f"reads {list(expected)}"
        )
    shape = [1 if axis is None else loaded.source_shape[axis] for axis in loaded.input_axes]
    entry = {"input": {"shape": shape, "axes": loaded.input_axes}}
    return np.stack([to_memory_order(entry, sample) for sample in samples])


def _check_classes(outputs: int, labels: NDArray[Any], options: CompileOptions) -> None:
    if options.classes is not None and options.classes != outputs:
        raise UserError(f"the model has {outputs} outputs, the data {options.classes} classes")
    y = np.asarray(labels)
    if options.loss != "cross_entropy" or y.size == 0:
        return
    if not np.issubdtype(y.dtype, np.integer):
        raise UserError(f"labels have dtype {y.dtype}; allowed: integers for cross_entropy")
    if y.min() < 0 or y.max() >= outputs:
        raise UserError(
            f"labels lie in {y.min()} to {y.max()}; allowed: 0 to {outputs - 1} "
            f"(the model has {outputs} outputs)"
        )


def _plan_text(plan: Plan) -> str:
    lines = [f"arena {plan.arena_bytes} bytes, lower bound {plan.lower_bound_bytes} bytes"]
    for placement in sorted(plan.placements.values(), key=lambda p: (p.offset, p.interval.first)):
        interval = placement.interval
        lines.append(
            f"  {placement.offset:7d} + {interval.size_bytes:7d}  "
            f"steps {interval.first:3d} to {interval.last:3d}  {interval.name}"
        )
    return "\n".join(lines)


def _check_limits(manifest: dict[str, Any], options: CompileOptions) -> None:
    """Refuses a model that exceeds the options' limits, naming the largest tensors."""
    memory = manifest["memory"]
    entries = [(t["bytes"], t["name"]) for t in memory["tensors"]]
    entries += [(p["bytes"], p["name"]) for p in manifest["parameters"]]
    largest = sorted(entries, reverse=True)[:SHOWN_TENSORS]
    names = ", ".join(f"{name} {size} B" for size, name in largest)
    for what, needed, limit in (
        ("RAM", memory["ram_bytes"], options.ram_limit_bytes),
        ("flash", memory["const_bytes"], options.flash_limit_bytes),
    ):
        if limit is not None and needed > limit:
            raise DoesNotFitError(
                f"model {options.name} with scheme {manifest['scheme']['name']} needs {needed} B "
                f"of {what}; allowed: {limit} B, {needed - limit} B too many; largest: {names}; "
                "train fewer layers or use a smaller model"
            )
