"""What of an event is a number over steps: the same names in every tracker."""

from __future__ import annotations

from dataclasses import dataclass

from ondevice.events import Evaluated, Event, Started, StepTrained, Telemetry


@dataclass(frozen=True)
class Scalar:
    """A number at a step."""

    name: str
    value: float
    step: int


class Scalars:
    """Takes events in order, the start first, and says what is to be recorded of them."""

    def __init__(self) -> None:
        self._counter = ""

    def of(self, event: Event) -> list[Scalar]:
        """Returns the numbers of an event; most have none."""
        if isinstance(event, Started):
            self._counter = event.counter
        elif isinstance(event, StepTrained):
            values = {
                "training/loss": event.loss,
                "training/correct": float(event.correct),
                "training/learning_rate": event.learning_rate,
            }
            if event.count is not None and self._counter:
                values[f"device/{self._counter}"] = float(event.count)
            return _at(event.step, values)
        elif isinstance(event, Evaluated):
            values = {"held_out/loss": event.loss}
            if event.accuracy is not None:
                values["held_out/accuracy"] = event.accuracy
            return _at(event.step, values)
        elif isinstance(event, Telemetry):
            values = {
                "gradients/saturated": float(event.saturated),
                "gradients/zeros": float(event.zeros),
                "memory/arena_high_water_bytes": float(event.arena_high_water_bytes),
                "memory/stack_high_water_bytes": float(event.stack_high_water_bytes),
                "link/retries": float(event.retries),
                "link/corrupt_frames": float(event.corrupt_frames),
            }
            return _at(event.step, values)
        return []


def _at(step: int, values: dict[str, float]) -> list[Scalar]:
    return [Scalar(name, value, step) for name, value in values.items()]
