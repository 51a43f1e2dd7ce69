"""C of kernels kept between compilations."""

from __future__ import annotations

from pathlib import Path

import pytest
from layers import forward, residual_add

from ondevice_compiler import kernel_cache
from ondevice_compiler.kernel_cache import KernelCache
from ondevice_compiler.lower import lower

PROGRAMS = [forward("a", 6, 8, 4).program, residual_add("b", 4, 8).program]


def test_what_is_recalled_is_what_tvm_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = [str(lower(program)) for program in PROGRAMS]
    cache = KernelCache(tmp_path / "kernels")
    assert [str(lower(program, cache=cache)) for program in PROGRAMS] == plain
    monkeypatch.setattr(kernel_cache, "to_c", lambda *arguments: pytest.fail("lowered again"))
    assert [str(lower(program, cache=cache)) for program in PROGRAMS] == plain


def test_another_size_or_another_tile_is_another_kernel(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path)
    lower(PROGRAMS[0], cache=cache)
    lower(forward("a", 6, 8, 8).program, cache=cache)
    assert len(list(tmp_path.iterdir())) == 2
