"""The verb `ondevice predict`."""

import json
import math
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ondevice import options as opt
from ondevice.checkpoint import check_checkpoint, load_checkpoint
from ondevice.compiled_model import ModelDirectory, load_model_directory
from ondevice.config import Config, Overrides
from ondevice.errors import UserError
from ondevice.interrupt import EXIT_CODE, StopOnInterrupt
from ondevice.live.background import BackgroundSource
from ondevice.live.open import Wishes, kind_of, open_live
from ondevice.live.picture_size import as_it_is, picture_fit
from ondevice.live.predict_screen import (
    answer_record,
    answer_screen,
    answer_words,
    tally_record,
    tally_words,
)
from ondevice.live.predict_session import Answered, RateGuard, predict_stream
from ondevice.live.predictor import Predictor
from ondevice.live.source import LiveSource, notes_of
from ondevice.live.windows import Windows, channel_order
from ondevice.options import INPUT, with_settings
from ondevice.preprocessing import Preprocessing, from_manifest
from ondevice.run_settings import settings_for
from ondevice.session import prepare, restore
from ondevice.target import open_target, target_board
from ondevice.terminal import text_console
from ondevice.training_device import check_firmware

if TYPE_CHECKING:
    from ondevice.boards import Board


@with_settings(*INPUT, "device", without=["device.reconnect_s", "window.stride"])
def predict(
    overrides: Overrides,
    source: Annotated[
        str,
        typer.Option(help="serial:PORT@BAUD, stdin, camera:0, microphone, board:PORT or file:FILE"),
    ],
    checkpoint: opt.CheckpointOption = None,
    config: opt.ConfigOption = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Samples from one window to the next; a window's length: they do not overlap "
            "(default: as in training)",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End after one prediction.")] = False,
    any_rate: Annotated[
        bool, typer.Option("--any-rate", help="Only warn of a rate that is not the model's.")
    ] = False,
    rate_hz: Annotated[
        float | None, typer.Option(min=0.001, help="The source's rate, if it is not to be measured")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Read a file without waiting.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a screen.")] = False,
    as_json: opt.JsonLinesOption = False,
    build_dir: opt.BuildDirOption = Path("build"),
) -> None:
    """Show live what the model on the device says of a sensor's data.

    A run's checkpoint brings the settings of its run, unless --config says otherwise.
    """
    settings, trained_with = settings_for(checkpoint, config, overrides)
    kind, _ = kind_of(source)
    console = text_console(as_json)
    compiled, on_board, class_names = _prepare(settings, build_dir, trained_with)
    manifest = compiled.manifest
    if checkpoint is not None:
        check_checkpoint(checkpoint, load_checkpoint(checkpoint), manifest)
    with ExitStack() as stack:
        live: LiveSource = open_live(source, Wishes(rate_hz, fast))
        follows = kind.is_live and not fast
        live = stack.enter_context(closing(BackgroundSource(live) if follows else live))
        preprocessing = _preprocessing(manifest, live.channels)
        pictures = kind.medium == "picture"
        wanted = () if pictures else preprocessing.channels  # a grey one is made of three colours
        order, note = channel_order(live.channels, wanted, source)
        if note:
            console.print(f"warning: {note}")
        trained_hz = None if pictures else preprocessing.rate_hz
        warn = console.print if any_rate else None
        guard = RateGuard(trained_hz, live.rate_hz or rate_hz, source, warn)
        target = open_target(settings.device, on_board, compiled, build_dir, True)
        device = stack.enter_context(target.device)
        check_firmware(device, manifest)
        if checkpoint is not None:
            restore(device, checkpoint, compiled)
        names = preprocessing.class_names or class_names
        shape = tuple(manifest["input"]["source_shape"][1:])
        fit = picture_fit(settings.image, shape, preprocessing.layout) if pictures else as_it_is
        predictor = Predictor(device, manifest, preprocessing, names, fit)
        shown = [live.channels[index] for index in order]
        show = _display(stack, as_json, plain, predictor.names, tuple(shown), source)
        stop = stack.enter_context(StopOnInterrupt())
        tally = predict_stream(
            live, order, _windows(preprocessing, stride), predictor, guard, show,
            stop.requested, newest_only=follows, once=once,
        )  # fmt: skip
        notes = notes_of(live)
    for line in (*notes, tally_words(tally)):
        console.print(line)
    if as_json:
        print(json.dumps(tally_record(tally)), flush=True)
    if stop.requested():
        raise typer.Exit(EXIT_CODE)


def _prepare(
    settings: Config, build_dir: Path, trained_with: Preprocessing | None
) -> tuple[ModelDirectory, "Board | None", tuple[str, ...]]:
    """The model, its board, and names of its classes; a compiled model needs no data."""
    file = settings.model.file
    if file is not None and file.is_dir() and settings.data.file is None:
        return load_model_directory(file), target_board(settings.device), ()
    say = text_console(stderr=True).print
    prepared = prepare(settings, build_dir, say, preprocessing=trained_with)
    names = prepared.sources.data.class_names
    count = int(prepared.model.manifest["output"]["count"])
    return prepared.model, prepared.board, names if len(names) <= count else ()


def _preprocessing(manifest: dict[str, Any], channels: tuple[str, ...]) -> Preprocessing:
    """What the model was trained behind; without any, a row of the source may be a sample.

    Raises:
        UserError: It takes more than a row, and nobody said how a stream becomes that.
    """
    table = manifest.get("preprocessing")
    if table is not None:
        return from_manifest(table)
    shape = [int(size) for size in manifest["input"]["source_shape"][1:]]
    if math.prod(shape) != len(channels):
        raise UserError(
            f"the model takes {shape} and its data were given cut already, so nothing says how "
            "samples of a sensor become that; train it on recordings, with [window] in the "
            "configuration: see docs/record.md"
        )
    return Preprocessing(layout="channels_last")


def _windows(preprocessing: Preprocessing, stride: int | None) -> Windows | None:
    length = preprocessing.window_samples
    if length is None:
        if stride is not None:
            raise UserError("--stride: the model was trained without [window], so there is none")
        return None
    return Windows(length, stride or preprocessing.stride_samples or length)


def _display(
    stack: ExitStack,
    as_json: bool,
    plain: bool,
    names: tuple[str, ...],
    channels: tuple[str, ...],
    source: str,
) -> Any:
    """Returns what takes each answer."""
    if as_json:
        return lambda answer: print(json.dumps(answer_record(answer)), flush=True)
    console = text_console(stderr=False)
    if plain or not console.is_terminal:
        return lambda answer: console.print(f"window {answer.window}: {answer_words(answer)}")
    from rich.live import Live

    screen = stack.enter_context(Live(console=console, auto_refresh=False))

    def show(answer: Answered) -> None:
        screen.update(answer_screen(answer, names, channels, source), refresh=True)

    return show
