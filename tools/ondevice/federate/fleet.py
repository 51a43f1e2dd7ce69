"""A simulated fleet: whose board is of which kind, and what each has in its folder."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ondevice.boards import Board, load_board
from ondevice.compiled_model import ModelDirectory
from ondevice.config import FederateSettings
from ondevice.connection import Connection
from ondevice.data import load_dataset
from ondevice.errors import UserError
from ondevice.evaluation import pack_samples
from ondevice.federate.participant import Participant
from ondevice.federate.splits import ClientData
from ondevice.flash_file import keeps_checkpoints_in_file
from ondevice.link.device import Device
from ondevice.target import build_for, start_simulator
from ondevice_compiler.atomic_file import write_bytes_atomically

if TYPE_CHECKING:
    from ondevice.build import Firmware
    from ondevice.federate.participant import Packed

DEFAULT_BOARD = "host"


@dataclass(frozen=True)
class Member:
    """One client of the fleet.

    Attributes:
        name: Of the client.
        board: Name of its kind.
        folder: Holds data.npz, flash.bin and memory.json.
    """

    name: str
    board: str
    folder: Path


@dataclass(frozen=True)
class Fleet:
    """Members, and the firmware of each kind of board.

    Attributes:
        members: By name.
        model: That all run.
        firmware: By board.
    """

    members: tuple[Member, ...]
    model: ModelDirectory
    firmware: "dict[str, Firmware]"


def boards_of_fleet(settings: FederateSettings, default: str) -> list[str]:
    """The kind of each client's board.

    Raises:
        UserError: `boards` cannot be read, or names a board that is not simulated by a process.
    """
    if settings.boards is None:
        names = [default] * settings.clients
    else:
        names = []
        for part in settings.boards.split(","):
            found = re.fullmatch(r"\s*([\w-]+)(?:\*(\d+))?\s*", part)
            if found is None:
                raise UserError(
                    f"federate.boards = {settings.boards!r}: allowed: NAME*COUNT, several with "
                    "commas, as qemu_f405*4,host*4"
                )
            names += [found[1]] * int(found[2] or 1)
    for name in dict.fromkeys(names):
        if load_board(name).run not in ("host", "qemu"):
            raise UserError(
                f"board {name!r} in a simulated fleet; allowed: host and QEMU boards. Real boards "
                "join a server: `ondevice federate serve` and `join`"
            )
    return names


def build_fleet(
    clients: Sequence[ClientData],
    boards: Sequence[str],
    model: ModelDirectory,
    folder: Path,
    build_root: Path,
    say: Callable[[str], None],
) -> Fleet:
    """Builds each kind of firmware once and writes each client's data.

    Args:
        clients: Their data.
        boards: One a client.
        model: Compiled.
        folder: Of the fleet; a client's own is below it.
        build_root: Where firmware is built.
        say: Takes lines for the person.
    """
    firmware = {}
    for name in sorted(set(boards)):
        say(f"Building firmware for {name} ...")
        firmware[name] = build_for(model, load_board(name), build_root)
    members = []
    for client, board in zip(clients, boards, strict=True):
        place = (folder / client.name).resolve()
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "data.npz").exists():
            content, data = io.BytesIO(), client.data
            np.savez(content, x=data.x, y=data.y, x_test=data.x_test, y_test=data.y_test)
            write_bytes_atomically(place / "data.npz", content.getvalue())
        members.append(Member(client.name, board, place))
    return Fleet(tuple(members), model, firmware)


@contextmanager
def open_member(fleet: Fleet, member: Member) -> Iterator[Participant]:
    """Starts a member's board with the flash that it was left with; ends it afterwards.

    Raises:
        UserError: It cannot be started.
    """
    board = load_board(member.board)
    manifest = fleet.model.manifest
    flash_file = member.folder / "flash.bin" if keeps_checkpoints_in_file(board) else None
    samples, held_out = _packed(member.folder / "data.npz", fleet.model.path)
    with Connection(
        *open_simulated(fleet.firmware[member.board], board, fleet.model, flash_file)
    ) as connection:
        yield Participant(
            member.name, connection, manifest, samples, held_out, member.folder / "memory.json"
        )


def open_simulated(
    firmware: "Firmware", board: Board, model: ModelDirectory, flash_file: Path | None = None
) -> tuple[Device, Callable[[], Device]]:
    """A simulated board with built firmware, and what starts it again."""

    def start() -> Device:
        transport = start_simulator(firmware, board, flash_file)
        return Device(transport, expected_abi=int(model.manifest["abi"]), elf=firmware.elf)

    return start(), start


@lru_cache(maxsize=256)
def _packed(data_file: Path, model: Path) -> "tuple[Packed, Packed]":
    """Training and held-out samples; a client comes again every round."""
    from ondevice.compiled_model import load_model_directory

    manifest, data = load_model_directory(model).manifest, load_dataset(data_file)
    return (
        pack_samples(manifest, data.x, data.y),
        pack_samples(manifest, data.x_test, data.y_test),
    )
