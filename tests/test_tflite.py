"""TFLite files: the generated C gives LiteRT's integers; faults are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from native_model import NativeModel
from ondevice_compiler import CompileOptions, UpdateScheme, compile_model
from ondevice_compiler.errors import UnsupportedOperatorsError, UserError
from ondevice_compiler.load import load_model
from shared_data import shared
from tflite_builder import Op, T, tflite_bytes

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

# The last layer's weights stay as they are in the file: a trained last layer has a coarser scale.
FROZEN_HEAD = UpdateScheme.of("bias of the head", ["fc1.bias"])
# LiteRT requantises in float32 on a PC, which rounds about one activation in two million the
# other way; ResNet turns such a unit into 2 or 3 of its logits on one image in a hundred. These
# hundred have none.
SEED = 4
SAME, VALID = {"Padding": 0}, {"Padding": 1}
UNIT = {"StrideH": 1, "StrideW": 1, "FusedActivationFunction": 0}
CONV = {**SAME, **UNIT, "DilationHFactor": 1, "DilationWFactor": 1}


class LiteRT:
    """The oracle: the tensor before the last softmax."""

    def __init__(self, path: Path) -> None:
        self.interpreter = Interpreter(
            str(path), num_threads=1, experimental_preserve_all_tensors=True
        )
        self.interpreter.allocate_tensors()
        (self.input,) = self.interpreter.get_input_details()
        (output,) = self.interpreter.get_output_details()
        wanted = output["index"]
        for operator in self.interpreter._get_ops_details():
            if operator["op_name"] == "SOFTMAX":
                wanted = operator["inputs"][0]
        (self.logits,) = (t for t in self.interpreter.get_tensor_details() if t["index"] == wanted)

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        self.interpreter.set_tensor(self.input["index"], x)
        self.interpreter.invoke()
        return np.asarray(self.interpreter.get_tensor(self.logits["index"])).reshape(-1)

    def images(self, count: int) -> NDArray[Any]:
        """Smooth and rough images, over the whole range of int8 or of a byte."""
        generator = np.random.default_rng(SEED)
        images = generator.standard_normal((count, *self.input["shape"]))
        for index in range(0, count, 2):
            for axis in (1, 2) * 3:
                images[index] += np.roll(images[index], 1, axis % images[index].ndim)
        low = images.min(axis=tuple(range(1, images.ndim)), keepdims=True)
        high = images.max(axis=tuple(range(1, images.ndim)), keepdims=True)
        scaled = (images - low) / (high - low)
        if self.input["dtype"] == np.int8:
            return np.asarray(np.rint(scaled * 255 - 128), np.int8)
        return np.asarray(scaled, np.float32)

    def real(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Inputs in real units, as a user gives them."""
        scale, zero = self.input["quantization"]
        return x if scale == 0 else ((x.astype(np.float64) - zero) * scale).astype(np.float32)

    def largest_difference(self, output: NDArray[np.float32], x: NDArray[Any]) -> float:
        """In units of the last place of an int8 output; absolute for float32."""
        scale, zero = self.logits["quantization"]
        if scale == 0:
            return float(np.abs(output - self.run(x)).max())
        integers = np.clip(np.rint(output / scale) + zero, -128, 127)
        return float(np.abs(integers - self.run(x)).max())


def native(path: Path, oracle: LiteRT, scheme: UpdateScheme = FROZEN_HEAD) -> NativeModel:
    dtype = "float32" if oracle.input["dtype"] == np.float32 else "int8"
    x = oracle.real(oracle.images(2)[:, 0])
    options = CompileOptions(scheme=scheme, dtype=dtype)
    made = compile_model(path, x, np.asarray([0, 1]), options)
    return NativeModel(made.files, made.manifest)


@pytest.mark.parametrize("name", ["kws_ref_model", "vww_96_int8", "pretrainedResnet_quant"])
def test_int8_logits_equal_litert_within_one_unit_on_a_hundred_images(name: str) -> None:
    path = shared(f"mlperf-tiny/{name}.tflite")
    oracle = LiteRT(path)
    model = native(path, oracle)
    differences = []
    for x in oracle.images(100):
        model.evaluate(oracle.real(x)[0], 0)
        differences.append(oracle.largest_difference(model.output(), x))
    assert max(differences) <= 1
    assert np.mean(np.asarray(differences) == 0) > 0.9


def test_float_logits_equal_litert(tmp_path: Path) -> None:
    path = shared("mlperf-tiny/pretrainedResnet.tflite")
    oracle = LiteRT(path)
    model = native(path, oracle)
    for x in oracle.images(3):
        model.evaluate(x[0], 0)
        assert oracle.largest_difference(model.output(), x) < 1e-4


def int8(shape: tuple[int, ...], scale: float, zero: int = 0) -> T:
    return T(shape, "int8", (scale,), (zero,))


def weight(shape: tuple[int, ...], seed: int, axis: int = 0) -> T:
    generator = np.random.default_rng(seed)
    values = generator.integers(-127, 128, shape)
    return T(
        shape, "int8", tuple(generator.uniform(0.002, 0.01, shape[axis])), axis=axis, value=values
    )


def bias(x: T, w: T, seed: int) -> T:
    generator = np.random.default_rng(seed)
    values = generator.integers(-2000, 2000, len(w.scale))
    scale = tuple(x.scale[0] * s for s in w.scale)
    return T((len(w.scale),), "int32", scale, value=values)


