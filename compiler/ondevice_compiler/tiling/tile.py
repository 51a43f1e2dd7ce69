"""The shape of a kernel's register tile, and which shapes are worth trying.

A tile computes a few neighbouring pixels and channels together, so that each operand that is loaded
and widened serves several products: the register tiling of the lectures' loop optimisations. Which
tile is best depends on the sizes and on the compiler's register allocation, so it is measured
(`ondevice tune`); `default_tile` is for what was not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

LARGEST_PIXELS = 4  # access.py counts on it: a kernel reads this many pixels before it writes them.


@dataclass(frozen=True)
class Tile:
    """One choice.

    Attributes:
        pixels: Neighbouring outputs of a row, at most `LARGEST_PIXELS`.
        channels: Neighbouring channels; of a depthwise vector of four, how many at a time.
        unroll: Vector steps of the innermost loop, or rows of a depthwise window, that follow each
            other without a branch; columns of a depthwise window whose gradients are summed at
            once.
        vector: Products of one intrinsic along memory, at most: 16, 4 or 1; see `for_simd`.

    The tile of an outer product (a weight gradient) is `channels` output channels by `unroll`
    vectors of input channels; its innermost loop takes `pixels` pixels a turn.
    """

    pixels: int = 1
    channels: int = 1
    unroll: int = 1
    vector: int = 4


@dataclass(frozen=True)
class Workload:
    """What a kernel's speed depends on.

    Attributes:
        kind: Name of the loops, such as "dot".
        sizes: Extents by name, in a fixed order: pixels (of a row that are tiled together),
            channels, steps (of the vector loop), and whatever else the kind has.
    """

    kind: str
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The key of the tuning database: `dot pixels=144 channels=24 steps=24`."""
        return " ".join([self.kind, *(f"{name}={size}" for name, size in self.sizes.items())])


Choose = Callable[[Workload], Tile]


def candidates(workload: Workload) -> tuple[Tile, ...]:
    """Every tile that the workload allows, the simplest first."""
    if workload.kind == "depthwise_dw":
        return tuple(Tile(p, 1, u) for p in range(1, LARGEST_PIXELS + 1) for u in (1, 2))
    if workload.kind.startswith("depthwise"):
        rows = _straight(workload)
        return tuple(Tile(p, c, u) for p in _periods(workload) for c in (2, 4) for u in rows)
    if workload.kind.startswith("rows"):
        pixels = range(1, min(workload.sizes["pixels"], LARGEST_PIXELS) + 1)
        return tuple(Tile(p, 1, u) for p in pixels for u in _divisors(workload.sizes["steps"], 6))
    pixels = range(1, min(workload.sizes.get("pixels", 1), LARGEST_PIXELS) + 1)
    channels = _divisors(workload.sizes.get("channels", 1), 8)
    unrolls = _divisors(workload.sizes.get("steps", 1), 12)
    if workload.kind == "outer":
        return tuple(Tile(p, c, u) for p in pixels for c in channels for u in unrolls if c * u <= 3)
    return tuple(Tile(p, c, u) for p in pixels for c in channels for u in unrolls if p * c <= 12)


def default_tile(workload: Workload) -> Tile:
    """A good tile where nothing was measured: six sums or so, and a short innermost loop."""
    if workload.kind == "depthwise_dw":
        return Tile(4, 1, 2)
    if workload.kind.startswith("rows"):
        unroll = max(_divisors(workload.sizes["steps"], 6))
        return Tile(min(workload.sizes["pixels"], 2), 1, unroll)
    extent = workload.sizes.get("pixels", 1)
    if workload.kind.startswith("depthwise"):
        unroll = max(rows for rows in _straight(workload) if rows <= 3)
        if workload.kind.startswith("depthwise_dx"):
            return Tile(2 if workload.sizes["stride"] == 1 else max(_periods(workload)), 2)
        return Tile(3 if extent >= 24 or extent % 3 == 0 else LARGEST_PIXELS, 2, unroll)
    pixels = 3 if extent >= 24 else max(_divisors(extent, LARGEST_PIXELS))
    if workload.kind == "outer":
        if extent * workload.sizes["rows"] == 1:  # A linear layer: nearly all is the update.
            return Tile()
        fitting = max(_divisors(extent, LARGEST_PIXELS))
        return Tile(fitting, max(_divisors(workload.sizes.get("channels", 1), 2)))
    channels = max(_divisors(workload.sizes.get("channels", 1), 2 if pixels > 1 else 4))
    unroll = max(_divisors(workload.sizes.get("steps", 1), 8))
    return Tile(pixels, channels, unroll)


def wider(tile: Tile, pixels: int, channels: int) -> int:
    """Channels of the tile where only a few pixels are left: as many sums, in whole tiles."""
    if pixels == tile.pixels:
        return tile.channels
    sums = max(tile.pixels * tile.channels // pixels, 1)
    return max(n for n in _divisors(channels, sums) if n % tile.channels == 0 or n <= tile.channels)


def _divisors(extent: int, largest: int) -> list[int]:
    return [n for n in range(1, largest + 1) if max(extent, 1) % n == 0]


def _periods(workload: Workload) -> list[int]:
    """Pixels of a depthwise tile; in a gradient, a multiple of the stride: then tiles are alike."""
    period = workload.sizes["stride"] if workload.kind.startswith("depthwise_dx") else 1
    return list(range(period, LARGEST_PIXELS + 1, period))


def _straight(workload: Workload) -> list[int]:
    """Window rows of a depthwise tile that follow each other: one, or all where all are used."""
    transposed = workload.kind.startswith("depthwise_dx")
    if transposed and workload.sizes["stride"] > 1:
        return [1]
    return sorted({1, workload.sizes["rows"]})
