"""Runs generated C in this process: builds it as a shared library and calls its descriptor."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coverage_flags import coverage_flags
from ondevice_compiler.samples import pack_label, pack_sample

LossError = Callable[[NDArray[np.float32], Any], NDArray[np.float32]]

ROOT = Path(__file__).resolve().parent.parent
NUMERICS = [
    ROOT / "runtime" / "src" / f"{name}.c"
    for name in (
        *("activation", "fixed_point", "gradient", "loss", "optimizer", "square_root", "round"),
        *("codec_topk", "codec_ternary", "codec_sign", "codec_int8"),
        *("blake2s", "noise", "noise_key", "private_sum"),
    )
]
CFLAGS = [  # As firmware/platform/builder/main.py has them, and why.
    *("-std=c99", "-O2", "-ffp-contract=off", "-fno-strict-aliasing"),
    *("-fno-ipa-pure-const", "-fno-ipa-modref"),
]
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
DTYPES = {"int8": "<i1", "int16": "<i2", "int32": "<i4", "float32": "<f4"}


class _Parameter(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_uint32),
        ("dtype", ctypes.c_int),
        ("kind", ctypes.c_int),
    )


class _Scale(ctypes.Structure):
    _fields_ = (
        ("history", ctypes.c_float),
        ("exponent", ctypes.c_int32),
        ("amax", ctypes.c_int32),
        ("saturated", ctypes.c_int32),
        ("zeros", ctypes.c_int32),
    )


class _Result(ctypes.Structure):
    _fields_ = (
        ("loss", ctypes.c_float),
        ("predicted", ctypes.c_uint32),
        ("correct", ctypes.c_uint32),
    )


_EVALUATE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(_Result), ctypes.c_void_p)
_TRAIN = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_float, ctypes.POINTER(_Result), ctypes.c_void_p)
_APPLY = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_float, ctypes.c_void_p)


class _Model(ctypes.Structure):
    _fields_ = (
        ("abi", ctypes.c_uint32),
        ("id", ctypes.c_uint8 * 16),
        ("name", ctypes.c_char_p),
        ("input", ctypes.c_void_p),
        ("input_bytes", ctypes.c_uint32),
        ("label", ctypes.c_void_p),
        ("label_bytes", ctypes.c_uint32),
        ("output", ctypes.POINTER(ctypes.c_float)),
        ("output_count", ctypes.c_uint32),
        ("arena", ctypes.c_void_p),
        ("arena_bytes", ctypes.c_uint32),
        ("parameters", ctypes.POINTER(_Parameter)),
        ("parameter_count", ctypes.c_uint32),
        ("scales", ctypes.POINTER(_Scale)),
        ("scale_count", ctypes.c_uint32),
        ("op_names", ctypes.POINTER(ctypes.c_char_p)),
        ("op_count", ctypes.c_uint32),
        ("accumulation_steps", ctypes.c_uint32),
        ("update_steps", ctypes.POINTER(ctypes.c_uint32)),
        ("reset", ctypes.CFUNCTYPE(None)),
        ("evaluate", _EVALUATE),
        ("train", _TRAIN),
        ("apply", _APPLY),
        ("round", ctypes.c_void_p),
    )


class NativeModel:
    """A compiled model, running here."""

    def __init__(
        self, files: dict[str, str], manifest: dict[str, Any], optimization: str = "-O2"
    ) -> None:
        self.manifest = manifest
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        library = folder / "model.so"
        sources = [folder / "model.c", *NUMERICS]
        include = ["-I", str(ROOT / "runtime/include")]
        flags = [*CFLAGS, optimization, *WARNINGS, *coverage_flags(), *include]
        command = ["gcc", *flags, "-shared", "-fPIC"]
        subprocess.run([*command, "-o", str(library), *map(str, sources)], check=True)
        self.library = ctypes.CDLL(str(library))
        self.model = _Model.in_dll(self.library, "od_model")
        self.model.reset()

    def feed(self, x: NDArray[Any], y: Any) -> None:
        """Writes one sample and its label."""
        sample, label = pack_sample(self.manifest, x), pack_label(self.manifest, y)
        assert len(sample) == self.model.input_bytes
        assert len(label) == self.model.label_bytes
        ctypes.memmove(self.model.input, sample, len(sample))
        ctypes.memmove(self.model.label, label, len(label))

    def train(self, x: NDArray[Any], y: Any, learning_rate: float) -> float:
        """One training step; returns the loss."""
        self.feed(x, y)
        result = _Result()
        assert self.model.train(learning_rate, ctypes.byref(result), None) == 0
        return float(result.loss)

    def apply(self, learning_rate: float) -> None:
        """Updates from the accumulated gradient."""
        assert self.model.apply(learning_rate, None) == 0

    def update_steps(self) -> int:
        """Updates so far."""
        return int(self.model.update_steps[0])

    def evaluate(self, x: NDArray[Any], y: Any) -> tuple[float, int]:
        """Loss and predicted class."""
        self.feed(x, y)
        result = _Result()
        assert self.model.evaluate(ctypes.byref(result), None) == 0
        return float(result.loss), int(result.predicted)

    def loss_error(self, loss: str, smoothing: float = 0.0) -> LossError:
        """The runtime's error of the logits, which test_runtime_numerics holds against torch."""

        def error(logits: NDArray[np.float32], answer: Any) -> NDArray[np.float32]:
            output = np.ascontiguousarray(logits, np.float32)
            target = np.ascontiguousarray(answer, np.float32)
            found, result = np.zeros_like(output), _Result()
            wanted: tuple[Any, ...] = (ctypes.c_void_p(target.ctypes.data),)
            if loss == "cross_entropy":
                wanted = ctypes.c_uint32(int(answer)), ctypes.c_float(smoothing)
            function = getattr(self.library, f"od_{loss}")
            status = function(
                ctypes.c_void_p(output.ctypes.data), output.size, *wanted,
                ctypes.c_void_p(found.ctypes.data), ctypes.byref(result),
            )  # fmt: skip
            assert status == 0
            return found

        return error

    def output(self) -> NDArray[np.float32]:
        """Output of the last pass."""
        return np.array(self.model.output[: self.model.output_count], np.float32)

    def parameters(self) -> dict[str, NDArray[Any]]:
        """Trained parameters and optimiser state, as stored; without the counter of updates."""
        found = {}
        for index, entry in enumerate(self.manifest["parameters"]):
            if entry["format"] in ("counter", "round phase", "noise key"):
                continue
            stored = self.model.parameters[index]
            raw = ctypes.string_at(stored.data, stored.bytes)
            values = np.frombuffer(raw, DTYPES[entry["dtype"]])
            found[entry["name"]] = values.reshape(entry["shape"]).copy()
        return found

    def write(self, index: int, value: NDArray[Any]) -> None:
        """Overwrites one parameter."""
        stored = self.model.parameters[index]
        content = np.ascontiguousarray(value).tobytes()
        assert len(content) == stored.bytes
        ctypes.memmove(stored.data, content, len(content))

    def scales(self) -> list[tuple[float, int, int, int, int]]:
        """(history, exponent, amax, saturated, zeros) of each delayed gradient."""
        return [
            (s.history, s.exponent, s.amax, s.saturated, s.zeros)
            for s in self.model.scales[: self.model.scale_count]
        ]

    def arena(self) -> NDArray[np.uint8]:
        """The arena's bytes now."""
        raw = ctypes.string_at(self.model.arena, self.model.arena_bytes)
        return np.frombuffer(raw, np.uint8).copy()
