"""Disks of USB devices: the ST-LINK's, whose label says which Nucleo it is on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_MEDIA = (Path("media"), Path("run/media"), Path("Volumes"))


@dataclass(frozen=True)
class Disk:
    """A disk of a USB device.

    Attributes:
        label: Of its file system, e.g. NODE_F446RE.
        folder: Where it is mounted; None: it is not.
    """

    label: str
    folder: Path | None


def disk_of_usb_device(device_path: str | None, root: Path = Path("/")) -> Disk | None:
    """The disk that a USB device has beside its serial port; None: it has none, or not on Linux.

    Args:
        device_path: Of the device in sysfs.
        root: Of the file system.
    """
    if device_path is None:
        return None
    for block in (root / device_path.lstrip("/")).glob("*/host*/target*/*/block/*"):
        mounts = _mounts(root)
        folder = next((place for source, place in mounts if source.name == block.name), None)
        label = _udev_label(block, root)
        label = label or (folder.name if folder is not None else None)
        if label is not None:
            return Disk(label, folder)
    return None


def mounted_disk(labels: tuple[str, ...], root: Path = Path("/")) -> Disk | None:
    """A mounted disk with one of the labels, whatever device it is on."""
    for label in labels:
        for media in _MEDIA:
            for path in (*(root / media).glob(label), *(root / media).glob(f"*/{label}")):
                if path.is_dir():
                    return Disk(label, path)
    return None


def _udev_label(block: Path, root: Path) -> str | None:
    """From udev's database: /dev/disk/by-label has only one of several equal boards."""
    try:
        number = (block / "dev").read_text(encoding="ascii").strip()
        lines = (root / "run/udev/data" / f"b{number}").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    found = (line.partition("=")[2] for line in lines if line.startswith("E:ID_FS_LABEL="))
    return next(found, None)


def _mounts(root: Path) -> list[tuple[Path, Path]]:
    """(device, folder) of everything that is mounted."""
    try:
        lines = (root / "proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    pairs = [line.split()[:2] for line in lines if line.startswith("/dev/")]
    # The kernel writes a space as \040.
    return [(Path(source), Path(_unescape(folder))) for source, folder in pairs]


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
