"""Calibrations kept between compilations: most of a compilation's time, and the same for schemes.

A calibration depends on the model, the samples and the compiler, not on the update scheme (but for
those that add layers). One file each, under a hash of all that; a damaged one is measured again.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.atomic_file import write_bytes_atomically
from ondevice_compiler.calibrate import Calibration
from ondevice_compiler.compiler_digest import compiler_digest


def cached_calibration(
    folder: Path | None,
    texts: Iterable[str],
    arrays: Iterable[NDArray[Any]],
    measure: Callable[[], Calibration],
) -> Calibration:
    """Recalls a calibration, or measures and keeps it.

    Args:
        folder: Made where it is missing; None: nothing is kept.
        texts: Everything printable that the calibration depends on.
        arrays: All values that it depends on.
        measure: Gives it.
    """
    if folder is None:
        return measure()
    digest = hashlib.sha256(compiler_digest())
    for text in texts:
        digest.update(text.encode())
    for array in arrays:
        digest.update(str((array.dtype, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    path = folder / f"{digest.hexdigest()[:24]}.npz"
    found = _read(path)
    if found is None:
        found = measure()
        _write(path, found)
    return found


def _read(path: Path) -> Calibration | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            names = [str(name) for name in file["names"]]
            gradients = [str(name) for name in file["gradients"]]
            return Calibration(
                dict(zip(names, file["low"].tolist(), strict=True)),
                dict(zip(names, file["high"].tolist(), strict=True)),
                {name: file[f"peaks_{index}"] for index, name in enumerate(gradients)},
                file["errors"],
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, calibration: Calibration) -> None:
    gradients = list(calibration.gradient_peaks)
    arrays: dict[str, Any] = {
        "names": np.asarray(list(calibration.low)),
        "gradients": np.asarray(gradients),
        "low": np.asarray(list(calibration.low.values()), np.float64),
        "high": np.asarray([calibration.high[name] for name in calibration.low], np.float64),
        "errors": calibration.errors,
    }
    peaks = calibration.gradient_peaks.values()
    arrays |= {f"peaks_{index}": values for index, values in enumerate(peaks)}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_bytes_atomically(path, content.getvalue())
