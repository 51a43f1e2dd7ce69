"""Lowered program + plan -> C sources and manifest.

`model.c` reads like a listing: the memory map, one call a step, and the descriptor of
`ondevice/model.h`. `kernels.h` holds the kernels, `tables.h` the constants. The same input gives
the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.c_text import C_TYPES, identifier, literal, table
from ondevice_compiler.kernel_builder import (
    Argument,
    RateArgument,
    ScalarArgument,
    ScaleArgument,
    ShiftArgument,
    TableArgument,
    TensorArgument,
)
from ondevice_compiler.lower import Call, Lowered
from ondevice_compiler.plan import Plan, in_arena
from ondevice_compiler.program import Program, Tensor, describe

ABI = 1
DTYPE_CONSTANTS = {
    "int8": "OD_INT8",
    "int16": "OD_INT16",
    "int32": "OD_INT32",
    "float32": "OD_FLOAT32",
    "uint8": "OD_UINT8",
    "uint32": "OD_UINT32",
}
LOSS_CALLS = {"cross_entropy_error": "od_cross_entropy", "mse_error": "od_mse"}


@dataclass(frozen=True)
class Emitted:
    """What a model directory holds.

    Attributes:
        files: Text by file name.
        manifest: Contents of manifest.json.
    """

    files: dict[str, str]
    manifest: dict[str, Any]


class Emitter:
    """Names the constants and buffers of one model while its listing is written."""

    def __init__(self, lowered: Lowered, plan: Plan, histories: dict[str, float]) -> None:
        self.lowered = lowered
        self.program: Program = lowered.program
        self.plan = plan
        self.scales = list(histories)
        self.histories = histories
        self.final = f"d.{self.program.output}"
        self.integer = self.program.tensor(self.program.input).dtype == "int8"
        self._tables: dict[tuple[str, bytes], str] = {}
        self._table_text: list[str] = []

    def state(self) -> list[Tensor]:
        """Tensors in RAM that outlive a step: trained parameters, then optimiser state."""
        tensors = self.program.tensors.values()
        parameters = [t for t in tensors if t.kind == "parameter" and t.trainable]
        return parameters + [t for t in tensors if t.kind == "state"]

    def constants(self) -> list[Tensor]:
        """Frozen parameters, in flash."""
        tensors = self.program.tensors.values()
        return [t for t in tensors if t.kind == "parameter" and not t.trainable]

    def table(self, values: NDArray[Any], stem: str) -> str:
        """Name of a constant table; equal ones are emitted once."""
        key = (str(values.dtype), values.tobytes())
        if key not in self._tables:
            name = f"{stem}_{len(self._tables)}"
            self._tables[key] = name
            self._table_text.append(table(name, values))
        return self._tables[key]

    def tables_text(self) -> str:
        """All constant tables."""
        return "\n".join(self._table_text)

    def pointer(self, name: str) -> str:
        """C expression for a tensor's address."""
        if in_arena(self.program, name):
            return f"T_{identifier(name)}"
        return identifier(name)

    def argument(self, argument: Argument) -> str:
        """C expression for one argument of a kernel."""
        match argument:
            case TensorArgument(tensor):
                return self.pointer(tensor)
            case TableArgument(values):
                return self.table(values, "table")
            case ScalarArgument(value, dtype):
                return literal(value, dtype)
            case ScaleArgument(gradient):
                return f"&scales[{self.scales.index(gradient)}]"
            case ShiftArgument(source, target):
                return f"{self.exponent(source)} - {self.exponent(target)}"
            case RateArgument(gradient, factor):
                times = "" if factor == 1.0 else f" * {literal(factor, 'float32')}"
                if gradient is None:
                    return f"learning_rate{times}"
                if gradient not in self.histories:
                    return f"rate{times}"
                return f"od_rate(rate, &scales[{self.scales.index(gradient)}]){times}"
        raise TypeError(f"unknown argument {argument}")

    def exponent(self, gradient: str) -> str:
        """Exponent of a gradient; that of the loss's own error is 0."""
        if gradient not in self.histories:
            return "0"
        return f"scales[{self.scales.index(gradient)}].exponent"

    def listing(self, calls: Iterable[tuple[int, Call]], training: bool) -> str:
        """One call a step, each followed by its mark."""
        lines = []
        for index, call in calls:
            step = call.step
            outputs = ", ".join(describe(self.program.tensor(name)) for name in step.outputs)
            macs = f", {call.macs} MACs" if call.macs else ""
            lines.append(f"    /* {step.name}: {outputs}{macs} */")
            if step.op in LOSS_CALLS:
                lines += self._loss(call, training)
            elif step.op == "quantize_error":
                lines += self._quantize_error(call)
            else:
                arguments = ", ".join(self.argument(argument) for argument in call.arguments)
                lines.append(f"    {call.kernel}({arguments});")
            lines.append(f"    od_mark(trace, {index});")
        return "\n".join(lines)

    def _loss(self, call: Call, training: bool) -> list[str]:
        output, label = (self.program.tensor(name) for name in call.step.inputs)
        error = self.pointer(call.step.outputs[0]) if training else "0"
        target = "label[0]" if label.dtype == "uint32" else "label"
        function = LOSS_CALLS[call.step.op]
        name = identifier(output.name)
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
        lines = [f"    const float rate = learning_rate * od_quantize_error({arguments});"]
        if self.scales:
            lines.append(f"    od_scales_begin(scales, {len(self.scales)});")
        return lines


