"""PyTorch programs (torch.export) to Relax. The only module that imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ondevice_compiler.errors import UserError


def read_exported(path: Path) -> Any:
    """Reads a file written by `torch.export.save`."""
    torch = _torch()
    try:
        return torch.export.load(path)
    except Exception as error:  # torch raises several unrelated types for a malformed file
        raise UserError(f"{path} is not a program saved by torch.export.save: {error}") from error


def export_module(module: Any, example: Any) -> Any:
    """Exports a module in evaluation mode."""
    torch = _torch()
    return torch.export.export(module.eval(), (example,))


def import_exported(program: Any) -> Any:
    """Relax module of an exported program, with parameters as inputs."""
    from tvm.relax.frontend.torch import from_exported_program

    try:
        return from_exported_program(
            program, keep_params_as_input=True, unwrap_unit_return_tuple=True
        )
    except Exception as error:  # TVM reports unsupported nodes by its own error types
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise UserError(f"cannot import the torch program: {lines[-1].strip()}") from error


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            "a .pt2 model needs PyTorch, which is not installed; "
            "install the extra 'torch' or export the model to ONNX"
        ) from error
    return torch
