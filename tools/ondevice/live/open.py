"""Which live source a word on the command line means: one line a kind."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Literal

from ondevice.errors import UserError
from ondevice.live.source import LiveSource

Medium = Literal["series", "sound", "picture"]


@dataclass(frozen=True)
class Wishes:
    """What may be asked of a source beside its name.

    Attributes:
        rate_hz: Of sound: to be opened with; of a file: to be played at; of others it is what the
            caller says of them.
        fast: A file is read without waiting.
    """

    rate_hz: float | None = None
    fast: bool = False


@dataclass(frozen=True)
class Kind:
    """A kind of source.

    Attributes:
        form: As it is written.
        what: In words.
        medium: What it gives.
        open: Opens it, given what stands behind the colon.
        is_live: It goes on whether anybody reads or not.
    """

    form: str
    what: str
    medium: Medium
    open: Callable[[str, Wishes], LiveSource]
    is_live: bool = True


def open_live(spec: str, wishes: Wishes | None = None) -> LiveSource:
    """Opens a live source.

    Args:
        spec: E.g. "serial:/dev/ttyUSB0@115200"; see `KINDS`.
        wishes: What else is asked of it.

    Raises:
        UserError: Unknown kind, or it cannot be opened.
    """
    kind, place = kind_of(spec)
    return kind.open(place, wishes or Wishes())


def kind_of(spec: str) -> tuple[Kind, str]:
    """Returns the kind that a word means, and what stands behind its colon.

    Raises:
        UserError: There is no such kind; the message lists those that are there.
    """
    name, _, place = spec.partition(":")
    if spec == "-":
        name = "stdin"
    if name in KINDS and (place or ":" not in KINDS[name].form):
        kind = KINDS[name]
        sound = name == "file" and place.lower().endswith(".wav")
        return (replace(kind, medium="sound") if sound else kind), place
    forms = ", ".join(f"{kind.form} ({kind.what})" for kind in KINDS.values())
    hint = ""
    if name not in KINDS and spec.startswith(("/dev/tty", "COM")):
        hint = f"; did you mean serial:{spec}?"
    elif name not in KINDS and Path(spec).is_file():
        hint = f"; did you mean file:{spec}?"
    raise UserError(f"source {spec!r}: allowed: {forms}{hint}")


def _serial(place: str, wishes: Wishes) -> LiveSource:
    from ondevice.live.serial_csv import open_serial

    return open_serial(place)


def _stdin(place: str, wishes: Wishes) -> LiveSource:
    from ondevice.live.stdin_csv import open_stdin

    return open_stdin()


def _camera(place: str, wishes: Wishes) -> LiveSource:
    from ondevice.live.camera import open_camera

    return open_camera(place)


def _file(place: str, wishes: Wishes) -> LiveSource:
    from ondevice.live.replay import open_replay

    return open_replay(Path(place).expanduser(), wishes.fast, wishes.rate_hz)


def _of_module(module: str, function: str) -> Callable[[str, Wishes], LiveSource]:
    """Opens by FUNCTION(place, rate_hz) of a module, which is imported only then."""

    def open_it(place: str, wishes: Wishes) -> LiveSource:
        try:
            opener = getattr(import_module(module), function)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise UserError(f"{module} is not part of this version") from None
        opened: LiveSource = opener(place, wishes.rate_hz)
        return opened

    return open_it


KINDS = {
    "serial": Kind("serial:PORT[@BAUD]", "lines of numbers, 115200 baud", "series", _serial),
    "stdin": Kind("stdin", "or -: lines of numbers from a pipe", "series", _stdin),
    "camera": Kind("camera:NUMBER|FILE", "pictures", "picture", _camera),
    "microphone": Kind(
        "microphone[:DEVICE]",
        "sound",
        "sound",
        _of_module("ondevice.live.microphone", "open_microphone"),
    ),
    "board": Kind(
        "board:PORT",
        "the sensor of a second board",
        "series",
        _of_module("ondevice.live.board_sensor", "open_board_sensor"),
    ),
    "file": Kind("file:FILE", ".csv or .wav, played again", "series", _file, is_live=False),
}
