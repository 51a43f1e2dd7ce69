"""Folders of labelled files: DIR/LABEL/FILE, or DIR/train/LABEL/FILE and DIR/test/LABEL/FILE."""

import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ondevice.data import DataError

FACTS_FILE = "dataset.toml"
_PARTS = {"train": False, "test": True}


@dataclass(frozen=True)
class LabelledFile:
    """A file whose folder says what it shows.

    Attributes:
        path: The file.
        label: Name of its class.
        held_out: Whether it lies in test (True) or train (False); None where there are no parts.
    """

    path: Path
    label: str
    held_out: bool | None


@dataclass(frozen=True)
class FolderFacts:
    """What dataset.toml says.

    Attributes:
        rate_hz: Samples a second, as measured when it was recorded.
        channels: Names of the channels, in order.
    """

    rate_hz: float | None = None
    channels: tuple[str, ...] = ()


def labelled_files(folder: Path, suffixes: Collection[str]) -> list[LabelledFile]:
    """Lists the files of a folder with one of the suffixes, sorted.

    Raises:
        DataError: There is none, or only one of train and test.
    """
    parts = {name for name in _PARTS if (folder / name).is_dir()}
    if parts == {"test"}:
        raise DataError(f"{folder}: there is a folder test but none called train beside it")
    if parts == {"train", "test"}:
        found = [
            item
            for name, held_out in _PARTS.items()
            for item in _files_by_label(folder / name, suffixes, held_out)
        ]
    else:
        found = _files_by_label(folder, suffixes, None)
    if not found:
        raise DataError(
            f"{folder}: no {', '.join(sorted(suffixes))} file in a folder of its class; "
            "needed: DIR/LABEL/FILE, or DIR/train/LABEL/FILE and DIR/test/LABEL/FILE"
        )
    return found


def _files_by_label(
    folder: Path, suffixes: Collection[str], held_out: bool | None
) -> list[LabelledFile]:
    return [
        LabelledFile(path, label.name, held_out)
        for label in sorted(folder.iterdir())
        if label.is_dir() and not label.name.startswith(".")
        for path in sorted(label.rglob("*"))
        if path.suffix.lower() in suffixes and path.is_file()
    ]


def folder_facts(folder: Path) -> FolderFacts:
    """Reads dataset.toml, where there is one.

    Raises:
        DataError: It is not readable, or its values are of another kind.
    """
    path = folder / FACTS_FILE
    if not path.is_file():
        return FolderFacts()
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a TOML file: {error}") from error
    rate, channels = facts.get("rate_hz"), facts.get("channels", [])
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float)):
        raise DataError(f"{path}: rate_hz = {rate!r}; needed: a number")
    if not isinstance(channels, list) or not all(isinstance(name, str) for name in channels):
        raise DataError(f"{path}: channels = {channels!r}; needed: a list of names")
    return FolderFacts(float(rate) if rate is not None else None, tuple(channels))
