"""`ondevice.compile` and `ondevice.load`: from a network to a compiled model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ondevice.api.inputs import Data, array_of, data_file, module_file
from ondevice.api.keywords import CompileSettings
from ondevice.api.model import Model
from ondevice.config import Config, ModelSettings, with_overrides
from ondevice.data import Dataset
from ondevice.errors import UserError
from ondevice.preprocessing import Preprocessing
from ondevice.session import prepare
from ondevice.sources import load_sources
from ondevice.target import DEFAULT_BOARD

if TYPE_CHECKING:
    import torch


def compile(
    model: torch.nn.Module | str | Path | None = None,
    data: Data | None = None,
    *,
    board: str = DEFAULT_BOARD,
    scheme: str = "full",
    dtype: str = "int8",
    loss: str = "cross_entropy",
    optimizer: str = "sgd",
    calibration: Data | None = None,
    preprocessing: Preprocessing | None = None,
    build_dir: str | Path = "build",
    **settings: Unpack[CompileSettings],
) -> Model:
    """Compiles a network into a training step for a board; cached by content below `build_dir`.

    Example:
        >>> import numpy, torch, ondevice
        >>> network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(),
        ...                               torch.nn.Linear(8, 2))
        >>> x = numpy.random.default_rng(0).normal(size=(64, 4)).astype("float32")
        >>> model = ondevice.compile(network, (x, (x[:, 0] > 0).astype(int)), dtype="float32")
        >>> model.fits("nucleo_f446re")
        True

    Args:
        model: A `torch.nn.Module`, exported in evaluation mode on a sample of the data; a model
            file (.onnx, .pt2, .tflite, .pkl); a directory written by `ondevice compile` or
            `Model.save`; None: the demo's.
        data: A path as of `ondevice train --data`, a `Dataset`, or arrays (x, y) or (x, y, x_test,
            y_test): x [n, ...sample shape], y [n] class labels or float [n, k] targets. Of (x, y) a
            share is held out. None: the demo's.
        board: See `ondevice boards`; a model that does not fit it is refused.
        scheme: What is updated; see docs/schemes.md.
        dtype: "int8" or "float32".
        loss: "cross_entropy", "binary_cross_entropy" or "mse".
        optimizer: "sgd", "momentum" or "adam".
        calibration: Sets the ranges of activations; None: samples of `data`.
        preprocessing: That samples are normalised with; it goes along with the model. None: that
            of a compiled model, or as `window`, `normalise` and the other settings say.
        build_dir: Where compiled models, firmware, and what was handed over as objects are kept.
        **settings: Keys of the configuration's section [model], as `head=5`, and other sections as
            dictionaries, as `window={"samples": 128}`.

    Raises:
        UserError: The network, the data or a setting is wrong, or the model does not fit the board.
    """
    root = Path(build_dir)
    model_settings: dict[str, object] = {
        "scheme": scheme,
        "dtype": dtype,
        "loss": loss,
        "optimizer": optimizer,
    }
    overrides = _sections(settings, {"model": model_settings, "device": {"board": board}})
    config = with_overrides(Config(), overrides, "ondevice.compile")
    share = config.data.test_share
    files = {
        "file": data_file(data, root, share) if data is not None else None,
        "calibration": data_file(_as_set(calibration), root, share)
        if calibration is not None
        else None,
    }
    config = with_overrides(config, {"data": files}, "ondevice.compile")
    if model is not None and not isinstance(model, str | Path):
        model = module_file(model, _example(data, config), root)
    if model is not None:
        config = with_overrides(config, {"model": {"file": Path(model)}}, "ondevice.compile")
    prepared = prepare(config, root, lambda line: None, False, preprocessing)
    return Model(config, prepared, root)


def load(
    path: str | Path,
    data: Data | None = None,
    *,
    board: str = DEFAULT_BOARD,
    build_dir: str | Path = "build",
) -> Model:
    """Loads what `Model.save` or `ondevice compile -o` wrote.

    Args:
        path: The directory.
        data: As of `ondevice.compile`.
        board: Likewise.
        build_dir: Likewise.

    Raises:
        UserError: It is no compiled model, or the data does not fit it.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise UserError(f"{directory}: no directory of a compiled model; see `Model.save`")
    from ondevice.compiled_model import load_model_directory

    manifest = load_model_directory(directory).manifest
    return compile(
        directory,
        data,
        board=board,
        dtype=manifest["dtype"],
        loss=manifest["loss"],
        build_dir=build_dir,
    )


def _sections(
    settings: Mapping[str, Any], explicit: dict[str, dict[str, object]]
) -> dict[str, dict[str, object]]:
    """Sorts keyword arguments by section: keys of [model], and other sections as dictionaries.

    Raises:
        UserError: There is no such setting.
    """
    allowed = CompileSettings.__optional_keys__
    model = [item.name for item in fields(ModelSettings) if item.name in allowed]
    for name, value in settings.items():
        if name not in allowed or (name not in model and not isinstance(value, Mapping)):
            raise UserError(
                f"ondevice.compile: unknown setting {name}={value!r}; allowed: {', '.join(model)}, "
                f"and as dictionaries {', '.join(sorted(allowed - set(model)))}"
            )
        if name in model:
            explicit["model"][name] = value
        else:
            explicit[name] = dict(value)
    return explicit


def _as_set(calibration: Data) -> Data:
    """Nothing is held out of calibration samples (x, y); the file format wants held-out ones."""
    if isinstance(calibration, tuple) and len(calibration) == 2:
        x, y = map(array_of, calibration)
        return x, y, x[:1], y[:1]
    return calibration


def _example(data: Data | None, config: Config) -> NDArray[Any]:
    """One sample to export a module with: token indices as integers, all else as float32."""
    if data is None:
        raise UserError("a module needs its data to be compiled with: give data=(x, y) or a path")
    if isinstance(data, tuple):
        sample = array_of(data[0])[0]
    else:
        sample = (data if isinstance(data, Dataset) else load_sources(config).data).x[0]
    return sample if sample.dtype in (np.int32, np.int64) else np.asarray(sample, np.float32)
