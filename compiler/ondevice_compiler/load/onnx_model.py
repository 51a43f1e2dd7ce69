"""ONNX files to Relax."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from ondevice_compiler.errors import UnsupportedOperatorsError, UserError


def import_onnx(path: Path) -> tuple[Any, list[str]]:
    """Relax module of an ONNX file, with parameters as inputs, and the operators TVM lacks.

    Where there are any, inputs behind the first stand for what they give: `normalize` then finds
    the others that are not supported, and names all of them.

    Raises:
        UserError: Not an ONNX file, or a dynamic shape.
    """
    import onnx
    from tvm.relax.frontend.onnx import from_onnx
    from tvm.relax.frontend.onnx.onnx_frontend import _get_convert_map

    from ondevice_compiler.load.onnx_graph import fold, replace_unknown
    from ondevice_compiler.load.onnx_shapes import evaluate_shapes

    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # onnx raises several unrelated types for a malformed file
        raise UserError(f"{path} is not a valid ONNX file: {_first_line(error)}") from error
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise UserError(f"{path} has {len(inputs)} inputs ({names}); allowed: one")
    for dimension in inputs[0].type.tensor_type.shape.dim:
        if dimension.dim_param or dimension.dim_value <= 0:
            raise UserError(
                f"{path}: input {inputs[0].name} has a dynamic dimension "
                f"'{dimension.dim_param}'; export the model with fixed sizes and batch 1"
            )
    evaluate_shapes(model)
    fold(model)
    known = {*_get_convert_map(), "Constant"}
    unknown = replace_unknown(model, lambda name: name in known)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TVM prints what it then raises
            return from_onnx(model, keep_params_in_input=True), unknown
    except Exception as error:  # TVM reports unsupported nodes by its own error types
        if unknown:
            raise UnsupportedOperatorsError(unknown, path.name) from error
        raise UserError(f"{path}: cannot import: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
