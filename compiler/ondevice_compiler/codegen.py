"""TIR functions to readable C, through TVM's C code generator.

TVM prints one function per kernel with raw pointers; what it lacks is added here: `const` and
`restrict`, our own includes instead of prototypes, and exact float constants (it prints six
decimals, so kernels take floats as parameters).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.ir import IRModule
from tvm.tirx.buffer import buffer_data_pointer_type, is_buffer_var

TARGET = tvm.target.Target("c")
PLACEHOLDER = "kernel"

_PASSES = (
    s_tir.transform.CanonicalizeLoop(),
    s_tir.transform.LowerInitBlock(),
    s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
    s_tir.transform.ConvertBlocksToOpaque(),
    s_tir.transform.CompactBufferAllocation(),
    s_tir.transform.LowerMatchBuffer(),
    s_tir.transform.StmtSimplify(),
    s_tir.transform.AnnotateIrregularLoop(),
    s_tir.transform.LowerOpaqueBlock(),
    tirx.transform.FlattenBuffer(),
    tirx.transform.NarrowDataType(32),
    s_tir.transform.LoopPartition(),
    s_tir.transform.HoistIfThenElse(),
    tirx.transform.UnrollLoop(),
    s_tir.transform.RenormalizeSplitPattern(),
    tirx.transform.StmtSimplify(),
    tirx.transform.RemoveNoOp(),
    s_tir.transform.RewriteUnsafeSelect(),
    tirx.transform.CommonSubexprElim(),
)


def to_c(
    function: tirx.PrimFunc, written: Sequence[str], shared: Collection[str] = frozenset()
) -> str:
    """C source of one kernel, named `kernel`.

    Args:
        function: Scheduled TIR.
        written: Parameters that the kernel writes; the others become const.
        shared: Parameters whose bytes another one may share; the others become restrict.

    Returns:
        The function's definition, without includes; the same text for the same kernel.
    """
    module = IRModule({PLACEHOLDER: function.with_attr("global_symbol", PLACEHOLDER)})
    module = tirx.transform.BindTarget(TARGET)(module)
    module = tvm.transform.Sequential(list(_PASSES))(module)
    module = IRModule({PLACEHOLDER: _with_raw_pointers(module[PLACEHOLDER])})
    module = tirx.transform.LowerIntrin()(module)
    source = str(tvm.get_global_func("target.build.c")(module, TARGET).inspect_source())
    return _tidy(source, written, shared)


def _with_raw_pointers(function: Any) -> tirx.PrimFunc:
    """Buffer parameters become typed pointers."""
    parameters, declarations = [], []
    for parameter in function.params:
        if is_buffer_var(parameter):
            pointer = tirx.Var(f"{parameter.name}_p", buffer_data_pointer_type(parameter))
            parameters.append(pointer)
            declarations.append(tirx.DeclBuffer(parameter, data=pointer))
        else:
            parameters.append(parameter)
    body = tirx.stmt_seq(*declarations, function.body)
    raw = tirx.PrimFunc(parameters, body, ret_type=None)
    for key, value in function.attrs.items():
        raw = raw.with_attr(key, value)
    return raw


def _tidy(source: str, written: Sequence[str], shared: Collection[str]) -> str:
    """The definition alone, with const, restrict and the names we gave."""
    start = source.rindex(f"void {PLACEHOLDER}(")
    text = source[start:].rstrip() + "\n"
    head, body = text.split("{", 1)
    parameters = re.findall(r"(\w+)(\*?) (\w+)(?:,|\))", head)
    declared = []
    for kind, star, name in parameters:
        plain = name.removesuffix("_p")
        if not star:
            declared.append(f"{kind} {plain}")
        elif kind == "void":
            declared.append(f"void *{plain}")
        else:
            constant = "" if plain in written else "const "
            restrict = "" if plain in shared else "restrict "
            declared.append(f"{constant}{kind} *{restrict}{plain}")
    body = re.sub(r"\b(\w+)_p\b", r"\1", body)
    body = re.sub(r"\b(\w+?)_ptr(_\d+)?\b", r"\1\2", body)
    for scalar in re.findall(r"^ *\w+ (\w+)\[1\];", body, re.M):  # accumulators of one element
        body = body.replace(f"{scalar}[1];", f"{scalar};").replace(f"{scalar}[0]", scalar)
    body = body.replace("  ", "    ")
    return f"static void {PLACEHOLDER}({', '.join(declared)}) {{{body}"
