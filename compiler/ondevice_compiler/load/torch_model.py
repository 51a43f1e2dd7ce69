"""PyTorch programs (torch.export) to Relax. The only module that imports torch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ondevice_compiler.errors import UserError


def read_exported(path: Path) -> Any:
    """Reads a file written by `torch.export.save`; no code that it holds is run.

    Raises:
        UserError: No such file, or one that holds more than a graph and its tensors.
    """
    torch = _torch()
    try:
        with _without_code(torch):
            return torch.export.load(path)
    except Exception as error:  # torch raises several unrelated types for a malformed file
        raise UserError(
            f"{path} is not a program saved by torch.export.save: {_first_line(error)}"
        ) from error


@contextlib.contextmanager
def _without_code(torch: Any) -> Iterator[None]:
    """Keeps `torch.export.load` from what it does for files that it trusts.

    That is: unpickling tensors of other classes and constants that are objects, and SymPy's eval
    of symbolic extents, which a program of fixed shapes does not have.
    """

    def refuse(*arguments: Any, **named: Any) -> Any:
        raise ValueError("it holds Python objects; do not trust this file")

    def refuse_expression(*arguments: Any, **named: Any) -> Any:
        raise ValueError("it has a dynamic dimension; export the model with fixed sizes, batch 1")

    with contextlib.ExitStack() as patched:
        patched.enter_context(patch.dict(os.environ, {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}))
        patched.enter_context(patch("pickle.loads", refuse))
        patched.enter_context(patch("sympy.sympify", refuse_expression))
        patched.enter_context(patch.object(torch._C, "_pickle_load_obj", refuse, create=True))
        yield


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def export_module(module: Any, example: Any) -> Any:
    """Exports a module in evaluation mode."""
    torch = _torch()
    return torch.export.export(module.eval(), (example,))


def import_exported(program: Any) -> Any:
    """Relax module of an exported program, with parameters as inputs.

    An operator that TVM lacks becomes a call of an external function of its name, so that
    `normalize` names it with the others that are not supported.
    """
    from tvm.relax.frontend.torch import from_exported_program
    from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

    try:
        program = program.run_decompositions()
        known = ExportedProgramImporter().convert_map
        called = {n.target.__name__ for n in program.graph.nodes if n.op == "call_function"}
        return from_exported_program(
            program,
            keep_params_as_input=True,
            unwrap_unit_return_tuple=True,
            custom_convert_map={name: _stand_in for name in called if name not in known},
            run_ep_decomposition=False,
        )
    except Exception as error:  # TVM reports unsupported nodes by its own error types
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise UserError(f"cannot import the torch program: {lines[-1].strip()}") from error


def _stand_in(node: Any, importer: Any) -> Any:
    from tvm import relax

    def type_of(value: Any) -> Any:
        kind = str(value.dtype).removeprefix("torch.")
        return relax.TensorType([int(extent) for extent in value.shape], kind)

    value = node.meta["val"]
    several = isinstance(value, list | tuple)
    types = [type_of(item) for item in value] if several else type_of(value)
    arguments = [importer.env[a] for a in node.all_input_nodes if a in importer.env]
    name = str(node.target.__name__).rpartition(".")[0] or str(node.target.__name__)
    call = relax.call_dps_packed(name, relax.Tuple(arguments), types)
    return importer.block_builder.emit(call)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            "a .pt2 model needs PyTorch, which is not installed; "
            "install the extra 'torch' or export the model to ONNX"
        ) from error
    return torch
