"""From a user's model file to the normal form: a Relax function of our operators in NHWC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ondevice_compiler.errors import UserError
from ondevice_compiler.load.normal_form import LoadedModel, normalize
from ondevice_compiler.model_files import MODEL_SUFFIXES


def load_model(path: Path) -> LoadedModel:
    """Loads an ONNX or TFLite file, a program saved by `torch.export.save`, or an int8 graph.

    Raises:
        UserError: The file is missing, of another kind, malformed, or uses operators that the
            compiler does not know.
    """
    if not path.is_file():
        raise UserError(f"model file {path} does not exist")
    if path.suffix == ".onnx":
        from ondevice_compiler.load.onnx_model import import_onnx

        module, unknown = import_onnx(path)
        return normalize(module, path.name, unknown)
    if path.suffix == ".pt2":
        from ondevice_compiler.load.torch_model import import_exported, read_exported

        return normalize(import_exported(read_exported(path)), source=path.name)
    if path.suffix == ".tflite":
        from ondevice_compiler.load.tflite_model import load_tflite

        return load_tflite(path)
    if path.suffix == ".pkl":
        from ondevice_compiler.load.tiny_training_model import load_tiny_training

        return load_tiny_training(path)
    raise UserError(
        f"model file {path} ends in '{path.suffix}'; allowed: {', '.join(MODEL_SUFFIXES)} "
        "(torch: torch.export.save(torch.export.export(model, (x,)), 'model.pt2'))"
    )


def load_module(module: Any, example: Any) -> LoadedModel:
    """Loads a `torch.nn.Module` by exporting it with one example input of batch 1."""
    from ondevice_compiler.load.torch_model import export_module, import_exported

    return normalize(import_exported(export_module(module, example)), source=type(module).__name__)
