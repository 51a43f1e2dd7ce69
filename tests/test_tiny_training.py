"""Int8 graphs of the tiny-training project: kept to the integer; a hostile file runs nothing."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from native_model import NativeModel
from ondevice_compiler import CompileOptions, UpdateScheme, compile_model
from ondevice_compiler.autodiff import differentiate
from ondevice_compiler.calibrate import Calibration
from ondevice_compiler.errors import UnsupportedOperatorsError, UserError
from ondevice_compiler.fuse import fuse
from ondevice_compiler.load import load_model
from ondevice_compiler.quantize import quantize
from ondevice_compiler.scheme import resolve_scheme, select
from ondevice_compiler.updates import Optimizer
from shared_data import shared

RELU6 = (6 / 255, -128)
LAYERS = {"pointwise1": "pw1", "depthwise": "dw", "pointwise2": "pw2"}


def archive(tree: Any) -> bytes:
    """A tree as the project's files hold it."""
    return zipped(pickle.dumps(tree, protocol=2))


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("archive/data.pkl", content)
    return file.getvalue()


def layer(
    seed: int,
    sizes: tuple[int, int],
    x: tuple[float, int],
    y: tuple[float, int],
    kernel: int = 1,
    stride: int = 1,
    in_shape: int = 8,
    depthwise: bool = False,
) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    inner, outer = sizes
    shape = (outer, 1 if depthwise else inner, kernel, kernel)
    spread = 3 / np.sqrt(np.prod(shape[1:]))
    return {
        "in_channel": inner, "out_channel": outer, "kernel_size": (kernel, kernel),
        "stride": stride, "groups": inner if depthwise else 1, "in_shape": in_shape,
        "depthwise": depthwise, "act": None,
        "params": {
            "weight": generator.integers(-127, 128, shape).astype(np.int8),
            "bias": generator.integers(-3000, 3000, outer).astype(np.int32),
            "w_scales": (generator.uniform(0.5, 1, outer) * spread / 127).astype(np.float32),
            "x_scale": x[0], "x_zero": x[1], "y_scale": y[0], "y_zero": y[1],
        },
    }  # fmt: skip


def small_tree() -> dict[str, Any]:
    """Every feature of the format: strides, windows of 3 and 5, a residual, a block without pw1."""
    a, b, c, image = (0.05123, 7), (0.06317, -20), (0.08071, 3), (1 / 127.5, 0)
    return {
        "first_conv": layer(1, (3, 6), image, RELU6, 3, 2, 12),
        "blocks": [
            {
                "pointwise1": None,
                "depthwise": layer(2, (6, 6), RELU6, RELU6, 3, 1, 6, depthwise=True),
                "pointwise2": layer(3, (6, 4), RELU6, a),
                "residual": None, "se": None,
            },
            {
                "pointwise1": layer(4, (4, 12), a, (0.01, -128)),
                "depthwise": layer(5, (12, 12), (0.01, -128), RELU6, 5, 1, 6, depthwise=True),
                "pointwise2": layer(6, (12, 4), RELU6, b),
                "residual": {"params": {
                    "x_scale": a[0], "x_zero": a[1], "y_scale": c[0], "y_zero": c[1],
                }},
                "se": None,
            },
        ],
        "feature_mix": None,
        "classifier": layer(7, (4, 5), c, (0.1, 3)),
    }  # fmt: skip


# The oracle: the format's integer arithmetic in NumPy, [C, H, W].