def emit(
    lowered: Lowered,
    plan: Plan,
    histories: dict[str, float],
    manifest: dict[str, Any],
    accumulation_steps: int,
) -> Emitted:
    """Writes the C of a model and completes its manifest.

    Args:
        lowered: Kernels and calls.
        plan: Arena offsets.
        histories: First history of each delayed gradient scale.
        manifest: What the caller knows: name, scheme, optimizer, input axes.
        accumulation_steps: Samples an update.

    Returns:
        Files by name, manifest.json included.
    """
    emitter = Emitter(lowered, plan, histories)
    body = _model_c(emitter, manifest["name"], accumulation_steps)
    files = {
        "kernels.h": _kernels_h(lowered),
        "tables.h": _tables_h(emitter),
    }
    described = _described(emitter)
    described["input"] = {**described["input"], **manifest["input"]}
    complete = {**manifest, **described}
    text = json.dumps(complete, sort_keys=True) + body + "".join(files.values())
    digest = hashlib.sha256(text.encode()).digest()[:16]
    complete = {"format": 1, "abi": ABI, "model_id": digest.hex(), **complete}
    bytes_text = ", ".join(f"0x{byte:02x}" for byte in digest)
    files["model.c"] = body.replace("@MODEL_ID@", bytes_text)
    files["manifest.json"] = json.dumps(complete, indent=1) + "\n"
    return Emitted(files, complete)


def _model_c(emitter: Emitter, name: str, accumulation_steps: int) -> str:
    program, plan = emitter.program, emitter.plan
    calls = list(enumerate(emitter.lowered.calls))
    step_calls = [(i, c) for i, c in calls if c.step.phase != "apply"]
    apply_calls = [(i, c) for i, c in calls if c.step.phase == "apply"]
    forward = [
        (i, c)
        for i, c in step_calls
        if (c.step.phase == "forward" and program.tensor(c.step.outputs[0]).kind != "mask")
        or c.step.op in LOSS_CALLS
    ]
    evaluate = emitter.listing(forward, training=False)
    train = emitter.listing(step_calls, training=True)
    apply = emitter.listing(apply_calls, training=True)
    state, label = emitter.state(), program.tensor(program.label)
    output = program.tensor(program.output)
    scale_count = len(emitter.scales)
    sections = [
        f"/* {name}: generated by the ondevice compiler. Do not edit. */",
        '#include "ondevice/model.h"',
        "",
        f"#if OD_MODEL_ABI != {ABI}",
        f'#error "this model was compiled for runtime ABI {ABI}: compile it again"',
        "#endif",
        "",
        "#include <string.h>",
        "",
        '#include "ondevice/gradient.h"',
        '#include "ondevice/loss.h"',
        '#include "ondevice/trace.h"',
        '#include "ondevice/update.h"',
        "",
        '#include "kernels.h"',
        '#include "tables.h"',
        "",
        "/* Memory: the arena of one step, then what outlives it. */",
        f"#define ARENA_BYTES {plan.arena_bytes}",
        "static uint32_t arena_words[ARENA_BYTES / 4];",
        "#define ARENA ((uint8_t *)arena_words)",
        *_arena_map(emitter),
        "",
        f"static {C_TYPES[label.dtype]} {identifier(program.label)}[{label.elements}];",
        f"static float {identifier(output.name)}[{output.elements}];",
        *(f"static {C_TYPES[t.dtype]} {identifier(t.name)}[{t.elements}];" for t in state),
    ]
    if scale_count:
        sections.append(f"static od_grad_scale_t scales[{scale_count}];")
    ending = [f"    od_scales_end(scales, {scale_count});"] if scale_count else []
    deferred = bool(apply_calls) and not emitter.integer
    starting = ["    (void)learning_rate;"] if deferred else []
    sections += [
        "",
        "static void reset(void) {",
        *_reset(emitter),
        "}",
        "",
        "static int32_t evaluate(od_result_t *result, od_trace_t *trace) {",
        "    od_trace_start(trace);",
        evaluate,
        "    return OD_OK;",
        "}",
        "",
        "static int32_t train(float learning_rate, od_result_t *result, od_trace_t *trace) {",
        *starting,
        "    od_trace_start(trace);",
        train,
        *ending,
        "    return OD_OK;",
        "}",
        "",
    ]
    if apply_calls:
        ignored = ["    (void)learning_rate;"] if emitter.integer else []
        sections += [
            "static int32_t apply(float learning_rate, od_trace_t *trace) {",
            *ignored,
            "    od_trace_start(trace);",
            apply,
            "    return OD_OK;",
            "}",
            "",
        ]
    sections += _descriptor(emitter, name, accumulation_steps, bool(apply_calls))
    return "\n".join(sections) + "\n"


