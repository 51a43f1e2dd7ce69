"""Trained parameters in a file that belongs to one compiled model.

An .npz without pickles: `format`, `model_id`, `step`, `names`, `scales` (the gradient
scales' bytes), `parts` (JSON: the channels of parameters that are trained in part),
`counters` (JSON: the position in the run, and the sums so far), `sha256`, and one array
`parameter_0000`... a parameter, in the manifest's order, dtype and shape.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice.link.messages import Counters
from ondevice.npz import NpzError, read_npz
from ondevice_compiler.atomic_file import write_bytes_atomically

CHECKPOINT_FORMAT = 1
LARGEST_BYTES = 256 << 20  # that a file may unpack to: a board has less


class CheckpointError(UserError):
    """A checkpoint is unreadable, damaged or of another model."""


@dataclass(frozen=True)
class Checkpoint:
    """Parameters as the device holds them (quantised where the model is).

    Attributes:
        model_id: Which compiled model they belong to.
        step: Training steps done when they were read.
        names: One a parameter, in the manifest's order.
        arrays: One a parameter, little-endian, in the manifest's dtype and shape.
        scales: Gradient scales (``od_grad_scale_t[]``), to go on where this ended; may be empty.
        parts: Parameter trained in part -> its channels, as `part` in the manifest.
        counters: The device's, without the run, where they are known: a run goes on from them.
    """

    model_id: str
    step: int
    names: tuple[str, ...]
    arrays: tuple[NDArray[Any], ...]
    scales: bytes = b""
    parts: Mapping[str, Any] = field(default_factory=dict)
    counters: Counters | None = None

    def parameter_bytes(self) -> list[bytes]:
        """Returns each parameter as the bytes that the device takes."""
        return [array.tobytes() for array in self.arrays]


def checkpoint_from_device(
    manifest: dict[str, Any],
    step: int,
    parameters: Sequence[bytes],
    scales: bytes = b"",
    counters: Counters | None = None,
) -> Checkpoint:
    """Gives the bytes read from a device their names, dtypes and shapes.

    Raises:
        CheckpointError: The number or sizes of parameters are not the manifest's.
    """
    entries = manifest["parameters"]
    if len(parameters) != len(entries):
        raise CheckpointError(
            f"the device gave {len(parameters)} parameters, its manifest lists {len(entries)}"
        )
    arrays = []
    for entry, content in zip(entries, parameters, strict=True):
        if len(content) != entry["bytes"]:
            raise CheckpointError(
                f"parameter {entry['name']!r}: the device gave {len(content)} bytes, "
                f"its manifest says {entry['bytes']}"
            )
        flat = np.frombuffer(content, dtype=_dtype(entry))
        shape = tuple(entry["shape"])
        # A packed layout has no shape of its own; its bytes are kept as they are.
        arrays.append(flat.reshape(shape) if flat.size == int(np.prod(shape)) else flat)
    names = tuple(entry["name"] for entry in entries)
    parts = {entry["name"]: entry["part"] for entry in entries if "part" in entry}
    model_id = str(manifest["model_id"])
    if counters is not None:
        counters = replace(counters, run=0)  # equal runs leave equal files
    return Checkpoint(model_id, step, names, tuple(arrays), scales, parts, counters)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint; the file appears whole or not at all.

    Raises:
        OSError: The folder cannot be written.
    """
    buffer = io.BytesIO()
    content: dict[str, Any] = {
        "format": np.int64(CHECKPOINT_FORMAT),
        "model_id": np.str_(checkpoint.model_id),
        "step": np.int64(checkpoint.step),
        "names": np.array(checkpoint.names, dtype=np.str_),
        "scales": np.frombuffer(checkpoint.scales, dtype=np.uint8),
        "parts": np.str_(json.dumps(checkpoint.parts, sort_keys=True)),
        "counters": np.str_(_counters_text(checkpoint.counters)),
        "sha256": np.str_(_digest(checkpoint)),
    }
    content.update({_key(i): array for i, array in enumerate(checkpoint.arrays)})
    np.savez(buffer, **content)
    write_bytes_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint and verifies its checksum.

    Raises:
        CheckpointError: Missing, of another format, or damaged.
    """
    try:
        file = read_npz(path, LARGEST_BYTES)
        if int(file["format"]) != CHECKPOINT_FORMAT:
            raise CheckpointError(
                f"{path}: checkpoint format {int(file['format'])}; "
                f"this version reads format {CHECKPOINT_FORMAT}"
            )
        names = tuple(str(name) for name in file["names"])
        checkpoint = Checkpoint(
            model_id=str(file["model_id"]),
            step=int(file["step"]),
            names=names,
            arrays=tuple(file[_key(i)] for i in range(len(names))),
            scales=file["scales"].tobytes(),
            parts=_parts_of(str(file["parts"])) if "parts" in file else {},
            counters=_counters_of(str(file["counters"])) if "counters" in file else None,
        )
        digest = str(file["sha256"])
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint") from error
    except NpzError as error:
        raise CheckpointError(f"{path}: the checkpoint is damaged: {error}") from error
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of ondevice: {error}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: the checkpoint is damaged: {error}") from error
    if digest != _digest(checkpoint):
        raise CheckpointError(f"{path}: the checkpoint is damaged: its checksum does not match")
    return checkpoint


def check_checkpoint(path: Path, checkpoint: Checkpoint, manifest: dict[str, Any]) -> None:
    """Checks that a checkpoint fits a compiled model.

    Raises:
        CheckpointError: Another model id, or other names or sizes.
    """
    if checkpoint.model_id != manifest["model_id"]:
        raise CheckpointError(
            f"{path}: made for model {checkpoint.model_id}, but this is model "
            f"{manifest['model_id']} ({manifest['name']!r}); compile with the settings of that "
            f"run ({path.parent / 'config.toml'})"
        )
    wanted = [(entry["name"], entry["bytes"]) for entry in manifest["parameters"]]
    found = [(n, a.nbytes) for n, a in zip(checkpoint.names, checkpoint.arrays, strict=True)]
    if found != wanted:
        raise CheckpointError(f"{path}: holds parameters {found}, the model has {wanted}")


def _dtype(entry: Mapping[str, Any]) -> np.dtype[Any]:
    return np.dtype(str(entry["dtype"])).newbyteorder("<")


def _key(index: int) -> str:
    return f"parameter_{index:04d}"


def _counters_text(counters: Counters | None) -> str:
    return json.dumps(asdict(counters), sort_keys=True) if counters is not None else ""


def _parts_of(text: str) -> dict[str, Any]:
    parts = json.loads(text)
    if not isinstance(parts, dict):
        raise TypeError("its parts are no table")
    return parts


def _counters_of(text: str) -> Counters | None:
    return Counters(**json.loads(text)) if text else None


def _digest(checkpoint: Checkpoint) -> str:
    """Returns the SHA-256 of everything but the digest, in a fixed order."""
    digest = hashlib.sha256()
    digest.update(f"{CHECKPOINT_FORMAT}\n{checkpoint.model_id}\n{checkpoint.step}\n".encode())
    for name, array in zip(checkpoint.names, checkpoint.arrays, strict=True):
        digest.update(f"{name}\n{array.dtype.str}\n{list(array.shape)}\n".encode())
        digest.update(array.tobytes())
    digest.update(checkpoint.scales)
    if checkpoint.parts:
        digest.update(json.dumps(checkpoint.parts, sort_keys=True).encode())
    digest.update(_counters_text(checkpoint.counters).encode())
    return digest.hexdigest()
