"""What happens in a training run, as frozen facts; display, files and JSON are made from these."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Moment = Literal["before", "epoch", "after"]


@dataclass(frozen=True)
class Started:
    """The loop begins; nothing has been sent to the device yet.

    Attributes:
        counter: Unit of `StepTrained.count`: "instructions" (simulators), "cycles" (silicon),
            or "" where the device counts neither.
        planned_ram_bytes: All of the model's RAM, as the compiler planned it.
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
class Evaluated:
    """Accuracy over the held-out samples, measured on the device.

    Attributes:
        accuracy: Share of 0 to 1; None for a regression.
        loss: Mean over the samples.
    """

    moment: Moment
    step: int
    samples: int
    correct: int
    accuracy: float | None
    loss: float


@dataclass(frozen=True)
class ParametersRead:
    """A usable state was read from the device: what a checkpoint is made of."""

    step: int
    parameters: Sequence[bytes]
    scales: bytes = b""


@dataclass(frozen=True)
class Ended:
    """The loop is over; `interrupted` by the person, or complete."""

    step: int
    interrupted: bool


Event = Started | StepTrained | Evaluated | ParametersRead | Ended

_NAMES = {Started: "start", StepTrained: "step", Evaluated: "evaluate", Ended: "end"}


def event_record(event: Event) -> dict[str, Any] | None:
    """Returns an event as a JSON-ready dictionary, or None for parameters (they are a file)."""
    if isinstance(event, ParametersRead):
        return None
    return {"event": _NAMES[type(event)], **asdict(event)}
