"""Builds one TIR function: a reduction per output element, then an epilogue that stores it.

Almost every kernel of a training step has this shape: accumulate over a window, then requantise,
clamp, mask or update in place. The builder keeps the accumulator in a register by computing the
reduction inside the innermost loop of the epilogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import tvm
import tvm.tirx.script.builder as T
from numpy.typing import NDArray
from tvm import s_tir
from tvm.script.ir_builder import IRBuilder

from ondevice_compiler.program import Tensor
from ondevice_compiler.tiling.tile import Choose, Tile, Workload, default_tile

Expr = Any  # A TIR expression, or a number that TIR lifts to one.
Axes = Mapping[str, int]

LARGEST_FLOAT32 = 3.4028234663852886e38  # Stands for "no upper bound" in a clip.


@dataclass(frozen=True)
class TensorArgument:
    """The tensor's address, or that of one of its elements.

    Attributes:
        tensor: Name.
        first: Element.
        advance: Elements by which `first` grows in each turn of the loop around the call.
        axes: Of a constant that is read in another layout than its shape's: its axes in the order
            in which they lie in memory.
    """

    tensor: str
    first: int = 0
    advance: int = 0
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class TableArgument:
    """A constant table; equal tables are emitted once."""

    values: NDArray[Any]


@dataclass(frozen=True)
class ScalarArgument:
    """An integer or float32 constant."""

    value: float
    dtype: str


@dataclass(frozen=True)
class ScaleArgument:
    """The address of the `od_grad_scale_t` of an int8 gradient tensor."""

    gradient: str


@dataclass(frozen=True)
class ShiftArgument:
    """Exponent of one gradient tensor minus that of another, known at run time."""

    source: str
    target: str


@dataclass(frozen=True)
class RateArgument:
    """Learning rate in units of an int8 gradient's integers."""

    gradient: str
    factor: float = 1.0


@dataclass(frozen=True)
class UnitArgument:
    """Real value of one integer of an int8 gradient, times `factor`."""

    gradient: str
    factor: float = 1.0


@dataclass(frozen=True)
class LocalArgument:
    """A float32 that the listing computes before: learning_rate, clip, adam.rate, adam.root."""

    name: str


Argument = (
    TensorArgument
    | TableArgument
    | ScalarArgument
    | ScaleArgument
    | ShiftArgument
    | RateArgument
    | UnitArgument
    | LocalArgument
)


