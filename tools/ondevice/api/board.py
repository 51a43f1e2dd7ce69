"""A board that trains: the device of `Model.connect`."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ondevice.api.inputs import Data, data_file
from ondevice.api.keywords import TrainingKeywords
from ondevice.api.model_checkpoint import ModelCheckpoint
from ondevice.api.progress import progress
from ondevice.api.results import Evaluation, StepResult
from ondevice.api.run import Run
from ondevice.api.samples import packed, shaped
from ondevice.checkpoint import Checkpoint, checkpoint_from_device, save_checkpoint
from ondevice.config import with_overrides
from ondevice.data import DataError, check_dataset
from ondevice.errors import UserError
from ondevice.evaluation import evaluate, pack_samples
from ondevice.events import Event, Telemetry
from ondevice.interrupt import StopOnInterrupt
from ondevice.link.device import PAINT_A, Device
from ondevice.link.flash_checkpoint import FlashCheckpoint, Which
from ondevice.link.messages import DeviceInfo, MemoryUsage
from ondevice.live.predictor import probabilities
from ondevice.noise_key import renew_noise_key
from ondevice.session import Session, train_in
from ondevice.sources import load_sources
from ondevice.telemetry import TelemetryReader
from ondevice.trackers.tracker import check_trackers
from ondevice.training_device import TrainingDevice, counter_unit
from ondevice_compiler.samples import pack_label

if TYPE_CHECKING:
    from ondevice.api.model import Model
    from ondevice.profile.rows import Group, Profile

DEFAULT_LEARNING_RATE = 0.01


class Board:
    """A board with a model on it; a context manager that closes it.

    Samples are given as the model takes them (see `Model.preprocess`), in the user's units and
    axis order, one or several: x [...sample shape] or [n, ...sample shape], with y a label or [n].

    Example:
        >>> with model.connect("host") as board:
        ...     result = board.train_step(x[:4], y[:4], learning_rate=0.1)
        >>> result.losses.shape
        (4,)

    Attributes:
        model: On it.
    """

    def __init__(self, model: Model, session: Session, keep: bool = False) -> None:
        self.model, self._session, self._closed = model, session, False
        self._telemetry = TelemetryReader()
        try:
            if not keep:
                self._device.reset_model()
            self._device.paint(PAINT_A)
            self._telemetry.restart(self._device)
        except BaseException:
            session.close()
            raise

    @property
    def _device(self) -> Device:
        if self._closed:
            raise UserError("this board is closed; model.connect() gives another one")
        return self._session.device

    @property
    def _manifest(self) -> dict[str, Any]:
        return self._session.manifest

    @property
    def info(self) -> DeviceInfo:
        """What the board says of itself and its model."""
        return self._device.info

    def train_step(
        self, x: Any, y: Any, *, learning_rate: float = DEFAULT_LEARNING_RATE
    ) -> StepResult:
        """Trains on one sample or several.

        A model updates its parameters after every sample, or (compiled with `accumulation_steps`)
        by the mean gradient of so many; a batch must then be of whole updates.

        Args:
            x: One sample, or several.
            y: Its label or target, or theirs.
            learning_rate: Of these updates.

        Raises:
            DataError: Samples or labels do not fit the model.
            DeviceError: The loss is no number; nothing was updated by that sample.
            LinkError: The link failed.
        """
        if not 0.0 <= learning_rate < math.inf:
            raise UserError(f"learning_rate is {learning_rate}; allowed: 0 or more, and finite")
        samples = packed(self._manifest, x, y)
        every = int(self._manifest["optimizer"].get("accumulation_steps", 1))
        if len(samples) % every:
            raise DataError(
                f"{len(samples)} samples; the model was compiled with accumulation_steps={every}: "
                f"allowed are multiples of {every}"
            )
        device, results, applied = self._device, [], 0
        renew_noise_key(device, self._manifest)
        for done, (sample, label) in enumerate(samples, start=1):
            device.write_input(sample)
            device.write_label(label)
            results.append(device.train(learning_rate))
            if every > 1 and done % every == 0:
                applied += device.apply(learning_rate)
        losses = np.array([result.loss for result in results])
        counted = bool(counter_unit(self.info))
        return StepResult(
            loss=float(losses.mean()),
            losses=losses,
            predicted=np.array([result.predicted for result in results], np.int64),
            correct=np.array([result.correct for result in results], np.bool_),
            updates=len(samples) // every,
            count=sum(result.count for result in results) + applied if counted else None,
        )

    def sense(self, y: Any = None, *, learning_rate: float = 0.0) -> NDArray[np.float64]:
        """Takes the next window of the board's own sensor, which does not cross the link.

        Args:
            y: What it shows; then the board learns from it, too, after it has answered.
            learning_rate: Of that update.

        Returns:
            [outputs]: probabilities, or the outputs of a regression, before the update.

        Raises:
            UserError: The model was not trained on windows like the sensor's.
            DeviceError: The board has no sensor, or it gave nothing.
            LinkError: The link failed.
        """
        device = self._device
        device.sensor.setup(self._manifest)  # each time: a board that came back has forgotten it
        device.sensor.sense()
        if y is not None:
            device.write_label(pack_label(self._manifest, y))
        if y is None:
            device.evaluate()
        else:
            device.train(learning_rate)
        output = np.frombuffer(device.read_output(), "<f4").astype(np.float64)
        loss = str(self._manifest["loss"])
        return output if loss == "mse" else probabilities(output, loss)

    def evaluate(self, x: Any = None, y: Any = None) -> Evaluation:
        """Measures accuracy and loss; changes no parameter.

        Args:
            x: Samples; None: the held-out ones of the model's data.
            y: Their labels.

        Raises:
            DataError: Samples or labels do not fit the model.
            LinkError: The link failed.
        """
        data = self.model.data
        samples = packed(self._manifest, *((data.x_test, data.y_test) if x is None else (x, y)))
        measured = evaluate(self._device, self._manifest, samples)
        assert measured is not None  # nobody stops it
        confusion = np.array(measured.confusion, np.int64) if measured.confusion else None
        return Evaluation(
            measured.samples, measured.accuracy, measured.loss, confusion, data.class_names
        )

    def predict(self, x: Any) -> NDArray[np.float64]:
        """Runs forward alone.

        Args:
            x: One sample, or several.

        Returns:
            Of one sample [outputs], else [n, outputs]: probabilities, or the outputs of a
            regression.

        Raises:
            DataError: Samples do not fit the model.
            LinkError: The link failed.
        """
        values, single = shaped(self._manifest, x)
        label = self._manifest["label"]
        blank = (
            np.zeros(len(values), np.int64)
            if label["kind"] == "class"
            else np.zeros((len(values), label["count"]), np.float32)
        )
        loss, outputs = str(self._manifest["loss"]), []
        for sample, unused in pack_samples(self._manifest, values, blank):
            self._device.write_input(sample)
            self._device.write_label(unused)
            self._device.evaluate()
            output = np.frombuffer(self._device.read_output(), "<f4").astype(np.float64)
            outputs.append(output if loss == "mse" else probabilities(output, loss))
        return outputs[0] if single else np.stack(outputs)

    def fit(
        self,
        data: Data | None = None,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        learning_rate: float | None = None,
        name: str | None = None,
        output: str | Path | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
        show: bool = True,
        **training: Unpack[TrainingKeywords],
    ) -> Run:
        """Trains as `ondevice train` does, from what the board holds now, into a run folder.

        Ctrl-C (in a notebook: interrupt) stops after the current step and keeps what was learnt.

        Args:
            data: As of `ondevice.compile`; None: the model's.
            epochs: Passes over the data (default: 3).
            steps: Training steps, instead.
            learning_rate: Where the schedule begins (default: 0.01).
            name: The run folder is DATE-NAME.
            output: Folder of run folders (default: runs).
            on_event: Called with each event of `ondevice.events`, in order.
            show: Show progress: in a notebook, or on a terminal.
            **training: Other keys of the section [training], as `seed` or `warmup_steps`.

        Raises:
            UserError: Data or settings are wrong, or the board or link failed; the run folder keeps
                the last good checkpoint.
        """
        model = self.model
        asked = {"epochs": epochs, "steps": steps, "learning_rate": learning_rate, **training}
        overrides: dict[str, dict[str, Any]] = {
            "training": asked,
            "output": {"directory": output, "name": name},
        }
        if data is not None:
            share = model.config.data.test_share
            overrides["data"] = {"file": data_file(data, model.build_dir, share)}
        config, prepared = with_overrides(model.config, overrides, "Board.fit"), model.prepared
        check_trackers(config.output)
        if data is not None:
            sources = load_sources(config, model.preprocessing)
            check_dataset(sources.data, self._manifest)
            prepared = replace(prepared, sources=sources)
        self._session.prepared = prepared
        start = self._read()

        def begin(device: TrainingDevice) -> None:
            device.write_parameters(start.parameter_bytes(), start.scales or None)

        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            save_checkpoint(folder / "start.npz", start)
            displayed = stack.enter_context(progress(show))
            stop = stack.enter_context(StopOnInterrupt())

            def each(event: Event) -> None:
                displayed(event)
                on_event(event)

            result = train_in(
                self._session, config, begin, each, stop.requested, start_from=folder / "start.npz"
            )
        self._telemetry.restart(self._device)
        return Run(result.folder, model)

    def checkpoint(self) -> ModelCheckpoint:
        """Reads parameters and optimiser state.

        Raises:
            LinkError: The link failed.
        """
        return ModelCheckpoint(self._read(), self.model)

    def restore(self, checkpoint: ModelCheckpoint | None = None) -> None:
        """Puts parameters on the board.

        Args:
            checkpoint: Of this model; None: as it was compiled.

        Raises:
            UserError: It is of another model, or the link failed.
        """
        if checkpoint is None:
            self._device.reset_model()
            return
        if checkpoint.content.model_id != self._manifest["model_id"]:
            raise UserError(
                f"the checkpoint is of model {checkpoint.content.model_id}, the board runs "
                f"{self._manifest['model_id']}; compile with the settings of that run"
            )
        self._device.write_parameters(
            checkpoint.content.parameter_bytes(), checkpoint.content.scales or None
        )

    def save(self, loss: float | None = None) -> int:
        """Saves what the board holds in its own flash, and returns the number of it.

        Args:
            loss: That it reaches; the lowest is the "best".

        Raises:
            DeviceError: The board has no flash for it.
        """
        return self._device.save_checkpoint(loss)

    def load(self, which: Which = "newest") -> FlashCheckpoint:
        """Puts a state of its own flash back: "newest", "best", or a number.

        Raises:
            DeviceError: There is none.
        """
        return self._device.load_checkpoint(which)

    def saved(self) -> list[FlashCheckpoint]:
        """Lists what is in its flash, the newest first.

        Raises:
            DeviceError: The board has no flash for it.
        """
        return self._device.checkpoints()

    def memory(self) -> MemoryUsage:
        """Measures how much of arena and stack has been touched since it was connected."""
        return self._device.memory()

    def profile(self, steps: int = 3, group: Group = "op") -> Profile:
        """Trains for some steps, counts each operator, and puts the parameters back.

        Args:
            steps: To average over.
            group: What a row is: "op", "layer" or "phase".

        Raises:
            UserError: The board counts nothing.
        """
        from ondevice.profile.measure import measure
        from ondevice.profile.rows import make_profile

        held = self.checkpoint()
        try:
            measured = measure(
                self._device, self._manifest, self.model.data, self.model.config.training, steps
            )
        finally:
            self.restore(held)
        return make_profile(measured, self._manifest["ops"], group)

    def telemetry(self) -> Telemetry:
        """Reads what board and link say of themselves, since it was connected."""
        usage = self._device.memory()
        return self._telemetry.read(self._device, self._device.counters().trained, usage)

    def close(self) -> None:
        """Lets go of the board; a simulated one ends. May be called twice."""
        if not self._closed:
            self._closed = True
            self._session.close()

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._closed:
            return "<Board, closed>"
        return f"<Board {self.info.board} with model {self._manifest['name']}>"

    def _read(self) -> Checkpoint:
        device = self._device
        counters = device.counters()
        return checkpoint_from_device(
            self._manifest,
            counters.trained,
            device.read_parameters(),
            device.read_scales(),
            counters,
        )
