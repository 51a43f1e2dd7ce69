"""What happens in a training run, as frozen facts; display, files and JSON are made from these."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from ondevice.link.messages import Counters

Moment = Literal["before", "epoch", "after"]
Origin = Literal["board", "host", "start"]

LARGEST_CONFUSION = 100  # classes


@dataclass(frozen=True)
class Started:
    """The loop begins; nothing has been sent to the device yet.

    Attributes:
        counter: Unit of `StepTrained.count`: "instructions" (simulators), "cycles" (silicon),
            or "" where the device counts neither.
        run: The run's id, 16 hexadecimal digits; the board keeps it with the position.
        planned_ram_bytes: All of the model's RAM, as the compiler planned it.
        class_names: Of the data; empty where it has none.
        stack_bytes: Reserved by the board; 0: unknown, or without a limit (host).
        session_bytes: RAM of the runtime's session, likewise.
    """

    model_id: str
    model: str
    board: str
    dtype: str
    scheme: str
    samples: int
    test_samples: int
    total_steps: int
    learning_rate: float
    seed: int
    counter: str
    planned_ram_bytes: int
    run: str = ""
    class_names: tuple[str, ...] = ()
    stack_bytes: int = 0
    session_bytes: int = 0


@dataclass(frozen=True)
class StepTrained:
    """One sample was trained on.

    Attributes:
        step: From 1.
        sample: Index into the training set.
        loss: Before this step's update.
        correct: Whether the prediction before the update was right.
        count: Instructions or cycles of the step, or None; see `Started.counter`.
    """

    step: int
    epoch: int
    sample: int
    learning_rate: float
    loss: float
    correct: bool
    count: int | None


@dataclass(frozen=True)
class StepUnseen:
    """One sample was trained on, but its result was lost with the link."""

    step: int
    epoch: int
    sample: int


@dataclass(frozen=True)
class LinkLost:
    """The link failed, or could not be opened again.

    Attributes:
        step: Steps done, as far as the host knows.
        attempt: 1 for the failure itself; then one more with each try.
        wait_s: Until the next try.
        error: One line.
    """

    step: int
    attempt: int
    wait_s: float
    error: str


@dataclass(frozen=True)
class WentOn:
    """The run goes on after a lost link or a new start of the host.

    Attributes:
        step: Steps done of which the weights on the board know.
        previous_step: Steps done, as far as the host knew.
        origin: Whose state it is: the board's own, the host's, which was uploaded, or the run's
            start.
    """

    step: int
    previous_step: int
    origin: Origin


@dataclass(frozen=True)
class RolledBack:
    """Training had diverged; it goes on from an earlier state at a lower learning rate.

    Attributes:
        step: Steps done of that state.
        diverged_step: Where it was seen.
        reason: Why.
        origin: Whose state it is.
        rate_scale: The learning rate is that of the schedule times this from now on.
        rollbacks: How many times so far.
    """

    step: int
    diverged_step: int
    reason: str
    origin: Origin
    rate_scale: float
    rollbacks: int


@dataclass(frozen=True)
class BoardCheckpoint:
    """The board wrote its state to its own flash, or could not.

    Attributes:
        loss: Mean of the last samples, which tells the best checkpoint; None where unknown.
        error: What the board said; empty where it is written.
    """

    step: int
    loss: float | None
    error: str = ""


@dataclass(frozen=True)
class Evaluated:
    """Accuracy over the held-out samples, measured on the device.

    Attributes:
        accuracy: Share of 0 to 1; None for a regression.
        loss: Mean over the samples.
        confusion: [true class][predicted class] samples; None where there are no classes, or more
            than `LARGEST_CONFUSION`.
    """

    moment: Moment
    step: int
    samples: int
    correct: int
    accuracy: float | None
    loss: float
    confusion: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True)
class Telemetry:
    """What device and link say of themselves, now and then between steps and at the end.

    Attributes:
        saturated: Gradient elements clamped since the run began.
        zeros: Gradient elements rounded to 0 since then.
        arena_high_water_bytes: Touched so far; 0 where not measured yet.
        stack_high_water_bytes: Likewise.
        op_counts: Instructions or cycles of each operator, in the manifest's order, summed over
            all steps that this process has seen; empty where the device keeps no profile.
        requests: Answered by this link so far, since it was opened.
        retries: Frames sent again, likewise.
        corrupt_frames: Likewise.
        bytes_out: Likewise.
        bytes_in: Likewise.
        elapsed_s: Since this process began with the run.
    """

    step: int
    saturated: int
    zeros: int
    arena_high_water_bytes: int
    stack_high_water_bytes: int
    op_counts: tuple[int, ...]
    requests: int
    retries: int
    corrupt_frames: int
    bytes_out: int
    bytes_in: int
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class ParametersRead:
    """A usable state was read from the device: what a checkpoint is made of.

    Attributes:
        counters: Position in the run, and sums so far; None where unknown.
    """

    step: int
    parameters: Sequence[bytes]
    scales: bytes = b""
    counters: Counters | None = None


@dataclass(frozen=True)
class Ended:
    """The loop is over; `interrupted` by the person, or complete."""

    step: int
    interrupted: bool


Event = (
    Started
    | StepTrained
    | StepUnseen
    | Evaluated
    | Telemetry
    | LinkLost
    | WentOn
    | RolledBack
    | BoardCheckpoint
    | ParametersRead
    | Ended
)

_NAMES = {
    Started: "start",
    StepTrained: "step",
    StepUnseen: "unseen",
    Evaluated: "evaluate",
    Telemetry: "telemetry",
    LinkLost: "link_lost",
    WentOn: "went_on",
    RolledBack: "rollback",
    BoardCheckpoint: "board_checkpoint",
    Ended: "end",
}


def event_record(event: Event) -> dict[str, Any] | None:
    """Returns an event as a JSON-ready dictionary, or None for parameters (they are a file)."""
    if isinstance(event, ParametersRead):
        return None
    return {"event": _NAMES[type(event)], **asdict(event)}


_KINDS = {name: kind for kind, name in _NAMES.items()}


def event_of_record(record: dict[str, Any]) -> Event:
    """Returns the event that `event_record` made a record of; keys of newer versions are left out.

    Raises:
        ValueError: It is no event, or lacks a key.
    """
    kind = _KINDS.get(record.get("event", ""))
    if kind is None:
        raise ValueError(f"no event of a run: {record.get('event')!r}")
    given = {item.name: record[item.name] for item in fields(kind) if item.name in record}
    for name in ("class_names", "op_counts"):
        if name in given:
            given[name] = tuple(given[name])
    if given.get("confusion") is not None:
        given["confusion"] = tuple(map(tuple, given["confusion"]))
    try:
        event: Event = kind(**given)
    except TypeError as error:
        raise ValueError(f"an event {record['event']!r} lacks a key: {error}") from error
    return event
