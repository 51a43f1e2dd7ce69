"""C of kernels kept between compilations, by their TIR: TVM's passes are not run again."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ondevice_compiler.atomic_file import write_text_atomically
from ondevice_compiler.codegen import to_c
from ondevice_compiler.compiler_digest import compiler_digest


class KernelCache:
    """Gives the C of TIR functions, and keeps it.

    Args:
        folder: One small file a kernel; made where it is missing. None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def to_c(self, function: Any, written: Sequence[str], shared: Collection[str]) -> str:
        """See `codegen.to_c`."""
        if self._folder is None:
            return to_c(function, written, shared)
        digest = hashlib.sha256(compiler_digest())
        digest.update(repr((list(written), sorted(shared))).encode())
        digest.update(function.script(show_meta=True).encode())
        path = self._folder / f"{digest.hexdigest()[:32]}.c"
        try:
            return path.read_text(encoding="utf-8")
        except OSError:
            source = to_c(function, written, shared)
        self._folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, source)
        return source
