"""The folder that recordings go to: DIR/LABEL/DATE.csv (or .wav, .png) and DIR/dataset.toml."""

import io
import json
import re
import tomllib
import wave
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice.live.open import Medium
from ondevice.preprocessing import AUDIO_SCALE
from ondevice_compiler.atomic_file import write_bytes_atomically, write_text_atomically

RATE_TOLERANCE = 0.02  # between recordings of one set
SUFFIXES: dict[Medium, str] = {"series": ".csv", "sound": ".wav", "picture": ".png"}
_LABEL = re.compile(r"[^\W.][^/\\\0\n\r]{0,63}")
_RESERVED = ("train", "test")


@dataclass(frozen=True)
class SetRate:
    """Samples a second of what is recorded.

    Attributes:
        rate_hz: Samples a second.
        uncertainty_hz: Half of an interval of about 95 %; 0 where it was not measured.
        basis: How it is known.
    """

    rate_hz: float
    uncertainty_hz: float
    basis: str


@dataclass(frozen=True)
class TakeData:
    """What one take consists of.

    Attributes:
        values: float32 [n, channels], or [height, width, 3] of a picture.
        device_t_s: float64 [n] of the device's clock, or None.
        begun: When.
    """

    values: NDArray[np.float32]
    device_t_s: NDArray[np.float64] | None
    begun: datetime


class RecordedSet:
    """A data set that takes are added to.

    Args:
        folder: New, empty, or a data set of `ondevice record`.
        medium: What its files are.
        channels: Names, in order.
        source: Where the recordings come from, for dataset.toml.
        hold_out: Every so manieth take of a label is held out; None: nothing is.

    Raises:
        UserError: The folder holds another kind of data set.
    """

    def __init__(
        self,
        folder: Path,
        medium: Medium,
        channels: tuple[str, ...],
        source: str,
        hold_out: int | None = None,
    ) -> None:
        self.folder = folder
        self._medium = medium
        self._channels = channels
        self._source = source
        self._hold_out = hold_out
        self._facts_file = folder / "dataset.toml"
        self._facts = _read_facts(self._facts_file)
        self._mine = self._facts is None
        self._check_folder()

    def labels(self) -> tuple[str, ...]:
        """Labels that have takes already."""
        found = {
            path.parent.name
            for part in self._parts()
            for path in part.glob(f"*/*{SUFFIXES[self._medium]}")
        }
        return tuple(sorted(found))

    def takes(self, label: str) -> int:
        """How many takes of a label there are."""
        suffix = SUFFIXES[self._medium]
        return sum(len(list((part / label).glob(f"*{suffix}"))) for part in self._parts())

    def check_rate(self, rate: SetRate) -> None:
        """Refuses a rate that is not the data set's.

        Raises:
            UserError: It differs by more than `RATE_TOLERANCE`.
        """
        recorded = (self._facts or {}).get("rate_hz")
        if recorded is None or self._mine:
            return
        if abs(rate.rate_hz / recorded - 1) > RATE_TOLERANCE:
            raise UserError(
                f"{self.folder}: was recorded at {recorded:g} Hz and {self._source} gives "
                f"{rate.rate_hz:g} Hz; allowed: within {100 * RATE_TOLERANCE:g} %; set the "
                "sensor's rate, or record into another folder (-o)"
            )

    def add(self, label: str, take: TakeData, rate: SetRate | None) -> Path:
        """Writes a take, and dataset.toml where this set is new.

        Args:
            label: Class.
            take: What was recorded.
            rate: Samples a second; None for pictures.

        Returns:
            The file.

        Raises:
            UserError: The rate is not the data set's; nothing was written.
            OSError: The folder cannot be written.
        """
        if rate is not None:
            self.check_rate(rate)
        folder = self._part_of_next(label) / label
        folder.mkdir(parents=True, exist_ok=True)
        path = _free_name(folder, take.begun, SUFFIXES[self._medium])
        if self._medium == "series":
            write_text_atomically(path, _csv_text(self._channels, take))
        elif self._medium == "sound":
            assert rate is not None
            write_bytes_atomically(path, _wav_bytes(take.values, round(rate.rate_hz)))
        else:
            write_bytes_atomically(path, _png_bytes(take.values))
        if self._mine:
            self.write_facts(rate)
        return path

    def write_facts(self, rate: SetRate | None) -> None:
        """Writes dataset.toml, where the set is new: it is that of the first session."""
        if not self._mine or not self.folder.is_dir():
            return
        facts: dict[str, Any] = {"channels": list(self._channels), "source": self._source}
        if rate is not None:
            facts = {"rate_hz": round(rate.rate_hz, 6), **facts}
            facts["rate_uncertainty_hz"] = round(rate.uncertainty_hz, 6)
            facts["rate_from"] = rate.basis
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items())
        write_text_atomically(self._facts_file, "# Written by `ondevice record`.\n" + text)
        self._facts = facts

    def remove(self, path: Path) -> None:
        """Deletes a take, and its label's folder where it is empty then."""
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()

    def _parts(self) -> tuple[Path, ...]:
        if self._hold_out is None:
            return (self.folder,)
        return (self.folder / "train", self.folder / "test")

    def _part_of_next(self, label: str) -> Path:
        if self._hold_out is None:
            return self.folder
        held_out = (self.takes(label) + 1) % self._hold_out == 0
        return self.folder / ("test" if held_out else "train")

    def _check_folder(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder}: is a file; -o names a folder")
        split = any((self.folder / part).is_dir() for part in _RESERVED)
        if split and self._hold_out is None:
            raise UserError(
                f"{self.folder}: has folders train and test; say with --hold-out how many of the "
                "new takes go to test, or record into another folder"
            )
        if self._hold_out is not None and not split and self._facts is not None:
            raise UserError(
                f"{self.folder}: has no folders train and test, so --hold-out would leave its "
                "earlier takes out; record into another folder, or without --hold-out"
            )
        found = tuple((self._facts or {}).get("channels", self._channels))
        if found != self._channels:
            raise UserError(
                f"{self.folder}: was recorded with channels {', '.join(map(str, found))} and "
                f"{self._source} gives {', '.join(self._channels)}; record into another folder (-o)"
            )


