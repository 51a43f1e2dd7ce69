"""Reads .npz archives that anybody may have made: no pickles, and no more memory than is there.

NumPy allocates what a header promises before it reads a byte, and a small zip may unpack to any
size; so both are checked first.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ARRAY_SUFFIX = ".npy"
UNREADABLE = (
    OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError,
    NotImplementedError, OverflowError, SyntaxError, TypeError, RecursionError,
    tokenize.TokenError,
)  # fmt: skip
"""What a damaged archive raises."""


class NpzError(ValueError):
    """Says in one line what is wrong with the archive."""


def read_npz(path: Path, largest_bytes: int) -> dict[str, NDArray[Any]]:
    """Reads all arrays.

    Args:
        path: Of the archive.
        largest_bytes: That it may unpack to.

    Returns:
        The arrays by name, in the archive's order.

    Raises:
        FileNotFoundError: No such file.
        NpzError: No archive of arrays, damaged, too large, or with Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            if total > largest_bytes:
                raise NpzError(f"unpacks to {total:,} bytes; allowed: {largest_bytes:,}")
            arrays = {}
            for entry in entries:
                name = entry.filename.removesuffix(ARRAY_SUFFIX)
                if name in arrays:
                    raise NpzError(f"two entries are called {name!r}")
                # A directory may say less than the data unpack to.
                with archive.open(entry) as file:
                    content = file.read(entry.file_size + 1)
                arrays[name] = _array(content, name)
            return arrays
    except (FileNotFoundError, NpzError):
        raise
    except UNREADABLE as error:
        raise NpzError(_first_line(error)) from error


def _array(content: bytes, name: str) -> NDArray[Any]:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else _header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise NpzError(f"{name} holds Python objects; only arrays of numbers are read")
    held = len(content) - stream.tell()
    if any(extent < 0 for extent in shape) or math.prod(shape) * dtype.itemsize != held:
        raise NpzError(f"{name} says that it is {dtype} {list(shape)} but holds {held} bytes")
    stream.seek(0)
    return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _header_2_0(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    return shape, fortran, dtype


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