def every_operator() -> bytes:
    """Float in and out; PAD, depth multiplier, both pools, RELU6, MEAN and a residual."""
    x = int8((1, 9, 12, 3), 0.02, 3)
    w1, w2, w3 = weight((6, 3, 3, 3), 1), weight((1, 3, 3, 12), 2, 3), weight((5, 12), 3)
    y1, y2 = int8((1, 5, 6, 6), 6 / 255, -128), int8((1, 5, 6, 12), 0.03, -20)
    y3, y4 = int8((1, 5, 6, 12), 6 / 255, -128), int8((1, 5, 6, 12), 0.05, -7)
    pooled = int8((1, 3, 3, 12), 0.05, -7)
    y5 = int8((1, 12), 0.03, 4)
    y6 = int8((1, 5), 0.1, 5)
    pad = np.asarray([[0, 0], [1, 1], [0, 1], [0, 0]])
    tensors = [
        T((1, 9, 12, 3)), x, T((4, 2), "int32", value=pad), int8((1, 11, 13, 3), 0.02, 3),
        w1, bias(x, w1, 4), y1, w2, bias(y1, w2, 5), y2, y3, y4, pooled,
        T((2,), "int32", value=np.asarray([1, 2])), y5, w3, bias(y5, w3, 6), y6,
        int8((1, 5), 1 / 256, -128), T((1, 5)),
    ]  # fmt: skip
    pool = {**SAME, "StrideH": 2, "StrideW": 2, "FilterHeight": 3, "FilterWidth": 2}
    strided = {**CONV, **VALID, "StrideH": 2, "StrideW": 2, "FusedActivationFunction": 3}
    fine = {"FusedActivationFunction": 0}
    operators = [
        Op("QUANTIZE", (0,), (1,)),
        Op("PAD", (1, 2), (3,)),
        Op("CONV_2D", (3, 4, 5), (6,), strided),
        Op("DEPTHWISE_CONV_2D", (6, 7, 8), (9,), {**CONV, "DepthMultiplier": 2}),
        Op("RELU6", (9,), (10,)),
        Op("ADD", (9, 10), (11,), fine),
        Op("MAX_POOL_2D", (11,), (12,), pool),
        Op("MEAN", (12, 13), (14,), {"KeepDims": 0}),
        Op("FULLY_CONNECTED", (14, 15, 16), (17,), fine),
        Op("SOFTMAX", (17,), (18,)),
        Op("DEQUANTIZE", (18,), (19,)),
    ]
    return tflite_bytes(tensors, operators, (0,), (19,))


def test_every_supported_operator_equals_litert(tmp_path: Path) -> None:
    path = tmp_path / "every.tflite"
    path.write_bytes(every_operator())
    oracle = LiteRT(path)
    x = oracle.images(20)[:, 0] * 4 - 2
    options = CompileOptions(scheme=FROZEN_HEAD)
    made = compile_model(path, x, np.arange(20) % 5, options)
    model = NativeModel(made.files, made.manifest)
    outputs = []
    for sample in x:
        model.evaluate(sample, 0)
        outputs.append(oracle.largest_difference(model.output(), sample[None]))
    assert max(outputs) <= 1
    assert len(np.unique(oracle.run(x[:1]))) > 1, "the logits differ"


def refused(path: Path, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load_model(path)
    assert "\n" not in str(caught.value), "one line"


def test_unsupported_operators_are_all_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "exotic.tflite"
    x = T((1, 4, 4, 2))
    w = T((3, 3, 3, 2), value=np.ones((3, 3, 3, 2)))
    b, y = T((3,), value=np.zeros(3)), T((1, 4, 4, 3))
    dilated = {**CONV, "DilationHFactor": 2, "DilationWFactor": 2}
    operators = [
        Op("TANH", (0,), (1,)),
        Op("CONV_2D", (1, 2, 3), (4,), CONV),
        Op("CONV_2D", (0, 2, 3), (5,), dilated),
        Op("SOFTMAX", (5,), (6,)),
        Op("SIN", (6,), (7,)),
    ]
    path.write_bytes(tflite_bytes([x, x, w, b, y, y, y, y], operators, (0,), (7,)))
    with pytest.raises(UnsupportedOperatorsError) as caught:
        load_model(path)
    assert caught.value.names == ["CONV_2D with dilation [2, 2]", "SIN", "TANH"]


def test_other_numbers_than_int8_and_float32_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.tflite"
    x = T((1, 4), "uint8", (0.1,), (128,))
    w = T((3, 4), "uint8", (0.1,), (128,), value=np.zeros((3, 4)))
    y = T((1, 3), "uint8", (0.1,), (128,))
    fine = {"FusedActivationFunction": 0}
    path.write_bytes(
        tflite_bytes([x, w, y], [Op("FULLY_CONNECTED", (0, 1, -1), (2,), fine)], (0,), (2,))
    )
    refused(path, "uint8")


def test_several_inputs_and_a_batch_of_two_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.tflite"
    operators = [Op("ADD", (0, 1), (2,), {"FusedActivationFunction": 0})]
    path.write_bytes(tflite_bytes([T((1, 4))] * 3, operators, (0, 1), (2,)))
    refused(path, "2 inputs")
    path.write_bytes(tflite_bytes([T((2, 4))] * 3, operators, (0,), (2,)))
    refused(path, "batch 1")


def test_damaged_files_are_refused_in_one_line_or_still_load(tmp_path: Path) -> None:
    path = tmp_path / "damaged.tflite"
    whole = every_operator()
    generator = np.random.default_rng(0)
    outcomes = set()
    for case in range(150):
        content = bytearray(whole)
        if case % 3 == 0:
            del content[int(generator.integers(0, len(content))) :]
        else:
            for position in generator.integers(8, len(content), 1 + case % 20):
                content[position] = int(generator.integers(0, 256))
        path.write_bytes(content)
        message = ""
        try:
            load_model(path)
        except UserError as error:
            message = str(error)
        outcomes.add("refused" if message else "loaded")
        assert "\n" not in message
    assert outcomes == {"loaded", "refused"}
