"""Cycles from a cost model and from how often each instruction was executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ondevice.errors import UserError
from ondevice.estimate import cortex_m4, cortex_m7
from ondevice.estimate.instructions import Instruction
from ondevice.estimate.kinds import Kind

Count = tuple[int, int]
"""How often an instruction was executed, and how often something else followed than the next."""


@dataclass(frozen=True)
class CostModel:
    """What instructions cost on a CPU whose memory never waits.

    Attributes:
        name: Of the CPU.
        costs: Cycles of each instruction of a basic block, no jump taken.
        taken_cycles: What a jump costs more where it is taken.
        mispredicted_cycles: What a conditional branch costs more where the rarer way is taken.
    """

    name: str
    costs: Callable[[Sequence[Instruction]], list[float]]
    taken_cycles: Callable[[Instruction], float]
    mispredicted_cycles: float = 0.0


MODELS = {
    "cortex-m4": CostModel("Cortex-M4", cortex_m4.costs, cortex_m4.taken_cycles),
    "cortex-m7": CostModel(
        "Cortex-M7", cortex_m7.costs, cortex_m7.taken_cycles, cortex_m7.MISPREDICTED_CYCLES
    ),
}


def cost_model(cpu: str) -> CostModel:
    """The model of a CPU, as gcc's -mcpu names it.

    Raises:
        UserError: There is none.
    """
    if cpu not in MODELS:
        raise UserError(
            f"no cost model for the CPU {cpu!r}; allowed: {', '.join(MODELS)}; leave out --estimate"
        )
    return MODELS[cpu]


@dataclass(frozen=True)
class PricedCode:
    """A firmware's instructions with what a model says of each.

    Attributes:
        model: Whose cycles these are.
        instructions: By address.
        cycles: By address, as by `CostModel.costs`.
    """

    model: CostModel
    instructions: Mapping[int, Instruction]
    cycles: Mapping[int, float]

    def total_cycles(self, counts: Mapping[int, Count]) -> float:
        """Cycles of what was executed: {address: count}."""
        total = 0.0
        for address, (executed, taken) in counts.items():
            instruction = self.instructions[address]
            total += executed * self.cycles[address]
            total += taken * self.model.taken_cycles(instruction)
            if instruction.jumps:
                total += min(taken, executed - taken) * self.model.mispredicted_cycles
        return total

    def mix(self, counts: Mapping[int, Count]) -> dict[Kind, int]:
        """Instructions executed, by kind."""
        kinds: Counter[Kind] = Counter()
        for address, (executed, _) in counts.items():
            kinds[self.instructions[address].kind] += executed
        return dict(kinds)


def price(functions: Iterable[Sequence[Instruction]], model: CostModel) -> PricedCode:
    """Says what each instruction of a firmware costs."""
    listed = [list(function) for function in functions]
    targets = {i.target for function in listed for i in function if not i.calls}
    cycles: dict[int, float] = {}
    for function in listed:
        for block in basic_blocks(function, targets):
            for instruction, cost in zip(block, model.costs(block), strict=True):
                cycles[instruction.address] = cost
    instructions = {i.address: i for function in listed for i in function}
    return PricedCode(model, instructions, cycles)


def basic_blocks(
    function: Sequence[Instruction], targets: set[int | None]
) -> Iterator[list[Instruction]]:
    """Cuts a function behind each jump and before each target of one."""
    block: list[Instruction] = []
    for instruction in function:
        if block and (instruction.address in targets or block[-1].jumps):
            yield block
            block = []
        block.append(instruction)
    if block:
        yield block
