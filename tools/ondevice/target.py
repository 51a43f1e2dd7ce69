"""The board that a configuration means: its budget, its firmware, and the way to it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ondevice.budget import Budget
from ondevice.compiled_model import ModelDirectory
from ondevice.config import DeviceSettings
from ondevice.errors import HandshakeError, UserError
from ondevice.input_settings import DataSettings
from ondevice.key import load_key
from ondevice.link.device import Device
from ondevice.link.transport import ProcessTransport, SerialTransport, Transport

if TYPE_CHECKING:
    from ondevice.boards import Board
    from ondevice.build import Firmware

DEFAULT_BOARD = "qemu_f405"
DEFAULT_BAUD = 115200


@dataclass(frozen=True)
class OpenTarget:
    """A device that answers.

    Attributes:
        device: To be closed by the caller.
        firmware: As built; None where a port is used and nothing was built.
        open_again: Opens the port again (by the USB serial number, if it has another name now), or
            starts the simulated board again; the device must be closed or abandoned. None: cannot.
    """

    device: Device
    firmware: "Firmware | None"
    open_again: Callable[[], Device] | None = None


def target_board(settings: DeviceSettings, connect: bool = True) -> "Board | None":
    """Loads the board's description; None for a port whose board was not named.

    Args:
        settings: Board and port.
        connect: A real board must be there; False where it is only compiled or built for.

    Raises:
        UserError: Unknown board, or the settings contradict each other.
    """
    from ondevice.boards import load_board
    from ondevice.flash_file import keeps_checkpoints_in_file

    if settings.board is None and settings.port is not None:
        if settings.flash:
            raise UserError("--flash needs --board: which firmware goes on the board at the port?")
        return None
    name = settings.board if settings.board is not None else DEFAULT_BOARD
    board = load_board(name)
    if connect and board.run == "serial":
        real_port(settings, board)
    if settings.flash_file is not None and not keeps_checkpoints_in_file(board):
        raise UserError(f"board {name!r} keeps no checkpoints in a file; leave out --flash-file")
    if board.run != "serial" and settings.port is not None:
        raise UserError(
            f"board {name!r} is simulated and has no port; leave out --port or choose another board"
        )
    return board


def real_port(settings: DeviceSettings, board: "Board") -> str:
    """The port of a real board: the one that was named, or that of the only board of its kind.

    Raises:
        UserError: None or several are plugged in.
    """
    from ondevice.ports import find_port

    return settings.port if settings.port is not None else find_port(board).device


def board_budget(board: "Board | None", manifest: dict[str, Any]) -> Budget:
    """Sets a model's needs against a board; no limits where the board is unknown or the host."""
    memory = manifest["memory"]
    limited = board is not None and board.run != "host"
    return Budget(
        model_ram_bytes=int(memory["ram_bytes"]),
        stack_bytes=board.stack_bytes if board is not None and limited else 0,
        board_ram_bytes=board.ram_bytes if board is not None and limited else None,
        model_flash_bytes=int(memory["const_bytes"]),
        board_flash_bytes=board.firmware_bytes if board is not None and limited else None,
    )


def build_for(
    model: ModelDirectory,
    board: "Board",
    build_root: Path,
    settings: DeviceSettings | None = None,
) -> "Firmware":
    """Builds the firmware of a compiled model for a board.

    Args:
        model: Compiled.
        board: Target.
        build_root: Where firmware is built.
        settings: Its key, and what may leave it; None: no key, as usual for the board.

    Raises:
        UserError: It does not compile, or does not fit.
    """
    from ondevice.build import build_firmware

    folder = _firmware_folder(model, board, build_root)
    folder.mkdir(parents=True, exist_ok=True)
    key = load_key(settings.key_file) if settings is not None else None
    allow_export = settings.allow_export if settings is not None else None
    return build_firmware(model.path, board, folder, key, allow_export)


def _firmware_folder(model: ModelDirectory, board: "Board", build_root: Path) -> Path:
    return build_root / "firmware" / f"{board.name}-{str(model.manifest['model_id'])[:24]}"


