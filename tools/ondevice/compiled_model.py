"""Compiled models on disk: a directory of C files and manifest.json, cached by content."""

import hashlib
import json
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ondevice.config import ModelSettings
from ondevice.errors import UserError
from ondevice.manifest_check import wrong_in
from ondevice.preprocessing import Preprocessing, to_manifest
from ondevice_compiler.model_files import MODEL_SUFFIXES

if TYPE_CHECKING:
    from ondevice_compiler.compile import Analysis, CompiledModel, CompileOptions

MANIFEST_FORMAT = 2
_MEMORY_KEYS = ("reorder", "patch", "in_place", "remat_macs_cap")


@dataclass(frozen=True)
class ModelDirectory:
    """A compiled model.

    Attributes:
        path: Holds model.c and manifest.json.
        manifest: Content of manifest.json.
    """

    path: Path
    manifest: dict[str, Any]


@dataclass(frozen=True)
class CompileRequest:
    """Everything that decides what the compiler gives.

    Attributes:
        model: A model file, see docs/models.md.
        settings: Scheme, dtype, loss, optimizer.
        name: Goes into the manifest.
        calibration_x: float32 [n, ...sample shape].
        calibration_y: [n].
        classes: Number of classes where it is known.
        ram_limit_bytes: What the board leaves for the model; None: no limit.
        flash_limit_bytes: Likewise.
        simd: Vector instructions of the board's CPU; see `Board.simd`.
        cache: Folder where the compiler keeps calibrations and kernels; None: nowhere.
        preprocessing: What is made of raw samples before the model sees them; None: nothing.
    """

    model: Path
    settings: ModelSettings
    name: str
    calibration_x: NDArray[np.float32]
    calibration_y: NDArray[Any]
    classes: int | None = None
    ram_limit_bytes: int | None = None
    flash_limit_bytes: int | None = None
    simd: str = "dsp"
    cache: Path | None = None
    preprocessing: Preprocessing | None = None


def load_model_directory(path: Path) -> ModelDirectory:
    """Reads what `ondevice compile -o PATH` wrote.

    Raises:
        UserError: No manifest there, or one of another version.
    """
    file = path / "manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{file}: {error.strerror}; a compiled model is made by `ondevice compile -o DIR`"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not a manifest: {error}; compile the model again") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != MANIFEST_FORMAT:
        raise UserError(
            f"{file}: manifest format {found}, this version reads {MANIFEST_FORMAT}; "
            "compile the model again"
        )
    wrong = wrong_in(manifest)
    if wrong is not None:
        raise UserError(f"{file}: {wrong}; compile the model again")
    return ModelDirectory(path, manifest)


def compile_to_cache(request: CompileRequest, cache: Path) -> ModelDirectory:
    """Compiles, unless the same model was compiled the same way before.

    Args:
        request: What to compile. Its limits do not change the code, so they are not in the key.
        cache: Folder of compiled models; created where it is missing.

    Returns:
        The compiled model.

    Raises:
        UserError: No such model file, or the compiler is not installed.
        ondevice_compiler.errors.UserError: The compiler refuses the model.
    """
    directory = cache / cache_key(request)
    if (directory / "manifest.json").is_file():
        return load_model_directory(directory)
    compiled = run_compiler(request)
    cache.mkdir(parents=True, exist_ok=True)
    compiled.write(directory)
    return load_model_directory(directory)


def run_compiler(request: CompileRequest) -> "CompiledModel":
    """Compiles in memory; see `compile_to_cache`."""
    _model_bytes(request.model)
    _require_compiler()
    from ondevice_compiler.compile import compile_model

    return compile_model(
        request.model, request.calibration_x, request.calibration_y, compile_options(request)
    )


def analyse_model(request: CompileRequest) -> "Analysis":
    """Does what all update schemes of a model share; see `ondevice_compiler.compile.analyse`."""
    _model_bytes(request.model)
    _require_compiler()
    from ondevice_compiler.compile import analyse

    return analyse(
        request.model, request.calibration_x, request.calibration_y, compile_options(request)
    )


def _require_compiler() -> None:
    # TVM takes seconds to import, and is an extra: only where something is really compiled.
    try:
        import_module("ondevice_compiler.compile")
    except ImportError as error:
        raise UserError(
            f"compiling a model needs the compiler extra ({error}): "
            "pip install 'ondevice-training[compiler]', or give --model a compiled directory"
        ) from error


