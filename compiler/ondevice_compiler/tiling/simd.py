"""Which vector instructions a CPU has, and what that changes in a register tile."""

from __future__ import annotations

from dataclasses import replace

from ondevice_compiler.tiling.tile import Choose, Tile, Workload

SIMD = ("dsp", "mve", "none")
_MVE_BYTES = 16
_STRAIGHT = 2  # Vectors of four bytes that follow each other one byte at a time.


def for_simd(simd: str, choose: Choose) -> Choose:
    """The tiles of a CPU; those of "dsp" are right everywhere, if not the fastest.

    Args:
        simd: "dsp" (SMLAD and the like: Cortex-M4, M7, M33), "mve" (16 bytes at once: M55), or
            "none" (M0, M3).
        choose: For "dsp", the kind that `ondevice tune` measures.
    """
    if simd == "dsp":
        return choose

    def chosen(workload: Workload) -> Tile:
        tile = choose(workload)
        if workload.kind not in ("dot", "dot_q88"):
            return tile
        if simd == "mve":
            return replace(tile, vector=_MVE_BYTES)
        return replace(tile, vector=1, unroll=_STRAIGHT)

    return chosen