class KernelBuilder:
    """Collects parameters and blocks of one kernel; `finish` returns the scheduled function.

    Args:
        name: Name of the function.
        immediate: Scalars become constants instead of parameters. The Relax VM, which runs
            kernels for calibration, passes only tensors.
        tiles: Chooses the register tiles.
    """

    def __init__(self, name: str, immediate: bool = False, tiles: Choose = default_tile) -> None:
        self.name = name
        self._tiles = tiles
        self.written: list[str] = []
        self.arguments: list[Argument] = []
        self.tensors: dict[str, str] = {}  # parameter -> tensor
        self._immediate = immediate
        self._reductions: list[tuple[str, int]] = []
        self._stores = 0
        self._first: list[Expr] = []
        self._last: list[Expr] = []
        self._stack = ExitStack()
        self._builder = self._stack.enter_context(IRBuilder())
        self._function = T.prim_func(s_tir=True)
        self._function.__enter__()
        T.func_name(name)

    def tensor(
        self,
        name: str,
        tensor: Tensor,
        written: bool = False,
        shape: Sequence[int] | None = None,
    ) -> Any:
        """Adds a tensor parameter; only `written` ones are not const in the C.

        Args:
            name: Of the parameter.
            tensor: Whose address it is.
            written: Whether the kernel writes it.
            shape: By which the kernel indexes it, of as many elements; None: the tensor's own.
        """
        if written:
            self.written.append(name)
        self.arguments.append(TensorArgument(tensor.name))
        self.tensors[name] = tensor.name
        return T.arg(name, T.buffer(tuple(shape or tensor.shape), tensor.dtype))

    def constant(self, name: str, tensor: Tensor, axes: tuple[int, ...]) -> Any:
        """Adds a parameter for a frozen parameter that lies in flash with its axes in this order.

        Kernels that read one tensor should agree: each order is emitted once.
        """
        self.arguments.append(TensorArgument(tensor.name, axes=axes))
        self.tensors[name] = tensor.name
        return T.arg(name, T.buffer(tuple(tensor.shape[axis] for axis in axes), tensor.dtype))

    def table(self, name: str, values: NDArray[Any]) -> Any:
        """Adds a parameter for a constant table, which is emitted beside the kernels."""
        self.arguments.append(TableArgument(values))
        return T.arg(name, T.buffer(values.shape, str(values.dtype)))

    def scalar(self, name: str, dtype: str, value: float) -> Expr:
        """Adds a scalar parameter, or the constant `value` where scalars are immediate."""
        if self._immediate:
            return tvm.tirx.const(value, dtype)
        self.arguments.append(ScalarArgument(value, dtype))
        return T.arg(name, getattr(T, dtype)())

    def rate(self, gradient: str, factor: float = 1.0) -> Expr:
        """Adds the learning rate, times `factor`, in units of `gradient`'s integers."""
        self.arguments.append(RateArgument(gradient, factor))
        return T.arg("rate", T.float32())

    def unit(self, gradient: str, factor: float = 1.0) -> Expr:
        """Adds the real value, times `factor`, of one of `gradient`'s integers."""
        self.arguments.append(UnitArgument(gradient, factor))
        return T.arg("scale", T.float32())

    def local(self, name: str) -> Expr:
        """Adds a float32 variable of the listing; see `LocalArgument`."""
        self.arguments.append(LocalArgument(name))
        return T.arg(name.rpartition(".")[2], T.float32())

    def shift(self, source: str, target: str, name: str = "exponent") -> Expr:
        """Adds the difference of two gradients' exponents."""
        self.arguments.append(ShiftArgument(source, target))
        return T.arg(name, T.int32())

    def scale(self, gradient: str) -> Expr:
        """Adds the pointer to a gradient's delayed scale, passed on to the runtime."""
        self.arguments.append(ScaleArgument(gradient))
        return T.arg("scale", T.handle())

    def reduce(
        self,
        axes: Axes,
        along: Axes,
        dtype: str,
        start: Callable[..., Expr],
        combine: Callable[..., Expr],
        name: str = "acc",
    ) -> Callable[..., Expr]:
        """Adds `acc[axes] = start(axes)`, then `acc = combine(acc, axes, along)` over `along`.

        Args:
            axes: Output axes, name to extent; those of the following `store`, or the first of
                them: then it is computed once for all that `store` writes inside.
            along: Axes reduced over, outermost first.
            dtype: Of the accumulator.
            start: Initial value, called with the output indices.
            combine: New accumulator, called with it, the output indices, then the reduced ones.
            name: Of the accumulator in the generated C.

        Returns:
            Reads the accumulator at given output indices.
        """
        accumulator = T.sblock_alloc_buffer(tuple(axes.values()), dtype)
        IRBuilder.name(name, accumulator)
        with self._loops({**axes, **along}) as loops, T.sblock(name):
            spatial = [
                self._axis(T.axis.spatial, axis, extent, loop)
                for (axis, extent), loop in zip(axes.items(), loops, strict=False)
            ]
            reduced = [
                self._axis(T.axis.reduce, axis, extent, loop)
                for (axis, extent), loop in zip(along.items(), loops[len(axes) :], strict=True)
            ]
            if not along:
                T.buffer_store(accumulator, start(*spatial), spatial)
            else:
                with T.init():
                    T.buffer_store(accumulator, start(*spatial), spatial)
                value = combine(accumulator[tuple(spatial)], *spatial, *reduced)
                T.buffer_store(accumulator, value, spatial)
        self._reductions.append((name, len(axes)))
        return lambda *indices: accumulator[tuple(indices)]

    def value(
        self, axes: Axes, name: str, dtype: str, body: Callable[..., Expr]
    ) -> Callable[..., Expr]:
        """Adds `name[axes] = body(axes)`, computed once at the depth of `axes`; see `reduce`."""
        return self.reduce(axes, {}, dtype, body, lambda acc, *indices: acc, name)

    def exponential(self, value: Expr) -> Expr:
        """exp(value) in float32, which saturates as the runtime's does."""
        return self.runtime_function("od_expf", lambda x: T.exp(T.min(x, T.float32(88))), value)

    def square_root(self, value: Expr) -> Expr:
        """Square root in float32, correctly rounded."""
        return self.runtime_function("od_square_root", T.sqrt, value)

    def runtime_function(self, name: str, stand_in: Callable[[Expr], Expr], value: Expr) -> Expr:
        """The runtime's float32 function of one value; in the Relax VM, TVM's `stand_in`."""
        if self._immediate:
            return stand_in(value)
        return T.call_pure_extern("float32", name, value)

    def store(self, axes: Axes, body: Callable[..., Sequence[tuple[Any, Expr, Any]]]) -> None:
        """Adds the epilogue: `body(indices)` gives (buffer, value, where) for each store.

        A kernel without reductions may have several, one after another.
        """
        self._stores += 1
        name = "store" if self._stores == 1 else f"store_{self._stores}"
        with self._loops(axes) as loops, T.sblock(name):
            spatial = [
                self._axis(T.axis.spatial, axis, extent, loop)
                for (axis, extent), loop in zip(axes.items(), loops, strict=True)
            ]
            for target, value, indices in body(*spatial):
                T.buffer_store(target, value, list(indices))

    @contextmanager
    def loop(self, name: str, begin: Expr, end: Expr) -> Iterator[Expr]:
        """A loop of statements, for kernels that are written as tiles instead of blocks."""
        with T.serial(begin, end) as index:
            IRBuilder.name(name, index)
            yield index

    def registers(self, name: str, count: int, dtype: str = "int32") -> Any:
        """Adds a small array that lives in registers: its indices are constants."""
        array = T.sblock_alloc_buffer((count,), dtype)
        IRBuilder.name(name, array)
        return array

    @staticmethod
    def set(target: Any, index: Any, value: Expr) -> None:
        """Stores a value."""
        T.buffer_store(target, value, list(index) if isinstance(index, tuple | list) else [index])

    def around(self, first: Expr, last: Expr) -> None:
        """Calls `first` before all that the kernel does, and `last` after it."""
        self._first.append(first)
        self._last.append(last)

    def tile(self, workload: Workload) -> Tile:
        """The register tile for a workload."""
        return self._tiles(workload)

    def finish(self) -> tvm.tirx.PrimFunc:
        """The kernel, with every reduction computed where its value is stored."""
        self._function.__exit__(None, None, None)
        function = self._builder.get()
        self._stack.close()
        schedule = s_tir.Schedule(tvm.IRModule({"main": function}))
        for name, depth in reversed(self._reductions):
            block = schedule.get_sblock(name)
            around = schedule.get_loops(schedule.get_sblock("store"))
            schedule.compute_at(block, around[depth - 1])
            loops = schedule.get_loops(block)
            if len(loops) > depth:
                schedule.decompose_reduction(block, loops[depth])
        scheduled = self._surrounded(schedule.mod["main"])
        if self._immediate:  # The Relax VM names its functions itself.
            return scheduled.without_attr("global_symbol")
        return scheduled.with_attr("global_symbol", self.name)

    def _surrounded(self, function: tvm.tirx.PrimFunc) -> tvm.tirx.PrimFunc:
        if not self._first:
            return function
        root = function.body.block
        first, last = ([tvm.tirx.Evaluate(e) for e in es] for es in (self._first, self._last))
        body = tvm.tirx.SeqStmt([*first, root.body, *last])
        block = s_tir.SBlock([], [], [], root.name_hint, body, alloc_buffers=root.alloc_buffers)
        return function.with_body(s_tir.SBlockRealize([], True, block))

    @staticmethod
    def _axis(kind: Any, name: str, extent: int, loop: Any) -> Any:
        variable = kind(extent, loop)
        IRBuilder.name(f"v_{name}", variable)
        return variable

    @staticmethod
    def _loops(axes: Axes) -> Any:
        return _NamedGrid(axes)


class _NamedGrid:
    """`T.grid` whose loop variables carry names, and which gives a list for any rank."""

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        self._grid = T.grid(*axes.values())

    def __enter__(self) -> list[Any]:
        variables = self._grid.__enter__()
        listed = [variables] if isinstance(variables, tvm.tirx.Var) else list(variables)
        for name, variable in zip(self._axes, listed, strict=True):
            IRBuilder.name(name, variable)
        return listed

    def __exit__(self, *error: Any) -> None:
        self._grid.__exit__(*error)