def away(value: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.asarray(np.sign(value) * np.floor(np.abs(value) + 0.5), np.int64)


def accumulate(x: NDArray[Any], description: dict[str, Any]) -> NDArray[np.int64]:
    p, stride, groups = description["params"], description["stride"], description["groups"]
    weight = p["weight"].astype(np.int64)
    pad = weight.shape[2] // 2
    padded = np.pad(x.astype(np.int64) - p["x_zero"], ((0, 0), (pad, pad), (pad, pad)))
    size = (x.shape[1] + 2 * pad - weight.shape[2]) // stride + 1
    out = np.zeros((len(weight), size, size), np.int64)
    for kh in range(weight.shape[2]):
        for kw in range(weight.shape[3]):
            reach = (size - 1) * stride + 1
            seen = padded[:, kh : kh + reach : stride, kw : kw + reach : stride]
            if groups > 1:
                out += weight[:, 0, kh, kw, None, None] * seen
            else:
                out += np.einsum("oi,ihw->ohw", weight[:, :, kh, kw], seen)
    return np.asarray(out + p["bias"][:, None, None])


def convolve(x: NDArray[Any], description: dict[str, Any]) -> NDArray[np.int64]:
    p = description["params"]
    factor = p["x_scale"] * p["w_scales"].astype(np.float64) / p["y_scale"]
    value = away(accumulate(x, description) * factor[:, None, None]) + p["y_zero"]
    return np.asarray(np.clip(value, -128, 127))


def logits(tree: dict[str, Any], x: NDArray[np.int8]) -> NDArray[np.float64]:
    y = convolve(x, tree["first_conv"])
    for block in tree["blocks"]:
        before = y
        for key in LAYERS:
            if block[key] is not None:
                y = convolve(y, block[key])
        if block["residual"]:
            last, p = block["pointwise2"]["params"], block["residual"]["params"]
            left = (y - last["y_zero"]) * last["y_scale"]
            right = (before - p["x_zero"]) * p["x_scale"]
            y = np.clip(away((left + right) / p["y_scale"]) + p["y_zero"], -128, 127)
    head = tree["classifier"]
    mean = away(y.reshape(len(y), -1).mean(axis=1))[:, None, None]
    scale = head["params"]["x_scale"] * head["params"]["w_scales"].astype(np.float64)
    return np.asarray(accumulate(mean, head)[:, 0, 0] * scale)


def test_a_graph_gives_the_integers_of_its_own_arithmetic(tmp_path: Path) -> None:
    tree = small_tree()
    path = tmp_path / "small.pkl"
    path.write_bytes(archive(tree))
    integers = np.random.default_rng(0).integers(-127, 128, (20, 3, 12, 12)).astype(np.int8)
    x = (integers / 127.5).astype(np.float32)
    scheme = UpdateScheme.of("frozen head", ["block1.pw2.weight", "classifier.bias"])
    made = compile_model(path, x, np.arange(20) % 5, CompileOptions(scheme=scheme))
    model = NativeModel(made.files, made.manifest)
    for sample, q in zip(x, integers, strict=True):
        model.evaluate(sample, 0)
        np.testing.assert_allclose(model.output(), logits(tree, q), 1e-6)


@pytest.mark.parametrize("name", ["mcunet-5fps", "mbv2-w0.35"])
def test_a_real_graph_keeps_every_weight_bias_and_scale(name: str) -> None:
    path = shared(f"tiny-training/{name}.pkl")
    loaded = load_model(path)
    joint = differentiate(loaded, "cross_entropy", name)
    program = fuse(select(joint.program, resolve_scheme("last-2", joint.program)), Optimizer())
    ones = dict.fromkeys(program.tensors, 1.0)
    peaks = {name: np.ones((1, 1), np.float32) for name in joint.program.tensors}
    calibration = Calibration(ones, ones, peaks, np.ones((1, 1), np.float32))
    made = quantize(program, calibration, loaded.input_quantization).program
    with zipfile.ZipFile(path) as file:
        tree = pickle.loads(file.read("archive/data.pkl"))
    described = {"first": tree["first_conv"], "classifier": tree["classifier"]}
    for index, block in enumerate(tree["blocks"]):
        for key, short in LAYERS.items():
            if block[key] is not None:
                described[f"block{index}.{short}"] = block[key]
    compared = 0
    for layer_name, description in described.items():
        weight, bias = (made.tensor(f"{layer_name}.{kind}") for kind in ("weight", "bias"))
        if weight.trainable:
            continue
        p = description["params"]
        scales = p["w_scales"].astype(np.float64)
        kept = scales >= 1e-3 * scales.max()
        expected = p["weight"].transpose(0, 2, 3, 1)
        assert np.array_equal(made.values[weight.name][kept], expected[kept]), layer_name
        fits = kept & (np.abs(p["bias"].astype(np.int64)) < 2**24)  # what float32 holds exactly
        assert np.array_equal(made.values[bias.name][fits], p["bias"][fits]), layer_name
        limit = 2**31 - 1 - 255 * 127 * expected[0].size
        assert np.abs(made.values[bias.name].astype(np.int64)).max() <= limit
        compared += 1
    assert compared == len(described) - 2
    scales = {t.quantization.scale[0] for t in made.tensors.values() if t.kind == "activation"
              and t.quantization}  # fmt: skip
    wanted = {d["params"]["y_scale"] for d in described.values() if d is not tree["classifier"]}
    wanted |= {b["residual"]["params"]["y_scale"] for b in tree["blocks"] if b["residual"]}
    assert wanted == scales


def test_unsupported_layers_are_all_named_at_once(tmp_path: Path) -> None:
    tree = small_tree()
    tree["feature_mix"] = {}
    tree["blocks"][0]["se"] = {}
    tree["blocks"][1]["depthwise"]["act"] = "h_swish"
    path = tmp_path / "more.pkl"
    path.write_bytes(archive(tree))
    with pytest.raises(UnsupportedOperatorsError) as caught:
        load_model(path)
    assert len(caught.value.names) == 3


def refused(path: Path, content: bytes, words: str) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        load_model(path)
    assert "\n" not in str(caught.value), "one line"


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def test_a_pickle_that_calls_a_function_is_refused_and_calls_nothing(tmp_path: Path) -> None:
    import os

    path, trace = tmp_path / "hostile.pkl", tmp_path / "trace"
    for call in (
        Call(os.system, f"touch {trace}"),
        Call(eval, f"open({str(trace)!r}, 'w')"),
        Call(np.load, str(trace)),
    ):
        for protocol in (0, 1, 2, 4):
            content = zipped(pickle.dumps({"first_conv": call}, protocol=protocol))
            refused(path, content, "pickle")
    for content in (b"cposix\nsystem\n(S'touch'\ntR.", b"\x80\x02(i__main__\nx\n."):
        refused(path, zipped(content), "pickle")
    assert not trace.exists()


def test_pickles_that_claim_memory_or_are_broken_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "hostile.pkl"
    cases = {
        b"\x80\x02}r\xff\xff\xff\x7f.": "dictionary|no list",  # a memo index of 2^31
        b"\x80\x02X" + struct.pack("<I", 2**32 - 1): "pickle",  # a string of 4 GB
        b"\x80\x02h\x01.": "pickle",  # a memo entry that was never written
        b"\x80\x02N": "pickle",  # no end
        b"\x80\x02(.": "pickle",  # a mark as the result
        b"\x80\x02t.": "pickle",  # a tuple without a mark
        b"\x80\x02NN.": "pickle",  # two results
        b"\x80\x02NN\x86R.": "pickle",  # a call of a tuple
        b"\x80\x02}(NNb.": "pickle",  # state of a mark
        b"": "pickle",
        pickle.dumps({"first_conv": np.asarray([object]), "blocks": []}, 2): "pickle",
        pickle.dumps([1, 2], 2): "dictionary",
    }
    for content, words in cases.items():
        refused(path, zipped(content), words)


def test_archives_that_are_broken_or_unpack_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "hostile.pkl"
    refused(path, b"", "zip archive")
    refused(path, b"PK\x03\x04" + bytes(100), "zip archive")
    refused(path, pickle.dumps({}, 2), "zip archive")
    refused(path, zipped(bytes(65 * 1024 * 1024)), "67108864 bytes")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("archive/version", "2")
    refused(path, file.getvalue(), "0 entries")


def test_damaged_trees_are_refused_in_one_line_or_still_load(tmp_path: Path) -> None:
    path = tmp_path / "damaged.pkl"
    whole = pickle.dumps(small_tree(), protocol=2)
    generator = np.random.default_rng(0)
    outcomes = set()
    for case in range(150):
        content = bytearray(whole)
        for position in generator.integers(0, len(content), 1 + case % 12):
            content[position] = int(generator.integers(0, 256))
        path.write_bytes(zipped(bytes(content)))
        message = ""
        try:
            load_model(path)
        except UserError as error:
            message = str(error)
        outcomes.add("refused" if message else "loaded")
        assert "\n" not in message
    assert outcomes == {"loaded", "refused"}


@pytest.mark.parametrize("key", ["x_scale", "y_zero", "weight", "bias", "w_scales"])
@pytest.mark.parametrize("value", [None, -1.0, float("nan"), 10**9, "text", np.zeros((2, 2)), []])
def test_a_field_of_another_kind_is_refused_by_name(key: str, value: Any, tmp_path: Path) -> None:
    tree = small_tree()
    tree["blocks"][1]["depthwise"]["params"][key] = value
    refused(tmp_path / "field.pkl", archive(tree), rf"blocks\[1\]: depthwise: params: {key}")
