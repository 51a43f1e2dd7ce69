"""Reads pickles that hold dictionaries, lists, numbers, text and NumPy arrays, and nothing else.

A pickle is a program, and `pickle.load` runs whatever it names. Here an interpreter of our own
knows the few opcodes that such files need and may call four functions, all of them below, so that
nothing of NumPy or of the standard library can be reached. Source of the format: pickletools.
"""

from __future__ import annotations

import pickletools
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.errors import UserError

LARGEST_PICKLE_BYTES = 64 * 1024 * 1024
DTYPES = ("i1", "i2", "i4", "i8", "u1", "f4", "f8")
MALFORMED = (
    AttributeError, EOFError, LookupError, OverflowError, RecursionError, TypeError, ValueError,
)  # fmt: skip


def read_array_archive(path: Path) -> Any:
    """Value of the one `*/data.pkl` in a zip archive, as `torch.save` lays it out.

    Raises:
        UserError: No such archive, one that unpacks to more than 64 MB, or a pickle that holds
            anything but plain values and arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(names) != 1:
                raise UserError(
                    f"{path} is no archive of an int8 graph: {len(names)} entries are called "
                    "data.pkl; allowed: one"
                )
            with archive.open(names[0]) as file:
                content = file.read(LARGEST_PICKLE_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, *MALFORMED) as error:
        raise UserError(f"{path} is no zip archive of an int8 graph: {_line(error)}") from error
    except RuntimeError as error:  # encrypted, or a compression that is not supported
        raise UserError(f"{path}: cannot unpack data.pkl: {_line(error)}") from error
    if len(content) > LARGEST_PICKLE_BYTES:
        raise UserError(
            f"{path}: data.pkl unpacks to more than {LARGEST_PICKLE_BYTES} bytes, the most allowed"
        )
    return read_array_pickle(content, str(path))


def read_array_pickle(content: bytes, source: str) -> Any:
    """Value of a pickle of plain values and arrays.

    Args:
        content: Pickle, protocol 2.
        source: For messages.

    Returns:
        The value; what stands for an array is read by `array_of`.

    Raises:
        UserError: Malformed, or it holds or calls anything else.
    """
    try:
        return _interpreted(content, source)
    except MALFORMED as error:
        raise UserError(f"{source}: malformed pickle: {_line(error)}") from error


def array_of(value: object) -> NDArray[Any] | None:
    """The array that an unpickled value stands for; None where it is no array."""
    return value.array() if isinstance(value, _Array) else None


class _Type:
    """Stands for `numpy.dtype`: the name of a number format."""

    def __init__(self, name: object, *flags: object) -> None:
        if name not in DTYPES:
            shown = repr(name[:20]) if isinstance(name, str) else type(name).__name__
            raise ValueError(f"array of type {shown}; allowed: {', '.join(DTYPES)}")
        self.name = str(name)

    def set_state(self, state: Any) -> None:
        if state[1] not in ("<", "|"):
            raise ValueError("array in another byte order; allowed: little endian")


class _Text:
    """Stands for bytes, which protocol 2 writes as text; not decoded before they are needed."""

    def __init__(self, text: object, encoding: object) -> None:
        if encoding != "latin1" or not isinstance(text, str):
            raise ValueError("bytes in another encoding than latin1")
        self.text = text


class _Array:
    """Stands for `numpy.ndarray`."""

    def __init__(self, kind: object, *description: object) -> None:
        if kind is not _Array:
            raise TypeError("an array of another class")
        self.state: tuple[Any, ...] = ()

    def set_state(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not (isinstance(dtype, _Type) and isinstance(data, _Text) and isinstance(shape, tuple)):
            raise TypeError("an array without shape, type or data")
        self.state = (shape, dtype.name, fortran, data.text)

    def array(self) -> NDArray[Any] | None:
        """None where data and shape do not fit."""
        try:
            shape, dtype, fortran, text = self.state
            flat = np.frombuffer(text.encode("latin1"), f"<{dtype}")
            return flat.reshape(shape, order="F" if fortran else "C")
        except MALFORMED:
            return None


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "numpy ndarray": _Array,
    "numpy dtype": _Type,
    "numpy.core.multiarray _reconstruct": _Array,
    "numpy._core.multiarray _reconstruct": _Array,
    "_codecs encode": _Text,
}
MARK = object()
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": MARK, "EMPTY_TUPLE": ()}
LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE")
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _interpreted(content: bytes, source: str) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in LITERALS:
            stack.append(argument)
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in TUPLES:
            stack.append(tuple(_popped(stack, TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(_since_mark(stack)))
        elif name in ("SETITEM", "SETITEMS"):
            items = _popped(stack, 2) if name == "SETITEM" else _since_mark(stack)
            _checked(stack[-1], dict).update(zip(items[::2], items[1::2], strict=True))
        elif name in ("APPEND", "APPENDS"):
            items = _popped(stack, 1) if name == "APPEND" else _since_mark(stack)
            _checked(stack[-1], list).extend(items)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            if argument not in FUNCTIONS:
                raise UserError(
                    f"{source}: the pickle calls '{argument[:60]}'; allowed: NumPy arrays and "
                    "plain values; do not trust this file"
                )
            stack.append(FUNCTIONS[argument])
        elif name == "REDUCE":
            function, arguments = _popped(stack, 2)
            if not any(function is allowed for allowed in FUNCTIONS.values()):
                raise TypeError("a call of something that is no function")
            stack.append(function(*arguments))
        elif name == "BUILD":
            (state,) = _popped(stack, 1)
            _checked(stack[-1], _Array | _Type).set_state(state)
        elif name == "STOP":
            (result,) = _popped(stack, len(stack))
            return result
        elif name != "PROTO":
            raise UserError(
                f"{source}: the pickle uses opcode {name}; allowed: NumPy arrays and plain "
                "values, protocol 2"
            )
    raise EOFError("no end")


def _popped(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count or any(value is MARK for value in stack[-count:]):
        raise IndexError("a value is missing")
    values = stack[-count:]
    del stack[-count:]
    return values


def _since_mark(stack: list[Any]) -> list[Any]:
    start = len(stack) - 1
    while stack[start] is not MARK:  # IndexError where there is none
        start -= 1
    values = stack[start + 1 :]
    del stack[start:]
    return values


def _checked(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} where another kind is needed")
    return value


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
