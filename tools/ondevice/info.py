"""What `ondevice info` says of a compiled model, a run, a checkpoint or a board."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ondevice.budget import biggest_tensors
from ondevice.checkpoint import load_checkpoint
from ondevice.compiled_model import load_model_directory
from ondevice.display import format_bytes
from ondevice.errors import UserError
from ondevice.link.device import Device
from ondevice.link.identity import START_TEXT
from ondevice.link.transport import SerialTransport
from ondevice.report import describe_result


def describe(subject: str) -> list[str]:
    """Describes a directory or file by what it is, else a board by its name.

    Raises:
        UserError: It is none of them.
    """
    path = Path(subject)
    if path.is_dir():
        return [*describe_manifest(load_model_directory(path).manifest), *_run_lines(path)]
    if path.name == "manifest.json" and path.is_file():
        return describe_manifest(load_model_directory(path.parent).manifest)
    if path.suffix == ".npz":
        return describe_checkpoint(path)
    if path.exists() or "/" in subject:
        raise UserError(
            f"{subject}: allowed: a directory with manifest.json (a compiled model or a run), "
            "a checkpoint .npz, or the name of a board"
        )
    return describe_board(subject)


def describe_manifest(manifest: dict[str, Any]) -> list[str]:
    """Describes a compiled model."""
    memory, label = manifest["memory"], manifest["label"]
    target = (
        f"{label['count']} classes" if label["kind"] == "class" else f"{label['count']} targets"
    )
    updated = [entry for entry in manifest["parameters"] if entry.get("kind") != "state"]
    return [
        f"model       {manifest['name']} ({manifest['model_id']})",
        f"training    {manifest['dtype']}, update {manifest['scheme']['name']}, "
        f"{manifest['optimizer']['name']}, {manifest['loss']}",
        f"input       {manifest['input']['source_shape']}, {target}",
        f"operators   {len(manifest['ops'])}, "
        f"{sum(int(op.get('macs', 0)) for op in manifest['ops']):,} multiply-accumulates a step",
        f"updated     {', '.join(map(_updated, updated)) or 'nothing'}",
        f"RAM         {format_bytes(int(memory['ram_bytes']))}, of it arena "
        f"{format_bytes(int(memory['arena_bytes']))} "
        f"(lower bound {format_bytes(int(memory['lower_bound_bytes']))}) and optimiser state "
        f"{format_bytes(int(memory['state_bytes']))}",
        f"constants   {format_bytes(int(memory['const_bytes']))} of flash",
        f"biggest     {biggest_tensors(manifest)}",
    ]


def describe_checkpoint(path: Path) -> list[str]:
    """Describes a checkpoint file."""
    checkpoint = load_checkpoint(path)
    lines = [f"model       {checkpoint.model_id}", f"step        {checkpoint.step}"]
    for name, array in zip(checkpoint.names, checkpoint.arrays, strict=True):
        entry = {"name": name, "part": checkpoint.parts.get(name)}
        lines.append(f"parameter   {_updated(entry)} {array.dtype} {list(array.shape)}")
    return lines


def _updated(entry: dict[str, Any]) -> str:
    """Name of a parameter, and how much of it is trained where not all is."""
    part = entry.get("part")
    if not part:
        return str(entry["name"])
    return f"{entry['name']} ({len(part['channels'])} of {part['of']} channels)"


def describe_board(name: str) -> list[str]:
    """Describes a board as its file does."""
    from ondevice.boards import load_board

    return [f"{key:<16} {value}" for key, value in asdict(load_board(name)).items() if value]


def describe_port(port: str, key: bytes | None = None, baud: int = 115200) -> list[str]:
    """Asks the board behind a serial port.

    Args:
        port: Its name.
        key: Of the board, where it has one.
        baud: Its rate.

    Raises:
        LinkError: The port cannot be opened, or nobody answers.
    """
    with Device(SerialTransport(port, baud), key=key) as device:
        return describe_device(device)


def describe_device(device: Device) -> list[str]:
    """Describes a board that is connected, its model, and why it started."""
    info, identity = device.info, device.identity()
    clock = f"{info.clock_hz / 1e6:g} MHz" if info.clock_hz else "unknown"
    return [
        f"board       {info.board}, clock {clock}",
        f"chip        {identity.unique_id or 'no unique id'}",
        f"started by  {START_TEXT[identity.start_reason]}",
        f"firmware    {identity.image_digest or 'no digest'}",
        f"model       {info.model} ({info.model_id}), ABI {info.abi}",
    ]


def _run_lines(path: Path) -> list[str]:
    try:
        summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
        return [f"run         {describe_result(summary)}"]
    except (OSError, ValueError, KeyError):
        return []  # a compiled model, or a run that did not end
