"""Events of a run become the state that the dashboard shows."""

from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ondevice.dashboard.state import Curve, Facts, Link, State
from ondevice.display import sentence
from ondevice.events import (
    Ended,
    Evaluated,
    Event,
    LinkLost,
    RolledBack,
    Started,
    StepTrained,
    StepUnseen,
    Telemetry,
    WentOn,
)
from ondevice.profile.measure import Measurement
from ondevice.profile.rows import Group, Profile, make_profile
from ondevice.step_results import StepResults

LONGEST_CURVE = 400  # points: more than any terminal has
RUNNING_WINDOW = 50  # samples in a running mean, at most
NOISY_READINGS = 10  # of telemetry, in which one frame sent again makes the link "noisy"
MESSAGES = 200


class Reducer:
    """Takes events as they come, cheaply; makes the state when it is asked for.

    A run that was recorded and goes on is taken from its beginning: a second `Started` keeps what
    was learnt of the run, and begins anew what belongs to the process.

    Args:
        facts: Of model and board.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._started: Started | None = None
        self._results = StepResults.empty(0)
        self._step = self._epoch = 0
        self._learning_rate: float | None = None
        self._evaluations: list[Evaluated] = []
        self._rollbacks: list[RolledBack] = []
        self._messages: deque[str] = deque(maxlen=MESSAGES)
        self._ended: Ended | None = None
        self._begin_process()

    def _begin_process(self) -> None:
        self._elapsed_s = 0.0
        self._seen = self._counted = self._count_sum = 0
        self._rate_from: tuple[float, int] | None = None  # time and samples seen by then
        self._rate_to: tuple[float, int] | None = None
        self._telemetry: Telemetry | None = None
        self._profiled = (0, 0)  # steps seen and their counts, when telemetry was read
        self._link = Link()
        self._read: tuple[float, Telemetry] | None = None
        self._quiet = NOISY_READINGS  # readings since the last trouble

    def take(self, event: Event, elapsed_s: float | None) -> None:
        """Takes one event.

        Args:
            event: The next of the run.
            elapsed_s: Since this process began with the run; None: not known (a recorded step).
        """
        if elapsed_s is not None:
            self._elapsed_s = elapsed_s
        if isinstance(event, StepTrained):
            self._take_step(event, elapsed_s)
            return
        if isinstance(event, Started):
            self._begin_process()
            self._started, self._ended = event, None
            if len(self._results.losses) != event.total_steps:
                self._results = StepResults.empty(event.total_steps)
        elif isinstance(event, Telemetry):
            self._take_telemetry(event)
        elif isinstance(event, Evaluated):
            self._evaluations.append(event)
        elif isinstance(event, StepUnseen):
            self._step, self._epoch = event.step, event.epoch
        elif isinstance(event, WentOn | RolledBack):
            self._go_back(event)
        elif isinstance(event, LinkLost):
            self._link = replace(
                self._link, word="lost", error=event.error, trouble_s=self._elapsed_s
            )
        elif isinstance(event, Ended):
            self._ended = event
        self._mark_time(elapsed_s)
        line = sentence(event)
        if line and not isinstance(event, Started):
            self._messages.append(line)

    def say(self, line: str) -> None:
        """Adds a message that is no event."""
        self._messages.append(line)

    def at(self, elapsed_s: float) -> None:
        """Time goes on without an event."""
        self._elapsed_s = max(self._elapsed_s, elapsed_s)

    def state(self) -> State | None:
        """Returns what there is to show; None before the run begins."""
        if self._started is None:
            return None
        steps, losses, correct = self._known()
        window = max(1, min(RUNNING_WINDOW, len(losses) // 8))
        recent = slice(max(0, len(losses) - RUNNING_WINDOW), None)
        return State(
            facts=self._facts,
            started=self._started,
            elapsed_s=self._elapsed_s,
            step=self._step,
            epoch=self._epoch,
            learning_rate=self._learning_rate,
            running_loss=float(losses[recent].mean()) if len(losses) else None,
            running_accuracy=float(correct[recent].mean()) if len(losses) else None,
            samples_per_s=self._rate(),
            count_per_step=self._count_sum / self._counted if self._counted else None,
            loss=_curve(steps, losses, window),
            accuracy=_curve(steps, correct, window),
            evaluations=tuple(self._evaluations),
            profile=self._profile("op"),
            phases=self._profile("phase"),
            telemetry=self._telemetry,
            link=self._link,
            rollbacks=tuple(self._rollbacks),
            messages=tuple(self._messages),
            ended=self._ended,
        )

    def _take_step(self, event: StepTrained, elapsed_s: float | None) -> None:
        self._step, self._epoch = event.step, event.epoch
        self._learning_rate = event.learning_rate
        self._results.put(event.step, event.loss, event.correct, event.count)
        self._seen += 1
        if event.count is not None:
            self._counted += 1
            self._count_sum += event.count
        self._mark_time(elapsed_s)

    def _mark_time(self, elapsed_s: float | None) -> None:
        if elapsed_s is None or self._seen == 0 or self._ended is not None:
            return
        mark = (elapsed_s, self._seen)
        self._rate_from = self._rate_from or mark
        if self._rate_to is None or self._rate_to[1] != self._seen:
            self._rate_to = mark

    def _rate(self) -> float | None:
        if self._rate_from is None or self._rate_to is None:
            return None
        passed_s = self._rate_to[0] - self._rate_from[0]
        return (self._rate_to[1] - self._rate_from[1]) / passed_s if passed_s > 0 else None

    def _go_back(self, event: WentOn | RolledBack) -> None:
        """The run is at that step now, which may be one before the last."""
        self._step = event.step
        self._results.forget_after(event.step)
        if isinstance(event, RolledBack):
            self._rollbacks.append(event)
        elif self._link.word == "lost":
            self._link = replace(
                self._link, word="noisy", error="", reconnects=self._link.reconnects + 1
            )
            self._quiet = 0

    def _take_telemetry(self, event: Telemetry) -> None:
        """Reads the link's sums, which begin again at 0 with each link."""
        link, before = self._link, self._read
        self._telemetry, self._profiled = event, (self._seen, self._count_sum)
        self._read = (self._elapsed_s, event)
        reopened = before is None or event.requests < before[1].requests
        last = before[1] if before is not None and not reopened else None
        requests = event.requests - (last.requests if last else 0)
        retries = event.retries - (last.retries if last else 0)
        corrupt = event.corrupt_frames - (last.corrupt_frames if last else 0)
        # The first reading of a link includes the greeting, which is sent until the board is up.
        trouble = last is not None and retries + corrupt > 0
        self._quiet = 0 if trouble else self._quiet + 1
        link = replace(
            link,
            word="noisy" if self._quiet < NOISY_READINGS else "clean",
            requests=link.requests + requests,
            retries=link.retries + retries,
            corrupt_frames=link.corrupt_frames + corrupt,
            trouble_s=self._elapsed_s if trouble else link.trouble_s,
        )
        passed_s = self._elapsed_s - before[0] if before is not None else 0.0
        if last is not None and passed_s > 0:
            moved = event.bytes_out + event.bytes_in - last.bytes_out - last.bytes_in
            link = replace(link, requests_per_s=requests / passed_s, bytes_per_s=moved / passed_s)
        self._link = link

    def _profile(self, group: Group) -> Profile | None:
        counts = self._telemetry.op_counts if self._telemetry is not None else ()
        steps, total = self._profiled
        if self._started is None or not steps or len(counts) != len(self._facts.ops):
            return None
        measured = Measurement(
            board=self._started.board,
            unit=self._started.counter,
            resolution=1,
            clock_hz=self._facts.clock_hz,
            steps=steps,
            total=max(total, sum(counts)),  # updates of accumulated gradients are apart
            op_totals=counts,
        )
        return make_profile(measured, self._facts.ops, group)

    def _known(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Steps whose result came, from 1, with loss and whether it was right."""
        losses = self._results.losses[: self._step]
        (known,) = np.nonzero(~np.isnan(losses))
        return known + 1, losses[known], self._results.correct[known].astype(np.float64)


def _curve(steps: NDArray[np.int64], values: NDArray[np.float64], window: int) -> Curve:
    """The mean of each value and those before it, at most `window`, thinned out evenly."""
    if len(values) == 0:
        return Curve()
    sums = np.concatenate(([0.0], np.cumsum(values)))
    ends = np.unique(np.linspace(1, len(values), min(len(values), LONGEST_CURVE)).astype(int))
    begins = np.maximum(ends - window, 0)
    means = (sums[ends] - sums[begins]) / (ends - begins)
    return Curve(tuple(steps[ends - 1].astype(float)), tuple(means))