def compile_options(request: CompileRequest) -> "CompileOptions":
    """Returns the settings as the compiler takes them."""
    from ondevice_compiler import CompileOptions

    settings = request.settings
    return CompileOptions(
        name=request.name,
        dtype=settings.dtype,
        scheme=settings.scheme,
        loss=settings.loss,
        label_smoothing=settings.label_smoothing,
        optimizer=settings.optimizer,
        momentum=settings.momentum,
        beta1=settings.beta1,
        beta2=settings.beta2,
        epsilon=settings.epsilon,
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm,
        clip_value=settings.clip_value,
        accumulation_steps=settings.accumulation_steps,
        dp_clip_norm=settings.dp_clip_norm,
        dp_noise_multiplier=settings.dp_noise_multiplier,
        compress=settings.compress,
        compress_ratio=settings.compress_ratio,
        proximal=settings.proximal,
        ram_limit_bytes=request.ram_limit_bytes,
        flash_limit_bytes=request.flash_limit_bytes,
        classes=request.classes,
        head=settings.head,
        reorder=settings.reorder,
        patch=settings.patch,
        in_place=settings.in_place,
        remat_macs_cap=settings.remat_macs_cap,
        simd=request.simd,
        tuning=settings.tuning,
        cache=request.cache,
        preprocessing=_preprocessing_table(request),
    )


def _preprocessing_table(request: CompileRequest) -> dict[str, Any] | None:
    return to_manifest(request.preprocessing) if request.preprocessing is not None else None


def cache_key(request: CompileRequest) -> str:
    """Returns 24 hexadecimal digits of everything that changes the compiler's output.

    Raises:
        UserError: The model or the scheme's file cannot be read.
    """
    settings = request.settings
    digest = hashlib.sha256()
    digest.update(_model_bytes(request.model))
    kind, _, scheme_file = settings.scheme.partition(":")
    if kind == "sparse" and scheme_file:
        digest.update(_file_bytes(Path(scheme_file), "update scheme"))
    if settings.tuning is not None:
        digest.update(_file_bytes(settings.tuning, "tuning database"))
    facts = {
        "name": request.name,
        "suffix": request.model.suffix,
        "scheme": kind,
        "head": settings.head,
        "dtype": settings.dtype,
        "loss": settings.loss,
        "label_smoothing": settings.label_smoothing,
        "optimizer": _optimizer_facts(settings),
        "round": [settings.compress, settings.compress_ratio, settings.proximal],
        "classes": request.classes,
        "simd": request.simd,
        "memory": [getattr(settings, key) for key in _MEMORY_KEYS],
        "calibration": [list(request.calibration_x.shape), list(request.calibration_y.shape)],
        "tvm": _tvm_version(),
        "preprocessing": _preprocessing_table(request),
    }
    digest.update(json.dumps(facts, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(request.calibration_x).tobytes())
    digest.update(np.ascontiguousarray(request.calibration_y).tobytes())
    for source in _compiler_sources():
        digest.update(source.read_bytes())
    return digest.hexdigest()[:24]


def _optimizer_facts(settings: ModelSettings) -> dict[str, object]:
    """Settings of the optimiser, without those that another one has."""
    only_of = {"momentum": "momentum", "beta1": "adam", "beta2": "adam", "epsilon": "adam"}
    private = ("dp_clip_norm", "dp_noise_multiplier")
    keys = ("weight_decay", "clip_norm", "clip_value", "accumulation_steps", *private, *only_of)
    chosen = settings.optimizer
    used = [key for key in keys if only_of.get(key, chosen) == chosen]
    return {"name": chosen, **{key: getattr(settings, key) for key in used}}


def _model_bytes(path: Path) -> bytes:
    if path.suffix not in MODEL_SUFFIXES:
        raise UserError(
            f"{path}: unknown kind of model; allowed: {', '.join(MODEL_SUFFIXES)} "
            "(docs/models.md), or a directory written by `ondevice compile`"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read the model: {error.strerror}") from error


def _file_bytes(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read the {what}: {error.strerror}") from error


def _tvm_version() -> str:
    try:
        return version("apache-tvm")
    except PackageNotFoundError:
        return ""


def _compiler_sources() -> list[Path]:
    """Lists the compiler's own files: a new compiler must not be served old code."""
    kinds = ("*.py", "*.jsonl")
    spec = find_spec("ondevice_compiler")
    roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    return sorted(path for root in roots for kind in kinds for path in Path(root).rglob(kind))