def _arena_map(emitter: Emitter) -> list[str]:
    lines = []
    placements = sorted(
        emitter.plan.placements.values(), key=lambda p: (p.interval.first, p.offset)
    )
    for placement in placements:
        tensor = emitter.program.tensor(placement.interval.name)
        first, last = max(placement.interval.first, 0), placement.interval.last
        lines.append(
            f"#define T_{identifier(tensor.name)} (({C_TYPES[tensor.dtype]} *)(void *)"
            f"(ARENA + {placement.offset})) "
            f"/* {tensor.dtype}[{','.join(map(str, tensor.shape))}], steps {first}-{last} */"
        )
    return lines


def _reset(emitter: Emitter) -> list[str]:
    lines = []
    for tensor in emitter.state():
        name = identifier(tensor.name)
        if tensor.kind == "parameter":
            lines.append(f"    memcpy({name}, first_{name}, sizeof {name});")
        else:
            lines.append(f"    memset({name}, 0, sizeof {name});")
    if emitter.scales:
        first = np.asarray([emitter.histories[n] for n in emitter.scales], np.float32)
        table_name = emitter.table(first, "first_history")
        lines += [
            "    memset(scales, 0, sizeof scales);",
            f"    for (uint32_t i = 0; i < {len(emitter.scales)}; i++) {{",
            f"        scales[i].history = {table_name}[i];",
            "    }",
        ]
    return lines


def _descriptor(emitter: Emitter, name: str, accumulation_steps: int, has_apply: bool) -> list[str]:
    program = emitter.program
    state = emitter.state()
    output, label = identifier(program.output), identifier(program.label)
    entries = [
        f'    {{"{t.name}", {identifier(t.name)}, sizeof {identifier(t.name)}, '
        f"{DTYPE_CONSTANTS[t.dtype]}}},"
        for t in state
    ]
    names = [f'    "{call.step.name}",' for call in emitter.lowered.calls]
    source = program.tensor(program.input)
    return [
        f"static const od_parameter_t parameters[{len(state)}] = {{",
        *entries,
        "};",
        "",
        f"static const char *const op_names[{len(names)}] = {{",
        *names,
        "};",
        "",
        "const od_model_t od_model = {",
        "    .abi = OD_MODEL_ABI,",
        "    .id = {@MODEL_ID@},",
        f'    .name = "{name}",',
        f"    .input = {emitter.pointer(program.input)},",
        f"    .input_bytes = {source.size_bytes},",
        f"    .label = {label},",
        f"    .label_bytes = sizeof {label},",
        f"    .output = {output},",
        f"    .output_count = {program.tensor(program.output).elements},",
        "    .arena = ARENA,",
        "    .arena_bytes = ARENA_BYTES,",
        "    .parameters = parameters,",
        f"    .parameter_count = {len(state)},",
        f"    .scales = {'scales' if emitter.scales else '0'},",
        f"    .scale_count = {len(emitter.scales)},",
        "    .op_names = op_names,",
        f"    .op_count = {len(names)},",
        f"    .accumulation_steps = {accumulation_steps},",
        "    .reset = reset,",
        "    .evaluate = evaluate,",
        "    .train = train,",
        f"    .apply = {'apply' if has_apply else '0'},",
        "};",
    ]


