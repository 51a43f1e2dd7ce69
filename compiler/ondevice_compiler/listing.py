"""The listing of one model: names of its buffers and tables, and one call a step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.argument_text import ArgumentText
from ondevice_compiler.c_text import identifier, literal, table
from ondevice_compiler.kernel_builder import Argument, RateArgument, TensorArgument
from ondevice_compiler.lifetimes import in_arena
from ondevice_compiler.lower import BandLoop, Call, Lowered, RowMove
from ondevice_compiler.memory import kept_tensors
from ondevice_compiler.ops.losses import LOSS_CALLS
from ondevice_compiler.plan import Plan
from ondevice_compiler.private_updates import NOISE_KEY
from ondevice_compiler.program import BYTES, Program, Strip, Tensor, describe
from ondevice_compiler.updates import UPDATE_STEPS


class Listing:
    """Names the constants and buffers of one model while its listing is written."""

    def __init__(self, lowered: Lowered, plan: Plan, histories: dict[str, float]) -> None:
        self.lowered = lowered
        self.program: Program = lowered.program
        self.plan = plan
        self.scales = list(histories)
        self.histories = histories
        self.final = f"d.{self.program.output}"
        self.integer = self.program.integer
        self.names = _identifiers(self.program)
        self._tables: dict[tuple[str, bytes], str] = {}
        self._table_text: list[str] = []
        self._arguments = ArgumentText(
            self._address, lambda values: self.table(values, "table"), self.scales
        )

    def state(self) -> list[Tensor]:
        """Tensors in RAM that outlive a step: trained parameters, then optimiser state."""
        return kept_tensors(self.program)

    def constants(self) -> list[Tensor]:
        """Frozen parameters, in flash, but those that kernels read in a layout of their own."""
        tensors = self.program.tensors.values()
        every = (a for call in self.lowered.calls for a in call.arguments)
        read = [argument for argument in every if isinstance(argument, TensorArgument)]
        elsewhere = {a.tensor for a in read if a.axes} - {a.tensor for a in read if not a.axes}
        return [
            t
            for t in tensors
            if t.kind == "parameter" and not t.trainable and t.name not in elsewhere
        ]

    def table(self, values: NDArray[Any], stem: str) -> str:
        """Name of a constant table; equal ones are emitted once."""
        key = (str(values.dtype), values.tobytes())
        if key not in self._tables:
            name = f"{stem}_{len(self._tables)}"
            self._tables[key] = name
            self._table_text.append(table(name, values))
        return self._tables[key]

    def table_bytes(self) -> int:
        """Bytes of all constant tables."""
        return sum(len(content) for _, content in self._tables)

    def tables_text(self) -> str:
        """All constant tables."""
        return "\n".join(self._table_text)

    def pointer(self, name: str, first: int = 0, advance: int = 0) -> str:
        """C expression for the address of a tensor's element, which moves with the band."""
        moving = f" + {advance} * band" if advance else ""
        return f"{self.names[name]}{f' + {first}' if first else ''}{moving}"

    def argument(self, argument: Argument) -> str:
        """C expression for one argument of a kernel."""
        return self._arguments.of(argument)

    def _address(self, argument: TensorArgument) -> str:
        if argument.axes:
            return self._moved(argument.tensor, argument.axes)
        return self.pointer(argument.tensor, argument.first, argument.advance)

    def _moved(self, name: str, axes: tuple[int, ...]) -> str:
        """A frozen parameter as a table, its axes in another order; one table for all readers."""
        values = np.asarray(self.program.values[name]).astype(self.program.tensor(name).dtype)
        return self.table(np.ascontiguousarray(values.transpose(axes)), self.names[name])

    def calls(self, calls: Iterable[tuple[int, Call]], training: bool) -> str:
        """One call a step, each followed by its mark; the steps of a strip as its bands."""
        chosen = dict(calls)
        strips = list(zip(self.program.strips, self.lowered.strips, strict=True))
        lines: list[str] = []
        for index, call in chosen.items():
            entered = next((s for s in strips if s[0].first <= index <= s[0].last), None)
            if entered is not None:
                strips.remove(entered)
                lines += self._strip(*entered, chosen)
            if any(strip.first <= index <= strip.last for strip in self.program.strips):
                continue
            lines.append(self._described(call))
            if call.step.op in LOSS_CALLS:
                lines += self._loss(call, training)
            elif call.step.op == "quantize_error":
                lines += self._quantize_error(call)
            elif call.step.op == "clip_norm":
                lines += self._clip_norm(call)
            elif call.step.op == "private_sum":
                lines += self._private_sum(call)
            elif call.step.op == "private_noise":
                lines += self._private_noise(call)
            else:
                lines += [f"    {self._call(call.kernel, call.arguments)}"]
            lines.append(f"    od_mark(trace, {index});")
        return "\n".join(lines)

    def _strip(
        self, strip: Strip, loops: tuple[BandLoop, ...], chosen: dict[int, Call]
    ) -> list[str]:
        inside = [i for i in range(strip.first, strip.last + 1) if i in chosen]
        lines = [self._described(chosen[index]) for index in inside]
        lines.append(f"    /* {len(inside)} steps, {strip.rows} rows of the last map a band: */")
        for loop in loops:
            indent = "    " if loop.count == 1 else "        "
            if loop.count > 1:
                lines.append(f"    for (uint32_t band = 0; band < {loop.count}; band++) {{")
            for part in loop.body:
                if isinstance(part, RowMove):
                    lines.append(f"{indent}{self._move(part)}")
                elif part.index in chosen:
                    lines.append(f"{indent}{self._call(part.kernel, part.arguments)}")
                    lines.append(f"{indent}od_mark(trace, {part.index});")
            if loop.count > 1:
                lines.append("    }")
        return lines

    def _described(self, call: Call) -> str:
        outputs = ", ".join(describe(self.program.tensor(name)) for name in call.step.outputs)
        macs = f", {call.macs} MACs" if call.macs else ""
        return f"    /* {call.step.name}: {outputs}{macs} */"

    def _call(self, kernel: str, arguments: Iterable[Argument]) -> str:
        return f"{kernel}({', '.join(self.argument(argument) for argument in arguments)});"

    def _move(self, move: RowMove) -> str:
        name = self.names[move.tensor]
        size = BYTES[self.program.tensor(move.tensor).dtype] * move.elements
        return f"memmove({name}, {name} + {move.first}, {size});"

    def _loss(self, call: Call, training: bool) -> list[str]:
        output, label = (self.program.tensor(name) for name in call.step.inputs)
        error = self.pointer(call.step.outputs[0]) if training else "0"
        target = "label"
        if label.dtype == "uint32":
            target = f"label[0], {literal(call.step.attributes.get('smoothing', 0.0), 'float32')}"
        function = LOSS_CALLS[call.step.op]
        name = self.names[output.name]
        lines = [
            f"    const int32_t status = {function}({name}, {output.elements}, {target}, {error},",
            "                                    result);",
            "    if (status != OD_OK) {",
            "        return status;",
            "    }",
        ]
        return lines

    def _quantize_error(self, call: Call) -> list[str]:
        source = self.program.tensor(call.step.inputs[0])
        target = self.program.tensor(call.step.outputs[0])
        quantization = target.quantization
        ones = np.ones(target.elements, np.float32)
        fold = ones if quantization is None else quantization.scales.astype(np.float32)
        fold = np.ascontiguousarray(np.broadcast_to(fold, (target.elements,)))
        arguments = (
            f"{self.pointer(source.name)}, {self.table(fold, 'fold')}, {target.elements}, "
            f"{self.pointer(target.name)}"
        )
        lines = [f"    const float unit = od_quantize_error({arguments});"]
        every = [argument for call in self.lowered.calls for argument in call.arguments]
        if any(isinstance(argument, RateArgument) for argument in every):
            lines.append("    const float rate = learning_rate * unit;")
        if self.scales:
            lines.append(f"    od_scales_begin(scales, {len(self.scales)});")
        return lines

    def _clip_norm(self, call: Call) -> list[str]:
        lines = ["    float squares = 0.0f;"]
        for name in call.step.inputs:
            count = self.program.tensor(name).elements
            lines.append(f"    squares = od_add_squares(squares, {self.pointer(name)}, {count});")
        norm = literal(call.step.attributes["norm"], "float32")
        return [*lines, f"    const float clip = od_clip_factor(squares, {norm});"]

    def _private_sum(self, call: Call) -> list[str]:
        sums = call.step.outputs
        counted = [
            (self.pointer(total), self.pointer(gradient), self.program.tensor(total).elements)
            for gradient, total in zip(call.step.inputs, sums, strict=False)
        ]
        lines = ["    od_squares_t squares = {0};"]
        lines += [f"    od_squares_add(&squares, {g}, {count});" for _, g, count in counted]
        limit, units = (literal(call.step.attributes[k], "float32") for k in ("limit", "units"))
        lines.append(f"    const float share = od_private_factor(&squares, {limit}, {units});")
        return [*lines, *(f"    od_private_add({s}, {g}, {n}, share);" for s, g, n in counted)]

    def _private_noise(self, call: Call) -> list[str]:
        key, update = self.names[NOISE_KEY], f"{self.names[UPDATE_STEPS]}[0]"
        return [
            f"    od_add_noise({self.pointer(name)}, {self.program.tensor(name).elements}, {key}, "
            f"{update}, {index});"
            for index, name in enumerate(call.step.outputs)
        ]


def _identifiers(program: Program) -> dict[str, str]:
    """A C name for every tensor: T_... in the arena, the layer's own name for parameters."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for tensor in program.tensors.values():
        base = identifier(tensor.name)
        if in_arena(program, tensor.name):
            base = f"T_{base}"
        elif tensor.name == program.output:
            base = f"output_{base}"  # a layer may be called like a function of the listing
        unique, copies = base, 1
        while unique in taken:
            copies += 1
            unique = f"{base}_{copies}"
        taken.add(unique)
        names[tensor.name] = unique
    return names