def check_labels(labels: tuple[str, ...]) -> None:
    """Refuses labels that are no folder names.

    Raises:
        UserError: The message names the label.
    """
    for label in labels:
        if not _LABEL.fullmatch(label) or label in _RESERVED or label != label.strip():
            raise UserError(
                f"label {label!r}: allowed: names of folders that begin with a letter or digit, "
                f"and not {' or '.join(_RESERVED)}"
            )
    if len(set(labels)) != len(labels):
        raise UserError(f"labels {','.join(labels)}: one is there twice")


def _read_facts(path: Path) -> dict[str, Any] | None:
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path}: not a TOML file: {error}") from error
    rate = facts.get("rate_hz")
    if rate is not None and not (isinstance(rate, int | float) and rate > 0):
        raise UserError(f"{path}: rate_hz = {rate!r}: must be a number above 0")
    if not isinstance(facts.get("channels", []), list):
        raise UserError(f"{path}: channels must be a list of names")
    return facts


def _free_name(folder: Path, begun: datetime, suffix: str) -> Path:
    """DATE-TIME, and a number behind it where there was one in that second."""
    stem = begun.strftime("%Y%m%d-%H%M%S")
    path, number = folder / f"{stem}{suffix}", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path


def _csv_text(channels: tuple[str, ...], take: TakeData) -> str:
    """Shortest decimals that are the same float32 again."""
    names = [f'"{name}"' if "," in name else name for name in channels]
    columns = [take.values[:, index].astype(str) for index in range(len(channels))]
    if take.device_t_s is not None:
        names = ["t_s", *names]
        since = take.device_t_s - take.device_t_s[0]
        columns = [np.array([f"{t_s:.6f}" for t_s in since]), *columns]
    rows = [",".join(names), *(",".join(row) for row in zip(*columns, strict=True))]
    return "\n".join(rows) + "\n"


def _wav_bytes(values: NDArray[np.float32], rate_hz: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(values.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        whole = np.clip(np.rint(values * AUDIO_SCALE), -AUDIO_SCALE, AUDIO_SCALE - 1)
        file.writeframes(whole.astype("<i2").tobytes())
    return buffer.getvalue()


def _png_bytes(values: NDArray[np.float32]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    whole = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(whole).save(buffer, format="PNG")
    return buffer.getvalue()
