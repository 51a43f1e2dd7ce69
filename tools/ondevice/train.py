"""The training loop: one sample a step, on the device. No display, no files: only events.

Everything in it follows from the run's position, which the device keeps. So wherever the link
fails, the loop asks the device that comes back where it is, and goes on from there.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from ondevice.board_checkpoints import BoardCheckpoints
from ondevice.config import TrainingSettings
from ondevice.data import Dataset, check_dataset
from ondevice.errors import DeviceError, LinkError, UserError
from ondevice.evaluation import evaluate, pack_samples
from ondevice.events import (
    Ended,
    Evaluated,
    Event,
    Moment,
    Origin,
    ParametersRead,
    RolledBack,
    Started,
    StepTrained,
    StepUnseen,
    WentOn,
)
from ondevice.link.device import PAINT_A, PAINT_B
from ondevice.link.messages import Counters, Failure, MemoryUsage
from ondevice.noise_key import renew_noise_key
from ondevice.outcome import Recorded, TrainingOutcome
from ondevice.position import Course, new_run_id, poisson_course, run_name, shuffled_course
from ondevice.reconnect import Reconnector, Recovery
from ondevice.rollback import (
    RATE_FACTOR,
    WINDOW_STEPS,
    Diverged,
    DivergenceWatch,
    KeptStates,
    TrainingDivergedError,
    mean_of_known,
    uninformed_loss,
)
from ondevice.schedule import learning_rate_at
from ondevice.step_results import StepResults
from ondevice.telemetry import TelemetryReader, telemetry_interval
from ondevice.training_device import TrainingDevice, check_firmware, counter_unit

OnEvent = Callable[[Event], None]


def run_training(
    device: TrainingDevice,
    manifest: dict[str, Any],
    data: Dataset,
    settings: TrainingSettings,
    on_event: OnEvent = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    evaluate_each_epoch: bool = False,
    recovery: Recovery | None = None,
    recorded: Recorded | None = None,
) -> TrainingOutcome:
    """Evaluates, trains one sample a step, evaluates again; leaves the result on the device.

    Args:
        device: Running the manifest's model, in the state to start from.
        manifest: Of the compiled model.
        data: Training and held-out samples.
        settings: Length, learning rate, seed.
        on_event: Called with each event in order, in this thread. An exception in it ends the run.
        should_stop: Asked between steps; True ends the run after the current step, with the
            parameters read.
        evaluate_each_epoch: Also measures after every epoch but the last.
        recovery: How to go on where the link fails; None: the run ends with the error.
        recorded: A run that goes on: at the device's position if it is in this run, else from the
            host's state, else (with `recovery`) from the start.

    Returns:
        What the run gave, on the device's own figures.

    Raises:
        WrongFirmwareError: The device runs another model.
        DataError: The data does not fit the model.
        TrainingDivergedError: It diverged once more than the settings allow.
        UserError: The link broke or the device failed; the last `ParametersRead` is still good.
    """
    check_firmware(device, manifest)
    check_dataset(data, manifest)
    run_id = recorded.run if recorded is not None else new_run_id()
    course = _course(manifest, len(data.x), settings, run_id)
    if is_private(manifest):  # going back would show what the samples are like
        settings = replace(settings, rollbacks=0)
    run = _Run(
        manifest, data, settings, run_id, course, on_event, should_stop, evaluate_each_epoch,
        recovery,
    )  # fmt: skip
    return run.until_its_end(device, recorded)


def is_private(manifest: dict[str, Any]) -> bool:
    """Returns whether a model is trained by DP-SGD."""
    return manifest["optimizer"].get("dp_clip_norm") is not None


def _course(manifest: dict[str, Any], samples: int, settings: TrainingSettings, run: int) -> Course:
    total = settings.total_steps(samples)
    accumulation = int(manifest["optimizer"].get("accumulation_steps", 1))
    if is_private(manifest):
        updates = -(-total // accumulation)
        return poisson_course(samples, updates, accumulation, settings.seed, run)
    return shuffled_course(samples, total, accumulation, settings.seed)


class _Run:
    """A run on a device that may be exchanged for another one in the middle."""

    def __init__(
        self,
        manifest: dict[str, Any],
        data: Dataset,
        settings: TrainingSettings,
        run: int,
        course: Course,
        on_event: OnEvent,
        should_stop: Callable[[], bool],
        evaluate_each_epoch: bool,
        recovery: Recovery | None,
    ) -> None:
        self._manifest, self._settings, self._on_event = manifest, settings, on_event
        self._should_stop, self._evaluate_each_epoch = should_stop, evaluate_each_epoch
        self._begin_again = recovery.begin if recovery is not None else None
        self._samples, self._test_samples = len(data.x), len(data.x_test)
        self._class_names = data.class_names
        self._training = pack_samples(manifest, data.x, data.y)
        self._testing = pack_samples(manifest, data.x_test, data.y_test)
        self._run, self._course, self._total = run, course, course.steps
        self._accumulates = int(manifest["optimizer"].get("accumulation_steps", 1)) > 1
        self._schedule = settings.schedule(course.updates)
        self._checkpoint_every = settings.checkpoint_every_steps or len(data.x)
        self._states = KeptStates()
        factor = settings.rollback_factor if settings.rollbacks else 0.0
        self._watch = DivergenceWatch(factor, uninformed_loss(manifest))
        self._telemetry, self._telemetry_every = TelemetryReader(), telemetry_interval(self._total)
        self._reconnector = Reconnector(recovery, on_event, should_stop)
        self._memory = MemoryUsage(0, 0)
        self._step, self._updates = 0, 0
        self._results = StepResults.empty(self._total)
        self._before: Evaluated | None = None
        self._rate_scale, self._rollbacks = 1.0, 0

    def until_its_end(self, device: TrainingDevice, recorded: Recorded | None) -> TrainingOutcome:
        self._device = device
        todo: Callable[[], None] = self._begin
        if recorded is not None:
            self._step, self._before = recorded.step, recorded.before
            self._results, self._states.last = recorded.results, recorded.state
            self._rate_scale, self._rollbacks = recorded.rate_scale, recorded.rollbacks
            self._states.start_loss = self._before.loss if self._before is not None else math.inf
            todo = self._go_on
        self._board = BoardCheckpoints(self._run, self._on_event)
        self._on_event(self._started())
        while True:
            try:
                todo()
                todo = self._go_on
                self._train()
                return self._finish()
            except Diverged as trouble:
                todo = self._diverged(trouble)
            except LinkError as error:
                self._device = self._reconnector.reopen(error, self._step)
                check_firmware(self._device, self._manifest)
                if todo == self._begin:
                    todo = self._go_on

    def _begin(self) -> None:
        """The device is in the state to start from."""
        self._before = self._before or self._evaluate("before")
        self._states.start_loss = self._before.loss if self._before is not None else math.inf
        self._device.reset_counters(self._run)
        self._place(Counters(0, 0, 0, 0.0, 0, 0, self._run, 0))

    def _go_on(self) -> None:
        """Finds where the run is: on the board, or here; whichever is further."""
        previous, state = self._step, self._states.last
        counters = self._device.counters()
        origin: Origin = "board"
        if counters.run != self._run or (state is not None and state.step > counters.trained):
            if state is not None:
                counters, origin = self._upload(state), "host"
            elif self._begin_again is not None:
                self._begin_again(self._device)
                self._begin()
                self._on_event(WentOn(0, previous, "start"))
                return
            else:
                raise UserError(
                    f"the {self._device.info.board} board holds nothing of run "
                    f"{run_name(self._run)}, and there is no checkpoint of it here; start again"
                )
        if counters.trained > self._total:
            raise UserError(
                f"the {self._device.info.board} board has trained {counters.trained} samples in "
                f"this run of {self._total} steps; resume it with the settings it was begun with"
            )
        self._place(counters)
        self._on_event(WentOn(counters.trained, previous, origin))
        for step in range(previous + 1, counters.trained + 1):
            self._results.put(step, float("nan"), False, None)
            epoch = (step - 1) // self._samples + 1
            self._on_event(StepUnseen(step, epoch, int(self._course.order[step - 1])))

    def _upload(self, state: ParametersRead) -> Counters:
        counters = state.counters
        if counters is None:
            updates = self._course.updates_due(state.step)
            counters = Counters(state.step, 0, 0, 0.0, 0, 0, self._run, updates)
        self._device.write_parameters(state.parameters, state.scales or None)
        self._device.set_counters(counters)
        return counters

    def _place(self, counters: Counters) -> None:
        """The device is there: goes on from there."""
        rate = self._settings.learning_rate * self._rate_scale
        self._schedule = replace(self._schedule, learning_rate=rate)
        self._device.set_schedule(self._schedule, counters.updates)
        renew_noise_key(self._device, self._manifest)
        self._paint(PAINT_A)
        self._telemetry.restart(self._device)
        if counters.trained < self._step:
            self._results.forget_after(counters.trained)
            self._watch.forget()
        self._step, self._updates = counters.trained, counters.updates
        self._measure_at = (self._step + self._total) // 2

    def _paint(self, pattern: int) -> None:
        self._device.paint(pattern)
        self._pattern = pattern

    def _train(self) -> None:
        while True:
            while self._updates < self._course.updates_due(self._step):
                with self._numeric_failure_is_divergence():
                    self._device.apply()
                self._updates += 1
            if self._step == self._total or self._should_stop():
                return
            if self._step % self._checkpoint_every == 0 and not self._states.has(self._step):
                self._keep_state()
            epoch_ends = self._step > 0 and self._step % self._samples == 0
            if self._evaluate_each_epoch and epoch_ends and self._evaluate_epoch() is None:
                return
            self._train_one()
            if self._step % self._telemetry_every == 0:
                self._on_event(self._telemetry.read(self._device, self._step, self._memory))
            if self._pattern == PAINT_A and self._step >= self._measure_at:
                self._measure_memory()
                self._paint(PAINT_B)  # finds the bytes whose value was PAINT_A itself

    def _train_one(self) -> None:
        chosen = int(self._course.order[self._step])
        sample, label = self._training[chosen]
        rate = learning_rate_at(self._schedule, self._updates)
        self._device.write_input(sample)
        self._device.write_label(label)
        with self._numeric_failure_is_divergence():
            result = self._device.train()
        self._step += 1
        self._updates += not self._accumulates
        count = result.count if counter_unit(self._device.info) else None
        self._results.put(self._step, result.loss, result.correct, count)
        epoch = (self._step - 1) // self._samples + 1
        self._on_event(
            StepTrained(self._step, epoch, chosen, rate, result.loss, result.correct, count)
        )
        if trouble := self._watch.add(result.loss):
            raise Diverged(self._step, trouble)

    def _finish(self) -> TrainingOutcome:
        self._measure_memory()
        counters = self._device.counters()
        self._on_event(self._telemetry.read(self._device, self._step, self._memory))
        state = self._keep_state()
        after = self._evaluate("after") if self._step == self._total else None
        self._on_event(Ended(self._step, after is None))
        return TrainingOutcome(
            before=self._before,
            after=after,
            steps=self._step,
            losses=self._results.losses[: self._step],
            correct=self._results.correct[: self._step],
            counts=self._results.known_counts(),
            parameters=state.parameters,
            counters=counters,
            memory=self._memory,
            interrupted=after is None,
            reconnects=self._reconnector.count,
            rollbacks=self._rollbacks,
        )

    def _evaluate(self, moment: Moment) -> Evaluated | None:
        def measure() -> Evaluated | None:
            return evaluate(
                self._device, self._manifest, self._testing, moment, self._step, self._should_stop
            )

        if moment == "before":
            measured = measure()
        else:
            with self._numeric_failure_is_divergence():
                measured = measure()
        if measured is not None:
            self._on_event(measured)
        return measured

    def _evaluate_epoch(self) -> Evaluated | None:
        self._telemetry.add(self._device)
        measured = self._evaluate("epoch")
        self._telemetry.restart(self._device)  # what the forward passes took is of no step
        return measured

    def _keep_state(self) -> ParametersRead:
        """Reads the state of the device, which also saves it where it can."""
        parameters, scales = tuple(self._device.read_parameters()), self._device.read_scales()
        state = ParametersRead(self._step, parameters, scales, self._device.counters())
        recent = self._results.losses[max(0, self._step - WINDOW_STEPS) : self._step]
        mean_loss = mean_of_known(recent)
        self._board.save(self._device, self._step, mean_loss)
        self._states.keep(state, mean_loss)
        self._on_event(state)
        return state

    def _measure_memory(self) -> None:
        self._memory = _larger(self._memory, self._device.memory())

    @contextmanager
    def _numeric_failure_is_divergence(self) -> Iterator[None]:
        try:
            yield
        except DeviceError as error:
            if error.code != Failure.NUMERIC or self._settings.rollbacks == 0:
                raise
            raise Diverged(self._step + 1, "the loss is not a finite number") from error

    def _diverged(self, trouble: Diverged) -> Callable[[], None]:
        """Returns what to do about it.

        Raises:
            TrainingDivergedError: There is nothing more to do.
        """
        self._states.diverged_at(trouble.step)
        if self._rollbacks >= self._settings.rollbacks:
            if good := self._states.best or self._states.returned:
                self._on_event(good)  # what is left behind should be usable
            rate = self._settings.learning_rate * self._rate_scale
            raise TrainingDivergedError(
                f"training diverged at step {trouble.step}, after {self._rollbacks} rollbacks and "
                f"at a learning rate of {rate:g}: {trouble.reason}; lower --lr, or look for bad "
                "values in the data"
            )
        self._rollbacks += 1
        self._rate_scale *= RATE_FACTOR
        return partial(self._roll_back, trouble)

    def _roll_back(self, trouble: Diverged) -> None:
        """Goes back to the best state, at the learning rate that `_diverged` has lowered."""
        origin: Origin = "board"
        counters = self._board.load_best(self._device, self._states.trusts)
        if counters is None and self._states.best is not None:
            counters, origin = self._upload(self._states.best), "host"
        if counters is not None:
            self._place(counters)
        elif self._begin_again is not None:
            origin = "start"
            self._begin_again(self._device)
            self._begin()
        else:
            raise UserError(
                f"training diverged at step {trouble.step} ({trouble.reason}), before a first "
                "checkpoint; lower --lr, or look for bad values in the data"
            )
        self._on_event(
            RolledBack(
                self._step, trouble.step, trouble.reason, origin, self._rate_scale, self._rollbacks
            )
        )
        self._states.returned = self._keep_state()  # so that nobody goes on from a newer one

    def _started(self) -> Started:
        manifest, settings = self._manifest, self._settings
        return Started(
            model_id=str(manifest["model_id"]),
            model=str(manifest["name"]),
            board=self._device.info.board,
            dtype=str(manifest["dtype"]),
            scheme=str(manifest["scheme"]["name"]),
            samples=self._samples,
            test_samples=self._test_samples,
            total_steps=self._total,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            counter=counter_unit(self._device.info),
            planned_ram_bytes=int(manifest["memory"]["ram_bytes"]),
            run=run_name(self._run),
            class_names=self._class_names,
            stack_bytes=self._device.info.stack_bytes,
            session_bytes=self._device.info.session_bytes,
        )


def _larger(first: MemoryUsage, second: MemoryUsage) -> MemoryUsage:
    return MemoryUsage(
        max(first.arena_high_water_bytes, second.arena_high_water_bytes),
        max(first.stack_high_water_bytes, second.stack_high_water_bytes),
    )