def _kernels_h(lowered: Lowered) -> str:
    text = "\n".join(kernel.source for kernel in lowered.kernels)
    return (
        "/* Kernels: generated by TVM from the compiler's TIR. Do not edit. */\n"
        '#include "ondevice/fixed_point.h"\n#include "ondevice/gradient.h"\n'
        f'#include "ondevice/update.h"\n\n{text}'
    )


def _tables_h(emitter: Emitter) -> str:
    parts = ["/* Constants. Do not edit. */\n#include <stdint.h>\n"]
    for tensor in emitter.constants():
        parts.append(table(identifier(tensor.name), _value(emitter, tensor)))
    for tensor in emitter.state():
        if tensor.kind == "parameter":
            parts.append(table(f"first_{identifier(tensor.name)}", _value(emitter, tensor)))
    parts.append(emitter.tables_text())
    return "\n".join(parts)


def _value(emitter: Emitter, tensor: Tensor) -> NDArray[Any]:
    return np.asarray(emitter.program.values[tensor.name]).astype(tensor.dtype)


def _described(emitter: Emitter) -> dict[str, Any]:
    """The part of the manifest that follows from the program and the plan."""
    program, plan = emitter.program, emitter.plan
    source, label = program.tensor(program.input), program.tensor(program.label)
    state = emitter.state()
    parameters = [t for t in state if t.kind == "parameter"]
    scale_bytes = 20 * len(emitter.scales)
    io_bytes = label.size_bytes + program.tensor(program.output).size_bytes
    parameter_bytes = sum(t.size_bytes for t in parameters)
    state_bytes = sum(t.size_bytes for t in state) - parameter_bytes
    constants = emitter.constants()
    tables_bytes = sum(len(key[1]) for key in emitter._tables)
    input_entry: dict[str, Any] = {
        "shape": list(source.shape),
        "dtype": source.dtype,
        "bytes": source.size_bytes,
    }
    if source.quantization is not None:
        input_entry["scale"] = source.quantization.scale[0]
        input_entry["zero_point"] = source.quantization.zero_point
    return {
        "loss": program.loss,
        "input": input_entry,
        "label": {
            "kind": "class" if program.loss == "cross_entropy" else "vector",
            "count": program.tensor(program.output).elements,
            "dtype": label.dtype,
            "bytes": label.size_bytes,
        },
        "output": {"count": program.tensor(program.output).elements},
        "parameters": [
            {
                "index": index,
                "name": t.name,
                "shape": list(t.shape),
                "dtype": t.dtype,
                "bytes": t.size_bytes,
                "format": _format(t),
                "scale": list(t.quantization.scale) if t.quantization else None,
            }
            for index, t in enumerate(state)
        ],
        "ops": [
            {
                "index": index,
                "name": call.step.name,
                "op": call.step.op,
                "phase": call.step.phase,
                "macs": call.macs,
                "kernel": call.kernel,
            }
            for index, call in enumerate(emitter.lowered.calls)
        ],
        "scales": [
            {"index": i, "name": name, "elements": program.tensor(name).elements}
            for i, name in enumerate(emitter.scales)
        ],
        "memory": {
            "arena_bytes": plan.arena_bytes,
            "lower_bound_bytes": plan.lower_bound_bytes,
            "parameter_bytes": parameter_bytes,
            "state_bytes": state_bytes,
            "scale_bytes": scale_bytes,
            "io_bytes": io_bytes,
            "ram_bytes": plan.arena_bytes + parameter_bytes + state_bytes + scale_bytes + io_bytes,
            "const_bytes": sum(t.size_bytes for t in constants) + parameter_bytes + tables_bytes,
            "tensors": [
                {
                    "name": p.interval.name,
                    "offset": p.offset,
                    "bytes": program.tensor(p.interval.name).size_bytes,
                    "first_step": p.interval.first,
                    "last_step": p.interval.last,
                }
                for p in plan.placements.values()
            ],
        },
    }


def _format(tensor: Tensor) -> str:
    if tensor.kind == "state":
        return "accumulator" if tensor.name.endswith(".sum") else "momentum"
    return {"int16": "q8.8", "int32": "int32", "float32": "float32"}[tensor.dtype]
