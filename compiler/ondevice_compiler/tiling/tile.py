"""The shape of a kernel's register tile, and which shapes are worth trying.

A tile computes a few neighbouring pixels and channels together, so that each operand that is loaded
and widened serves several products: the register tiling of the lectures' loop optimisations. Which
tile is best depends on the sizes and on the compiler's register allocation, so it is measured
(`ondevice tune`); `default_tile` is for what was not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

VECTOR = 4  # int8 elements of a word: what a tensor intrinsic takes at once.
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
        kind: Of `SPACES`; `_q88` behind it where the weights are Q8.8.
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
    return tuple(_space(workload).candidates(workload))


def default_tile(workload: Workload) -> Tile:
    """A good tile where nothing was measured: six sums or so, and a short innermost loop."""
    return _space(workload).default(workload)


def wider(tile: Tile, pixels: int, channels: int) -> int:
    """Channels of the tile where only a few pixels are left: as many sums, in whole tiles."""
    if pixels == tile.pixels:
        return tile.channels
    sums = max(tile.pixels * tile.channels // pixels, 1)
    return max(n for n in _divisors(channels, sums) if n % tile.channels == 0 or n <= tile.channels)


@dataclass(frozen=True)
class Space:
    """The tiles of one kind of loops.

    Attributes:
        candidates: All that a workload allows.
        default: The one for a workload that was not measured.
    """

    candidates: Callable[[Workload], Iterable[Tile]]
    default: Callable[[Workload], Tile]


def _dot(workload: Workload) -> Iterator[Tile]:
    for p, c, u in _products(workload):
        if p * c <= 12:
            yield Tile(p, c, u)


def _default_dot(workload: Workload) -> Tile:
    extent, sizes = workload.sizes["pixels"], workload.sizes
    pixels = 3 if extent >= 24 else max(_divisors(extent, LARGEST_PIXELS))
    channels = max(_divisors(sizes["channels"], 2 if pixels > 1 else 4))
    return Tile(pixels, channels, max(_divisors(sizes["steps"], 8)))


def _outer(workload: Workload) -> Iterator[Tile]:
    for p, c, u in _products(workload):
        if c * u <= 3:
            yield Tile(p, c, u)


def _default_outer(workload: Workload) -> Tile:
    extent, sizes = workload.sizes["pixels"], workload.sizes
    if extent * sizes["rows"] == 1:  # A linear layer: nearly all is the update.
        return Tile()
    return Tile(max(_divisors(extent, LARGEST_PIXELS)), max(_divisors(sizes["channels"], 2)))


def _rows(workload: Workload) -> Iterator[Tile]:
    for p in _pixels(workload):
        for u in _divisors(workload.sizes["steps"], 6):
            yield Tile(p, 1, u)


def _default_rows(workload: Workload) -> Tile:
    return Tile(min(workload.sizes["pixels"], 2), 1, max(_divisors(workload.sizes["steps"], 6)))


def _depthwise(workload: Workload) -> Iterator[Tile]:
    for p in range(1, LARGEST_PIXELS + 1):
        for c in (2, 4):
            for u in sorted({1, workload.sizes["rows"]}):
                yield Tile(p, c, u)


def _default_depthwise(workload: Workload) -> Tile:
    extent, rows = workload.sizes["pixels"], workload.sizes["rows"]
    pixels = 3 if extent >= 24 or extent % 3 == 0 else LARGEST_PIXELS
    return Tile(pixels, 2, rows if rows <= 3 else 1)


def _depthwise_dx(workload: Workload) -> Iterator[Tile]:
    """Pixels are a multiple of the stride: then tiles are alike. Window rows follow each other
    where all are used."""
    stride = workload.sizes["stride"]
    for p in range(stride, LARGEST_PIXELS + 1, stride):
        for c in (2, 4):
            for u in sorted({1, workload.sizes["rows"]}) if stride == 1 else (1,):
                yield Tile(p, c, u)


def _default_depthwise_dx(workload: Workload) -> Tile:
    stride = workload.sizes["stride"]
    return Tile(2 if stride == 1 else LARGEST_PIXELS // stride * stride, 2)


def _depthwise_dw(workload: Workload) -> Iterator[Tile]:
    for p in range(1, LARGEST_PIXELS + 1):
        for u in (1, 2):
            yield Tile(p, 1, u)


SPACES = {
    "dot": Space(_dot, _default_dot),
    "outer": Space(_outer, _default_outer),
    "rows": Space(_rows, _default_rows),
    "depthwise": Space(_depthwise, _default_depthwise),
    "depthwise_dx": Space(_depthwise_dx, _default_depthwise_dx),
    "depthwise_dw": Space(_depthwise_dw, lambda workload: Tile(4, 1, 2)),
}


def _space(workload: Workload) -> Space:
    return SPACES[workload.kind.removesuffix("_q88")]


def _products(workload: Workload) -> Iterator[tuple[int, int, int]]:
    """Pixels, channels and unrolls that are in range one by one."""
    channels = _divisors(workload.sizes["channels"], 8)
    return product(_pixels(workload), channels, _divisors(workload.sizes["steps"], 12))


def _pixels(workload: Workload) -> range:
    return range(1, min(workload.sizes["pixels"], LARGEST_PIXELS) + 1)


def _divisors(extent: int, largest: int) -> list[int]:
    return [n for n in range(1, largest + 1) if max(extent, 1) % n == 0]
