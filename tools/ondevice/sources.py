"""Which model, data and calibration samples a configuration means; by default, the demo's."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.compiled_model import (
    CompileRequest,
    ModelDirectory,
    compile_to_cache,
    load_model_directory,
)
from ondevice.config import Config, ModelSettings
from ondevice.data import Dataset, calibration_subset, check_loss, make_dataset
from ondevice.datasets.formats import load_samples
from ondevice.errors import UserError
from ondevice.preprocessing import Preprocessing, from_manifest


@dataclass(frozen=True)
class Sources:
    """What a run starts from.

    Attributes:
        model: A model file, see docs/models.md, or a compiled directory.
        data: Training and held-out samples.
        calibration_x: float32 [n, ...sample shape].
        calibration_y: [n].
        preprocessing: What was made of raw samples; None: they were given as the model takes them.
    """

    model: Path
    data: Dataset
    calibration_x: NDArray[np.float32]
    calibration_y: NDArray[Any]
    preprocessing: Preprocessing | None = None


def load_sources(config: Config, given: Preprocessing | None = None) -> Sources:
    """Loads the files that a configuration names, or the demo's.

    Args:
        config: All settings.
        given: Preprocessing that a run was trained with; None: a compiled model's own, else what
            the settings declare, fitted on the training data.

    Raises:
        UserError: A file is missing or wrong, or a model is given without data.
    """
    file = config.model.file
    if file is not None and not file.exists():
        raise UserError(f"{file}: no such model")
    if given is None and file is not None and file.is_dir():
        given = compiled_preprocessing(file)
    model = file if file is not None else demo_model()
    if config.data.file is None:
        if file is not None and not file.is_dir():
            raise UserError(
                f"{file}: a model of your own needs its data: "
                "give --data, a file or folder as in docs/data.md"
            )
        calibration = _calibration(config, given) or demo_calibration()
        return Sources(model, demo_dataset(), *calibration, given)
    data, preprocessing = load_samples(config.data.file, config, given)
    check_loss(data, config.model.loss)
    calibration = _calibration(config, preprocessing) or calibration_subset(data.x, data.y)
    return Sources(model, data, *calibration, preprocessing)


def compiled_preprocessing(folder: Path) -> Preprocessing | None:
    """Reads what a compiled model, or the model of a run, makes of raw samples.

    Raises:
        UserError: There is no manifest in the folder, or it is damaged.
    """
    table = load_model_directory(folder).manifest.get("preprocessing")
    return from_manifest(table) if table is not None else None


def _calibration(
    config: Config, given: Preprocessing | None
) -> tuple[NDArray[np.float32], NDArray[Any]] | None:
    """Loads the samples that set the ranges, where the settings name them."""
    if config.data.calibration is None:
        return None
    alone = replace(config, data=replace(config.data, test_file=None))
    samples, _ = load_samples(config.data.calibration, alone, given)
    return calibration_subset(samples.x, samples.y)


def compile_request(
    config: Config,
    sources: Sources,
    build_root: Path,
    ram_limit_bytes: int | None = None,
    flash_limit_bytes: int | None = None,
    simd: str = "dsp",
) -> CompileRequest:
    """Returns what the compiler is asked for; it keeps its cache below `build_root`."""
    return CompileRequest(
        model=sources.model,
        settings=config.model,
        name=sources.model.stem,
        calibration_x=sources.calibration_x,
        calibration_y=sources.calibration_y,
        classes=len(sources.data.class_names) or None,
        ram_limit_bytes=ram_limit_bytes,
        flash_limit_bytes=flash_limit_bytes,
        simd=simd,
        cache=build_root / "cache",
        preprocessing=sources.preprocessing,
    )


def compiled_model(
    config: Config,
    sources: Sources,
    build_root: Path,
    ram_limit_bytes: int | None = None,
    flash_limit_bytes: int | None = None,
    simd: str = "dsp",
) -> ModelDirectory:
    """Loads a compiled directory, or compiles a model file (cached below `build_root`)."""
    if sources.model.is_dir():
        model = load_model_directory(sources.model)
        _check_settings(config.model, model.manifest, sources.model)
        return model
    request = compile_request(config, sources, build_root, ram_limit_bytes, flash_limit_bytes, simd)
    return compile_to_cache(request, build_root / "models")


def _check_settings(settings: ModelSettings, manifest: dict[str, Any], path: Path) -> None:
    """A compiled model cannot be given other settings than it was compiled with."""
    optimizer = manifest["optimizer"]
    compiled = {
        "head": manifest["output"]["count"],
        "scheme": manifest["scheme"]["name"],
        "dtype": manifest["dtype"],
        "loss": manifest["loss"],
        "optimizer": optimizer["name"],
        "accumulation_steps": optimizer["accumulation_steps"],
    }
    rounds = manifest.get("round", {})
    for key, name in (("compress", "codec"), ("compress_ratio", "ratio"), ("proximal", "proximal")):
        compiled[key] = rounds.get(name, getattr(ModelSettings(), key))
    private = ("dp_clip_norm", "dp_noise_multiplier")
    for key in ("weight_decay", "clip_norm", "clip_value", *private):
        compiled[key] = optimizer.get(key, getattr(ModelSettings(), key))
    for key, found in compiled.items():
        asked = getattr(settings, key)
        default = getattr(ModelSettings(), key)
        if key == "scheme" and str(asked).startswith("sparse:"):
            asked = f"sparse:{Path(str(asked).removeprefix('sparse:')).name}"
        if asked not in (default, found):
            raise UserError(
                f"{path} was compiled with {key} {found!r}, {asked!r} is asked for; leave the "
                "option out, or compile again with `ondevice compile`"
            )


def demo_dataset() -> Dataset:
    """Loads the demo's data: one unseen wearer, with the watch rotated."""
    try:
        from ondevice.demo import wearer_split
    except ImportError as error:
        raise UserError(
            f"the demo's data needs the demo extra ({error}): "
            "pip install 'ondevice-training[demo]', or give --data and --model"
        ) from error
    return make_dataset(wearer_split(), "demo data")


def demo_calibration() -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Loads samples of the people that the demo's model was pretrained on."""
    from ondevice.demo import calibration_set

    return calibration_subset(*calibration_set())


def demo_model() -> Path:
    """Returns the demo's pretrained model, an ONNX file of the package."""
    from ondevice import demo

    return Path(demo.__file__).parent / "watch.onnx"
