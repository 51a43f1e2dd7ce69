"""From a sensor to a board that knows what it feels: record, train, predict, on the host board."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fake_arduino import RATE_HZ, FakeArduino, Motion, resting, shaken
from ondevice import cli

WINDOW = 25


def tiny_network(path: Path) -> None:
    """[1, 2, 25] -> convolution, ReLU, mean, linear -> 2 classes; random weights."""
    rng = np.random.default_rng(1)
    weights = {
        "conv": rng.normal(0, 0.4, (6, 2, 5)),
        "bias": np.zeros(6),
        "fc": rng.normal(0, 0.4, (2, 6)),
        "fc_bias": np.zeros(2),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv", "bias"], ["c"], kernel_shape=[5], pads=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "fc", "fc_bias"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, WINDOW])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)


def ondevice(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Runs the command line in this process; it must end with 0."""
    monkeypatch.setattr(sys, "argv", ["ondevice", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code


def test_what_a_fake_arduino_prints_is_recorded_trained_and_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    motions: dict[str, Motion] = {"idle": resting, "walking": shaken}
    for label, motion in motions.items():
        with FakeArduino(motion) as arduino:
            take = ("--label", label, "--duration-s", "8")
            ondevice(monkeypatch, "record", f"serial:{arduino.port}", "-o", "moves", *take)
    assert f"{RATE_HZ}.000" in capsys.readouterr().out
    tiny_network(tmp_path / "tiny.onnx")
    (tmp_path / "moves.toml").write_text(
        f"""
        [model]
        file = "tiny.onnx"
        [data]
        file = "moves"
        [window]
        samples = {WINDOW}
        stride = 5
        [normalise]
        method = "standard"
        [device]
        board = "host"
        [training]
        epochs = 6
        learning_rate = 0.05
        [output]
        name = "moves"
        """
    )
    ondevice(monkeypatch, "train", "--config", "moves.toml")
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "summary.json").read_text())["accuracy_after"] > 0.9
    for label, motion in motions.items():
        capsys.readouterr()
        with FakeArduino(motion) as arduino:
            source = ("--source", f"serial:{arduino.port}", "--once", "--json")
            ondevice(monkeypatch, "predict", *source, "--checkpoint", f"{run}/checkpoint.npz")
        first, last = map(json.loads, capsys.readouterr().out.splitlines())
        assert (first["event"], first["class"]) == ("prediction", label)
        assert max(first["probabilities"]) > 0.8
        assert (last["event"], last["classes"]) == ("end", {label: 1})
    # The recording itself, to its end.
    (take_file,) = (tmp_path / "moves" / "walking").iterdir()
    ondevice(
        monkeypatch, "predict", "--config", f"{run}/config.toml", "--checkpoint",
        f"{run}/checkpoint.npz", "--source", f"file:{take_file}", "--fast", "--stride", str(WINDOW),
    )  # fmt: skip
    text = capsys.readouterr().out
    found = re.search(r"(\d+) windows: walking (\d+)", text)
    assert found, text
    assert int(found[1]) > 10
    assert int(found[2]) >= 0.9 * int(found[1])
