"""Loss and accuracy over the steps of the run."""

from rich.text import Text

from ondevice.dashboard.plot import Axis, plot
from ondevice.dashboard.state import State
from ondevice.dashboard.surface import Surface

LOSS, ACCURACY, HELD_OUT = "bright_cyan", "bright_green", "bold yellow"
LOGARITHMIC_FROM = 20.0  # ratio of the largest to the smallest loss


def loss_title(state: State) -> str:
    """The loss now."""
    now = "" if state.running_loss is None else f" {state.running_loss:.4g}"
    return f"loss{now}{_held_out(state, loss=True)}"


def accuracy_title(state: State) -> str:
    """The accuracy now."""
    now = "" if state.running_accuracy is None else f" {100 * state.running_accuracy:.1f} %"
    return f"accuracy{now}{_held_out(state, loss=False)}"


def _held_out(state: State, loss: bool) -> str:
    if not state.evaluations:
        return ""
    last = state.evaluations[-1]
    if loss:
        return f" (● held out {last.loss:.4g})"
    return "" if last.accuracy is None else f" (● held out {100 * last.accuracy:.1f} %)"


def loss_panel(state: State, surface: Surface) -> Text:
    """The running mean of the loss; held-out losses as marks."""
    curve = list(zip(state.loss.steps, state.loss.values, strict=True))
    marks = [(float(event.step), event.loss) for event in state.evaluations]
    values = [value for _, value in curve] or [value for _, value in marks] or [0.0, 1.0]
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low >= LOGARITHMIC_FROM
    axis = Axis(low, high, True) if logarithmic else Axis(min(0.0, low), max(high, 1e-6))
    steps = Axis(0.0, float(state.started.total_steps))
    return plot(curve, marks, (steps, axis), surface, (LOSS, HELD_OUT))


def accuracy_panel(state: State, surface: Surface) -> Text:
    """The running mean of right answers; held-out accuracies as marks."""
    curve = list(
        zip(state.accuracy.steps, (100 * value for value in state.accuracy.values), strict=True)
    )
    marks = [
        (float(event.step), 100 * event.accuracy)
        for event in state.evaluations
        if event.accuracy is not None
    ]
    axes = (Axis(0.0, float(state.started.total_steps)), Axis(0.0, 100.0))
    return plot(curve, marks, axes, surface, (ACCURACY, HELD_OUT), "%")
