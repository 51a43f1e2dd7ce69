"""Compiles a neural network into a static training step in C.

Names are imported on first use, so that `ondevice_compiler.samples` and `.errors` work where TVM
is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ondevice_compiler.compile import CompiledModel, CompileOptions, compile_model
    from ondevice_compiler.scheme import UpdateScheme

__all__ = ["CompileOptions", "CompiledModel", "UpdateScheme", "compile_model"]


def __getattr__(name: str) -> Any:
    if name == "UpdateScheme":
        from ondevice_compiler.scheme import UpdateScheme

        return UpdateScheme
    if name in __all__:
        from ondevice_compiler import compile as compile_module

        return getattr(compile_module, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
