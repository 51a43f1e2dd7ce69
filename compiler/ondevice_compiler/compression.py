"""What a federated round keeps on the device: buffers beside the trained weights, and their table.

The change of the weights over a round is made small on the device, and what is not sent stays in a
residual (runtime/include/ondevice/round.h). Which codec is a choice at compile time, so that its
buffers are in the RAM plan and the others are not linked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ondevice_compiler.memory import kept_tensors
from ondevice_compiler.program import Program, Tensor

CODECS = ("none", "topk", "ternary", "sign", "int8")
ROUND_PHASE = "round_phase"  # The tensor that says what residual and weights hold.


@dataclass(frozen=True)
class Compression:
    """How the change of a round is sent.

    Attributes:
        codec: "none" (dense, read by the host), "topk", "ternary", "sign" or "int8".
        ratio: Share of all trained elements that top-k sends, above 0 and at most 1.
        proximal: Keep the global weights, too, for the proximal term of FedProx (Li et al., 2020).
    """

    codec: str = "none"
    ratio: float = 0.01
    proximal: bool = False

    @property
    def kept(self) -> bool:
        """Whether the device keeps anything for a round."""
        return self.codec != "none" or self.proximal

    def elements(self, trained: int) -> int:
        """Elements that top-k sends of those that are trained: one at least."""
        return max(1, round(self.ratio * trained))


def with_round_state(program: Program, compression: Compression) -> Program:
    """Adds what a round keeps: of each trained weight a residual and an anchor, as asked for.

    Args:
        program: Ordered, all tensors of their final type.
        compression: What is kept.
    """
    if not compression.kept:
        return program
    tensors = dict(program.tensors)
    for weight in trained_weights(program):
        kinds = ["residual"] if compression.codec != "none" else []
        for kind in [*kinds, "anchor"] if compression.proximal else kinds:
            name = f"{weight.name}.{kind}"
            tensors[name] = replace(weight, name=name, kind="state", trainable=True)
    tensors[ROUND_PHASE] = Tensor(ROUND_PHASE, (1,), "uint32", "state", trainable=True)
    return replace(program, tensors=tensors)


def trained_weights(program: Program) -> list[Tensor]:
    """Trained weights and biases, in the order of the device's parameters."""
    return [tensor for tensor in kept_tensors(program) if tensor.kind == "parameter"]