def open_target(
    settings: DeviceSettings,
    board: "Board | None",
    model: ModelDirectory,
    build_root: Path,
    keeps_checkpoints: bool = False,
) -> OpenTarget:
    """Starts the simulated board with the model's firmware, or opens the port of the real one.

    Args:
        settings: Port, and whether to flash a real board first.
        board: From `target_board`.
        model: Compiled.
        build_root: Where firmware is built.
        keeps_checkpoints: A simulated board gets the flash in which an earlier one of this model
            left its checkpoints; a real board has its own anyway.

    Raises:
        UserError: It cannot be built, flashed, started, opened or greeted.
    """
    firmware, elf = None, None
    connect: Callable[[], Transport]
    key = load_key(settings.key_file)
    if board is None:
        assert settings.port is not None  # target_board gives a board where there is no port
        connect = _serial_port(settings.port, DEFAULT_BAUD)
    elif board.run == "serial":
        from ondevice.build import built_elf, flash

        port = real_port(settings, board)
        if settings.flash:
            firmware = build_for(model, board, build_root, settings)
            flash(firmware, board, port)
        elf = built_elf(_firmware_folder(model, board, build_root), board)
        connect = _serial_port(port, board.uart_baud)
    elif board.run == "renode":
        from ondevice.renode import start_renode

        firmware = build_for(model, board, build_root, settings)
        connect = partial(start_renode, firmware.elf, board)
    else:
        from ondevice.flash_file import default_flash_file, keeps_checkpoints_in_file
        from ondevice.sensor_file import prepare_sensor_file

        firmware = build_for(model, board, build_root, settings)
        flash_file = settings.flash_file
        if flash_file is None and keeps_checkpoints and keeps_checkpoints_in_file(board):
            flash_file = default_flash_file(board, model.manifest, build_root)
        sensor_file = None
        if settings.sensor_file is not None:
            sensor_file = prepare_sensor_file(settings.sensor_file, DataSettings(), build_root)
        connect = partial(start_simulator, firmware, board, flash_file, sensor_file)
    if firmware is not None:
        elf = firmware.elf

    def open_device() -> Device:
        abi = int(model.manifest["abi"])
        return Device(connect(), expected_abi=abi, elf=elf, key=key)

    device = open_device()
    if firmware is not None:
        _check_image(device, firmware)
    return OpenTarget(device, firmware, open_device)


def _check_image(device: Device, firmware: "Firmware") -> None:
    """Refuses a board that does not run what was built for it just now.

    Raises:
        HandshakeError: The digest of its image is another one.
    """
    found, wanted = device.identity().image_digest, firmware.image.digest.hex()
    if found != wanted:
        device.close()
        raise HandshakeError(
            f"the {device.info.board} board runs firmware {found[:16] or 'without a digest'}, not "
            f"the one that was built ({wanted[:16]}): {firmware.elf}; flash it with --flash"
        )


def start_simulator(
    firmware: "Firmware",
    board: "Board",
    flash_file: Path | None = None,
    sensor_file: Path | None = None,
) -> Transport:
    """Starts a host or QEMU board with firmware that was built.

    Args:
        firmware: For this board.
        board: Simulated.
        flash_file: Where it keeps checkpoints; None: it has no flash.
        sensor_file: What its own sensor plays; None: it has none.

    Raises:
        UserError: It cannot be started, or another one uses the flash file.
    """
    from ondevice.build import simulate_command
    from ondevice.flash_file import locked, prepare_flash_file

    if flash_file is None:
        command = simulate_command(firmware, board, None, sensor_file)
        return ProcessTransport(command, name=board.name)
    path = prepare_flash_file(flash_file, board)
    with locked(path) as inherited:
        command = simulate_command(firmware, board, path, sensor_file)
        return ProcessTransport(command, name=board.name, inherited=inherited)


def _serial_port(port: str, baud: int) -> Callable[[], Transport]:
    """What opens the port, and opens it again where the system has given it another name."""
    from ondevice.ports import list_ports, port_at

    known = port_at(port)
    serial_number = known.serial_number if known is not None else ""

    def connect() -> Transport:
        if serial_number and port_at(port) is None:
            for other in list_ports():
                if other.serial_number == serial_number:
                    return SerialTransport(other.device, baud)
        return SerialTransport(port, baud)

    return connect
