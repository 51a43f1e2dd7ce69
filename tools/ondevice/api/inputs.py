"""What people hand over (modules, arrays, paths) as the files that a configuration names.

So a run that was begun in Python is evaluated and resumed by the command line like any other.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ondevice.data import DataError, Dataset, make_dataset
from ondevice.datasets.hold_out import split_samples
from ondevice_compiler.atomic_file import write_bytes_atomically

if TYPE_CHECKING:
    import torch

Arrays = tuple[Any, ...]
"""(x, y), of which a share is held out, or (x, y, x_test, y_test)."""

Data = str | Path | Dataset | Arrays
KEYS = ("x", "y", "x_test", "y_test")


def data_file(data: Data, build_root: Path, test_share: float) -> Path:
    """Returns the file of the data; arrays are written below `build_root`, by their content.

    Args:
        data: Path, data set or arrays (NumPy's, torch's or lists).
        build_root: As of the command line.
        test_share: Of (x, y), what is held out of each class.

    Raises:
        DataError: Arrays of wrong types or shapes.
    """
    if isinstance(data, str | Path):
        return Path(data)
    dataset = data if isinstance(data, Dataset) else dataset_of(data, test_share)
    arrays = {key: getattr(dataset, key) for key in KEYS}
    digest = hashlib.sha256()
    for key, values in arrays.items():
        digest.update(f"{key} {values.dtype} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    digest.update(repr(dataset.class_names).encode())
    path = build_root / "data" / f"{digest.hexdigest()[:24]}.npz"
    if not path.is_file():
        if dataset.class_names:
            arrays["class_names"] = np.array(dataset.class_names)
        content = io.BytesIO()
        np.savez(content, **arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(path, content.getvalue())
    return path


def dataset_of(data: Arrays, test_share: float) -> Dataset:
    """Checks arrays and gathers them.

    Raises:
        DataError: Not two or four arrays, or of wrong types or shapes.
    """
    arrays = [array_of(values) for values in data]
    if len(arrays) == 2:
        x, y = arrays
        if len(x) != len(y) or len(x) < 2:
            raise DataError(
                f"data: x has {len(x)} samples and y {len(y)} labels; allowed: as many, two or more"
            )
        testing = split_samples(list(y), test_share)
        arrays = [x[~testing], y[~testing], x[testing], y[testing]]
    if len(arrays) != 4:
        raise DataError(
            f"data is a tuple of {len(arrays)}; allowed: (x, y) or (x, y, x_test, y_test), a "
            "Dataset, or a path"
        )
    return make_dataset(dict(zip(KEYS, arrays, strict=True)), "data")


def array_of(values: Any) -> NDArray[Any]:
    """An array of what may be a torch tensor, which may need its gradient taken off."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def module_file(module: torch.nn.Module, example: NDArray[Any], build_root: Path) -> Path:
    """Exports a module in evaluation mode and returns its .pt2 file, which is named by content.

    The module is left in the mode that it was in.

    Raises:
        UserError: torch.export refuses it.
    """
    import torch

    from ondevice_compiler.errors import UserError

    batch = torch.from_numpy(np.ascontiguousarray(example[np.newaxis]))
    was_training = module.training
    try:
        program = torch.export.export(module.eval(), (batch,))
    except Exception as error:  # torch raises several unrelated types
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"{type(module).__name__}: torch.export refuses it on a sample of shape "
            f"{list(batch.shape)}: {first}"
        ) from error
    finally:
        module.train(was_training)
    digest = hashlib.sha256(str(program.graph).encode())
    for name, values in sorted(program.state_dict.items()):
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.detach().cpu().contiguous().numpy().tobytes())
    folder = build_root / "exported" / digest.hexdigest()[:24]
    path = folder / f"{type(module).__name__.lower()}.pt2"
    if not path.is_file():
        content = io.BytesIO()
        torch.export.save(program, content)
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(path, content.getvalue())
    return path
