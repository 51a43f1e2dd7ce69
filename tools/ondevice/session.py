"""One training run from settings to results: what `ondevice train` does."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ondevice.budget import check_budget
from ondevice.checkpoint import check_checkpoint, load_checkpoint
from ondevice.compiled_model import ModelDirectory
from ondevice.config import Config
from ondevice.connection import Connection
from ondevice.data import check_dataset, describe_dataset
from ondevice.environment import write_environment
from ondevice.errors import UserError
from ondevice.evaluation import evaluate, pack_samples
from ondevice.events import Evaluated, Event
from ondevice.link.device import Device
from ondevice.preprocessing import Preprocessing
from ondevice.privacy.accountant import spent
from ondevice.reconnect import Recovery
from ondevice.recorded_run import RecordedRun
from ondevice.report import summarise
from ondevice.run_folder import RunFolder, create_run_folder
from ondevice.sources import Sources, compiled_model, load_sources
from ondevice.target import OpenTarget, board_budget, open_target, target_board
from ondevice.trackers.tracker import check_trackers, open_trackers
from ondevice.train import run_training
from ondevice.training_device import TrainingDevice, check_firmware

if TYPE_CHECKING:
    from ondevice.boards import Board


@dataclass(frozen=True)
class Prepared:
    """Data and a compiled model that fits the board."""

    sources: Sources
    model: ModelDirectory
    board: "Board | None"


@dataclass(frozen=True)
class RunResult:
    """What a run leaves.

    Attributes:
        summary: Figures; see `ondevice.report.summarise`.
        folder: The run folder.
        checkpoint: Trained parameters.
        interrupted: The person stopped it.
    """

    summary: dict[str, Any]
    folder: Path
    checkpoint: Path | None
    interrupted: bool


def prepare(
    config: Config,
    build_root: Path,
    say: Callable[[str], None],
    connect: bool = True,
    preprocessing: Preprocessing | None = None,
) -> Prepared:
    """Loads the data, compiles the model and checks both against each other and the board.

    Args:
        config: All settings.
        build_root: Where compiled models are kept.
        say: Takes lines for the person.
        connect: A real board will be opened, so its port must be given.
        preprocessing: That a checkpoint was trained with; None: as the settings say.

    Raises:
        UserError: Anything of it is wrong; nothing was built or flashed.
    """
    board = target_board(config.device, connect)
    sources = load_sources(config, preprocessing)
    if sources.preprocessing is not None:
        say(describe_dataset(sources.data))
    if not sources.model.is_dir():
        say(f"Compiling {sources.model} ...")
    ram_limit = board.ram_bytes - board.stack_bytes if board and board.run != "host" else None
    flash_limit = board.flash_bytes if board and board.run != "host" else None
    model = compiled_model(
        config, sources, build_root, ram_limit, flash_limit, board.simd if board else "dsp"
    )
    check_dataset(sources.data, model.manifest)
    budget = board_budget(board, model.manifest)
    check_budget(budget, model.manifest, board.name if board is not None else "the board")
    return Prepared(sources, model, board)


class Session:
    """A compiled model on a board that answers; a context manager that closes it.

    Attributes:
        prepared: Data and model.
        connection: The board, and the way to it again where the link fails.
        firmware: As built; None where nothing was built.
    """

    def __init__(self, prepared: Prepared, target: OpenTarget) -> None:
        """Takes over a device that answers.

        Raises:
            WrongFirmwareError: It runs another model; it is closed.
        """
        self.prepared, self.firmware = prepared, target.firmware
        self.connection = Connection(target.device, target.open_again)
        self.can_reopen = target.open_again is not None
        try:
            check_firmware(target.device, self.manifest)
        except BaseException:
            self.close()
            raise

    @property
    def device(self) -> Device:
        """Now in use."""
        return self.connection.device

    @property
    def manifest(self) -> dict[str, Any]:
        """Of the model."""
        return self.prepared.model.manifest

    def close(self) -> None:
        """Lets go of the board; a simulated one ends."""
        self.__exit__(None, None, None)

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.connection.__exit__(kind, error, traceback)


def open_session(config: Config, prepared: Prepared, build_root: Path) -> Session:
    """Starts the simulated board, or opens the port of the real one.

    Raises:
        UserError: It cannot be built, started or opened, or runs another model.
    """
    target = open_target(config.device, prepared.board, prepared.model, build_root, True)
    return Session(prepared, target)


def train_once(
    config: Config,
    prepared: Prepared,
    build_root: Path,
    on_event: Callable[[Event], None],
    should_stop: Callable[[], bool],
    say: Callable[[str], None],
    start_from: Path | None = None,
    resumed: RecordedRun | None = None,
) -> RunResult:
    """Starts the board, trains on it, and writes the run folder.

    Args:
        config: All settings.
        prepared: From `prepare`.
        build_root: Where firmware is built.
        on_event: Display.
        should_stop: Asked between steps.
        say: Takes lines for the person.
        start_from: A checkpoint to begin with, instead of the model's own parameters.
        resumed: A run to go on with, instead of a new one.

    Raises:
        UserError: The board or the link failed; the run folder keeps the last good checkpoint.
    """
    check_trackers(config.output)
    if resumed is not None:
        _check_same(resumed, prepared)
        start_from = resumed.start
    if start_from is not None:
        check_checkpoint(start_from, load_checkpoint(start_from), prepared.model.manifest)

    def begin(device: TrainingDevice) -> None:
        device.reset_model()  # a real board may hold what an earlier run learnt
        if start_from is not None:
            restore(device, start_from, prepared.model)

    say(f"Starting {prepared.board.name if prepared.board else config.device.port} ...")
    with open_session(config, prepared, build_root) as session:
        if resumed is None:
            begin(session.device)
        return train_in(session, config, begin, on_event, should_stop, say, start_from, resumed)


def train_in(
    session: Session,
    config: Config,
    begin: Callable[[TrainingDevice], None],
    on_event: Callable[[Event], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda line: None,
    start_from: Path | None = None,
    resumed: RecordedRun | None = None,
) -> RunResult:
    """Trains on a board that is in the state to start from, and writes the run folder.

    Args:
        session: With its board.
        config: All settings.
        begin: Puts a board that has lost everything into the state to start from.
        on_event: Display.
        should_stop: Asked between steps.
        say: Takes lines for the person.
        start_from: Checkpoint of the state to start from; None: the model's own parameters.
        resumed: A run to go on with, instead of a new one.

    Raises:
        UserError: The board or the link failed; the run folder keeps the last good checkpoint.
    """
    trackers = open_trackers(config.output, say)
    device, manifest = session.device, session.manifest
    reconnect_s = config.device.reconnect_s if session.can_reopen else 0.0
    recovery = Recovery(session.connection.reopen, begin, reconnect_s)
    if not device.info.allow_export and _has_private_state(manifest):
        say(
            f"{device.info.board} keeps optimiser state to itself: checkpoints hold weights "
            "only, and what goes on from one begins with fresh state (else: --allow-export)"
        )
    if resumed is not None:
        folder = RunFolder(resumed.path, manifest, resumed)
    else:
        now = datetime.now()
        folder = create_run_folder(config, manifest, now, start_from)
        write_environment(folder.path, session.prepared.board, now)
    with closing(folder):
        trackers.begin(folder.path, config)

        def record(event: Event) -> None:
            folder.on_event(event)
            trackers.on_event(event)
            on_event(event)

        begun_s = monotonic()
        try:
            outcome = run_training(
                device,
                manifest,
                session.prepared.sources.data,
                config.training,
                record,
                should_stop,
                config.training.evaluate_each_epoch,
                recovery=recovery,
                recorded=resumed.recorded if resumed is not None else None,
            )
        except BaseException:
            if folder.checkpoint is not None:
                say(f"The last good parameters are in {folder.checkpoint}")
            _write_report(folder.path, say)
            trackers.finish(folder.path, "failed")
            raise
        trained_on = len(session.prepared.sources.data.x)
        summary = summarise(
            outcome,
            manifest,
            device.info,
            session.firmware,
            monotonic() - begun_s,
            spent(manifest["optimizer"], trained_on, outcome.counters.updates),
        )
        folder.write_summary(summary)
        _write_report(folder.path, say)
        trackers.finish(folder.path, "interrupted" if outcome.interrupted else "complete")
    return RunResult(summary, folder.path, folder.checkpoint, outcome.interrupted)


def _write_report(folder: Path, say: Callable[[str], None]) -> None:
    """Writes report.html; the run is safe in its folder, so no trouble with a page may end it."""
    from ondevice.html_report.page import write_report

    try:
        write_report(folder)
    except Exception as error:
        say(f"No report was written: {error}; try `ondevice report {folder}`")


def _has_private_state(manifest: dict[str, Any]) -> bool:
    """Whether the model has optimiser state or gradient sums, apart from the count of updates."""
    return any(
        entry.get("kind") == "state" and entry["format"] != "counter"
        for entry in manifest["parameters"]
    )


def _check_same(resumed: RecordedRun, prepared: Prepared) -> None:
    """A run goes on with the model and the data that it was begun with."""
    found, samples = str(prepared.model.manifest["model_id"]), len(prepared.sources.data.x)
    if found != resumed.model_id:
        raise UserError(
            f"{resumed.path}: the run trains model {resumed.model_id}, but its config.toml gives "
            f"{found} now: the model file, the board or the compiler has changed; begin it again"
        )
    if samples != resumed.samples:
        raise UserError(
            f"{resumed.path}: the run was begun on {resumed.samples} samples and its data file "
            f"holds {samples} now; begin it again"
        )


def evaluate_once(
    config: Config,
    prepared: Prepared,
    build_root: Path,
    should_stop: Callable[[], bool],
    checkpoint: Path | None,
) -> Evaluated | None:
    """Measures accuracy on the device: of a checkpoint, or of what the board holds.

    Returns:
        The measurement, or None where it was stopped.

    Raises:
        UserError: The checkpoint is of another model, or the board or the link failed.
    """
    manifest, data = prepared.model.manifest, prepared.sources.data
    if checkpoint is not None:
        check_checkpoint(checkpoint, load_checkpoint(checkpoint), manifest)
    with open_session(config, prepared, build_root) as session:
        if checkpoint is not None:
            restore(session.device, checkpoint, prepared.model)
        samples = pack_samples(manifest, data.x_test, data.y_test)
        return evaluate(session.device, manifest, samples, should_stop=should_stop)


def restore(device: TrainingDevice, path: Path, model: ModelDirectory) -> None:
    """Puts a checkpoint's parameters on the device.

    Raises:
        UserError: It is damaged or of another model, or the link failed.
    """
    checkpoint = load_checkpoint(path)
    check_checkpoint(path, checkpoint, model.manifest)
    device.write_parameters(checkpoint.parameter_bytes(), checkpoint.scales or None)
