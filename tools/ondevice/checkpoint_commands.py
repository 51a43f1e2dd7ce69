"""The verbs `ondevice checkpoint ...`: the checkpoints in a board's own flash."""

import functools
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ondevice import options as opt
from ondevice.config import Overrides
from ondevice.errors import UserError
from ondevice.link.device import Device
from ondevice.link.flash_checkpoint import FlashCheckpoint, Which
from ondevice.options import INPUT, with_parameters, with_settings
from ondevice.session import prepare
from ondevice.settings import load_settings
from ondevice.target import open_target
from ondevice.terminal import text_console
from ondevice.training_device import check_firmware

_WIDTH = 100  # columns where there is no terminal

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Checkpoints in the board's flash, which survive a power loss.",
)
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


@contextmanager
def _open(
    overrides: Overrides,
    config: opt.ConfigOption = None,
    build_dir: opt.BuildDirOption = Path("build"),
) -> Iterator[Device]:
    """A board that runs the model; a simulated one is started with the flash it was left with."""
    settings = load_settings(config, overrides)
    prepared = prepare(settings, build_dir, text_console(stderr=True).print)
    target = open_target(settings.device, prepared.board, prepared.model, build_dir, True)
    with target.device as device:
        check_firmware(device, prepared.model.manifest)
        if not device.info.keeps_checkpoints:
            raise UserError(
                f"board {device.info.board!r} has no flash for checkpoints: its boards/NAME.ini "
                "sets no storage_bank_bytes"
            )
        yield device


def _with_device(verb: Callable[..., None]) -> Callable[..., None]:
    """Gives a verb the options that say which board and model; it receives the open `device`."""

    place = inspect.signature(_open).parameters

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        with _open(**{name: given.pop(name) for name in place}) as device:
            verb(device=device, **given)

    own = [p for p in inspect.signature(verb).parameters.values() if p.name != "device"]
    with_parameters(run, [*own, *place.values()])
    return with_settings(*INPUT, "device", without=("device.flash", "device.reconnect_s"))(run)


@app.command(epilog="Example:\n\n  ondevice checkpoint save --port /dev/ttyACM0 --loss 0.31")
@_with_device
def save(
    device: Device,
    loss: Annotated[
        float | None, typer.Option(help="What the parameters reach; the lowest is the best")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Save what the board holds now."""
    number = device.save_checkpoint(loss)
    _say({"event": "saved", "sequence": number}, f"Saved as checkpoint {number}", as_json)


@app.command(epilog="Example:\n\n  ondevice checkpoint load best --port /dev/ttyACM0")
@_with_device
def load(
    device: Device,
    which: Annotated[str, typer.Argument(help='"newest", "best", or a number of the list')],
    as_json: JsonOption = False,
) -> None:
    """Put a checkpoint into a running board; after a restart it has the newest again.

    See `ondevice checkpoint rollback` for a change that lasts.
    """
    found = device.load_checkpoint(_which(which))
    _say({"event": "loaded", **asdict(found)}, f"Loaded {_described(found)}", as_json)


@app.command(name="list", epilog="Example:\n\n  ondevice checkpoint list --board qemu_f405")
@_with_device
def list_verb(device: Device, as_json: JsonOption = False) -> None:
    """List the checkpoints in the board's flash, the newest first."""
    found = device.checkpoints()
    if as_json:
        print(json.dumps({"event": "checkpoints", "checkpoints": [asdict(c) for c in found]}))
        return
    console = text_console(stderr=False, width=_WIDTH)
    if not found:
        console.print("The board has no checkpoint of this model")
        return
    console.print(_table(found))
    erased_a, erased_b = found[0].erase_counts
    console.print(
        f"Two banks of {found[0].bank_bytes:,} B, erased {erased_a} and {erased_b} times; a "
        f"checkpoint takes {found[0].bytes:,} B"
    )


@app.command(epilog="Example:\n\n  ondevice checkpoint rollback --to 12")
@_with_device
def rollback(
    device: Device,
    to: Annotated[int | None, typer.Option(min=1, help="Its number (default: the best)")] = None,
    as_json: JsonOption = False,
) -> None:
    """Go back to the best checkpoint, or to a numbered one, and make it the newest."""
    found = device.load_checkpoint("best" if to is None else to)
    number = found.sequence if found.newest else device.save_checkpoint(found.loss)
    text = f"Back at {_described(found)}"
    text += ", which is the newest" if found.newest else f", saved again as checkpoint {number}"
    _say({"event": "rolled_back", **asdict(found), "saved_as": number}, text, as_json)


@app.command(epilog="Example:\n\n  ondevice checkpoint erase --board qemu_f405")
@_with_device
def erase(device: Device, as_json: JsonOption = False) -> None:
    """Erase all checkpoints from the board's flash, also those of other models."""
    device.erase_checkpoints()
    _say({"event": "erased"}, "All checkpoints are erased", as_json)


def _which(text: str) -> Which:
    if text == "newest":
        return "newest"
    if text == "best":
        return "best"
    if text.isdecimal() and 0 < int(text) < 2**32 - 1:
        return int(text)
    raise typer.BadParameter(f"{text!r}; allowed: newest, best, or a number of the list")


def _described(found: FlashCheckpoint) -> str:
    loss = "unknown" if found.loss is None else f"{found.loss:.4g}"
    return f"checkpoint {found.sequence}, loss {loss}, {found.trained} steps"


def _table(found: list[FlashCheckpoint]) -> Table:
    table = Table()
    for column in ("checkpoint", "loss", "steps", "updates", "run", "bank"):
        table.add_column(column, justify="right")
    table.add_column("")
    for each in found:
        marks = [mark for mark, on in (("newest", each.newest), ("best", each.best)) if on]
        table.add_row(
            str(each.sequence),
            "" if each.loss is None else f"{each.loss:.4g}",
            f"{each.trained:,}",
            f"{each.update_steps:,}",
            f"{each.run:016x}" if each.run else "",
            "AB"[each.bank],
            ", ".join(marks),
        )
    return table


def _say(record: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(record))
    else:
        text_console(stderr=False).print(text)
