"""What a check found."""

from dataclasses import dataclass
from typing import Literal

from ondevice_compiler.memory import MemoryNeed

# RAM of the runtime and the firmware's drivers beside model and stack: the link's session with its
# frames, chiefly. A test holds it against the linker's figure for the demo.
RUNTIME_RAM_BYTES = 5200


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know.

    Attributes:
        severity: An error ends the training before it begins; a warning does not.
        what: What was found, what is allowed, what to do.
    """

    severity: Literal["error", "warning"]
    what: str


@dataclass(frozen=True)
class Need:
    """What a scheme needs on a board.

    Attributes:
        scheme: Its name.
        memory: RAM of the model's buffers.
        const_bytes: Weights and tables in flash; the code comes on top.
        macs: Multiply-accumulates of one training step.
    """

    scheme: str
    memory: MemoryNeed
    const_bytes: int
    macs: int


@dataclass(frozen=True)
class BoardRoom:
    """What a board has.

    Attributes:
        name: Of the board.
        ram_bytes: All of it; None: no limit (the host).
        flash_bytes: For the firmware; None: no limit.
        stack_bytes: Reserved by the linker.
    """

    name: str
    ram_bytes: int | None
    flash_bytes: int | None
    stack_bytes: int

    def ram_needed(self, need: Need) -> int:
        """Returns model, runtime and stack."""
        return need.memory.ram_bytes + RUNTIME_RAM_BYTES + self.stack_bytes

    def fits(self, need: Need) -> bool:
        """Whether it has the RAM, and the flash for the constants."""
        ram = self.ram_bytes is None or self.ram_needed(need) <= self.ram_bytes
        return ram and (self.flash_bytes is None or need.const_bytes < self.flash_bytes)


@dataclass(frozen=True)
class Report:
    """All that a check found.

    Attributes:
        model: File name.
        data: One line; empty where the data could not be read.
        input_shape: Of a sample, as the model takes it; None where it could not be read.
        outputs: Of the model; likewise.
        need: Of the chosen scheme; None where it could not be planned.
        room: Of the chosen board; None where it is unknown.
        steps: Of training.
        sample_bytes: That go over the link for each step, label included.
        findings: Errors first.
        schemes: Others that would fit, the one that trains most first.
        boards: Others that it would fit.
    """

    model: str
    data: str
    input_shape: tuple[int, ...] | None
    outputs: int | None
    need: Need | None
    room: BoardRoom | None
    steps: int
    sample_bytes: int
    findings: tuple[Finding, ...]
    schemes: tuple[Need, ...] = ()
    boards: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Those that end the training before it begins."""
        return tuple(finding for finding in self.findings if finding.severity == "error")
