"""What the dashboard shows at one moment: a frozen state, made by `Reducer`."""

from dataclasses import dataclass, field
from typing import Any, Literal

from ondevice.events import Ended, Evaluated, RolledBack, Started, Telemetry
from ondevice.profile.rows import Profile

LinkWord = Literal["", "clean", "noisy", "lost"]


@dataclass(frozen=True)
class Facts:
    """What is known of model and board before the run begins.

    Attributes:
        ops: Of the manifest.
        memory: Likewise, with `tensors`: who lies where in the arena, from which step to which.
        gradient_elements: Stored with a scale in each training step; 0: none (float32).
        board_ram_bytes: Of the whole chip; 0: no limit, or not known.
        clock_hz: Of the board's CPU; 0: unknown.
    """

    ops: tuple[dict[str, Any], ...]
    memory: dict[str, Any]
    gradient_elements: int
    board_ram_bytes: int = 0
    clock_hz: int = 0


@dataclass(frozen=True)
class Curve:
    """Running means over the steps of a run.

    Attributes:
        steps: Rising, from 1; at most `LONGEST_CURVE` of them.
        values: One a step.
    """

    steps: tuple[float, ...] = ()
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Link:
    """What the link is like.

    Attributes:
        word: "lost" now; "noisy": frames were sent again or spoilt in the last readings; "clean":
            neither; "": not known yet.
        requests_per_s, bytes_per_s: Between the last two readings; None: not known yet.
        requests, retries, corrupt_frames: Of all links of this process.
        reconnects: Links that were opened again.
        trouble_s: When the last trouble was seen, in the time of `State.elapsed_s`; None: never.
        error: Why the link is lost.
    """

    word: LinkWord = ""
    requests_per_s: float | None = None
    bytes_per_s: float | None = None
    requests: int = 0
    retries: int = 0
    corrupt_frames: int = 0
    reconnects: int = 0
    trouble_s: float | None = None
    error: str = ""


@dataclass(frozen=True)
class State:
    """One moment of a run.

    Attributes:
        facts: Of model and board.
        started: Of the run.
        elapsed_s: Since this process began with the run.
        step: Steps done.
        epoch: From 1; 0 before the first step.
        learning_rate: Of the last step.
        running_loss, running_accuracy: Means of the last samples; None before the first.
        samples_per_s: Mean of this process; None: not known yet.
        count_per_step: Mean of instructions or cycles, see `Started.counter`; None: not counted.
        loss: Running mean over the steps.
        accuracy: Likewise, 0 to 1.
        evaluations: On held-out samples, in order.
        profile: Of the operators, by operator; None: the device keeps none, or none was read yet.
        phases: The same by phase.
        telemetry: The last.
        link: Its quality.
        rollbacks: In order.
        messages: What happened besides, one line each, newest last.
        ended: The loop is over.
    """

    facts: Facts
    started: Started
    elapsed_s: float = 0.0
    step: int = 0
    epoch: int = 0
    learning_rate: float | None = None
    running_loss: float | None = None
    running_accuracy: float | None = None
    samples_per_s: float | None = None
    count_per_step: float | None = None
    loss: Curve = field(default_factory=Curve)
    accuracy: Curve = field(default_factory=Curve)
    evaluations: tuple[Evaluated, ...] = ()
    profile: Profile | None = None
    phases: Profile | None = None
    telemetry: Telemetry | None = None
    link: Link = field(default_factory=Link)
    rollbacks: tuple[RolledBack, ...] = ()
    messages: tuple[str, ...] = ()
    ended: Ended | None = None

    @property
    def remaining_s(self) -> float | None:
        """Until the last step, at the rate so far; None: not known."""
        if not self.samples_per_s:
            return None
        return (self.started.total_steps - self.step) / self.samples_per_s

    @property
    def has_classes(self) -> bool:
        """Whether there is an accuracy: not for a regression."""
        return all(event.accuracy is not None for event in self.evaluations)


def facts_of(manifest: dict[str, Any], board_ram_bytes: int = 0, clock_hz: int = 0) -> Facts:
    """Takes from a manifest what the dashboard shows."""
    return Facts(
        ops=tuple(manifest["ops"]),
        memory=manifest["memory"],
        gradient_elements=sum(int(scale.get("elements", 0)) for scale in manifest["scales"]),
        board_ram_bytes=board_ram_bytes,
        clock_hz=clock_hz,
    )
