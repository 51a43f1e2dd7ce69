"""Norms and sequence models: float32 against PyTorch, int8 against the NumPy reference."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from native_model import NativeModel
from ondevice.compiled_model import load_model_directory
from ondevice.config import DeviceSettings, TrainingSettings
from ondevice.data import Dataset
from ondevice.outcome import TrainingOutcome
from ondevice.target import open_target, target_board
from ondevice.train import run_training
from ondevice_compiler import CompileOptions, compile_model
from ondevice_compiler.errors import UnsupportedOperatorsError, UserError
from ondevice_compiler.load import load_module
from ondevice_compiler.samples import pack_sample
from sequence_networks import BERT, SEQUENCE_NETWORKS, VOCABULARY, Attention
from sequence_reference import SequenceMachine
from small_networks import Network, compiled_network, labels
from test_gradients import OPTIMIZERS, as_stored, step_gradients, torch_loss


def trainable(network: Network) -> Any:
    return network.module().requires_grad_(True)


def torch_gradients(module: Any) -> dict[str, NDArray[np.float32]]:
    """By the compiler's names: `a.b.weight` is a_b.weight, a parameter of its own x.weight, and
    each third of an attention's input projection a layer.
    """
    found = {}
    for key, parameter in module.named_parameters():
        gradient = parameter.grad.numpy()
        layer, _, kind = key.rpartition(".")
        layer = layer.replace(".", "_")
        if kind.startswith("in_proj_"):
            for index, part in enumerate(np.split(gradient, 3)):
                found[f"{layer}_in_proj_{index}.{kind.removeprefix('in_proj_')}"] = part
        else:
            found[f"{layer}.{kind}" if layer else f"{key}.weight"] = gradient
    return found


@pytest.mark.parametrize("name", SEQUENCE_NETWORKS)
def test_float_gradients_equal_autograd(name: str) -> None:
    network = SEQUENCE_NETWORKS[name]
    native, module = compiled_network(network, dtype="float32").native(), trainable(network)
    for sample, y in zip(network.samples(2, seed=5), labels(2), strict=True):
        module.zero_grad()
        value = torch_loss(module, sample, y, "cross_entropy")
        value.backward()
        assert native.evaluate(sample, int(y))[0] == pytest.approx(value.item(), rel=1e-4)
        found = step_gradients(native, sample, int(y))
        wanted = torch_gradients(module)
        assert set(found) == set(wanted)
        steepest = max(float(np.abs(gradient).max()) for gradient in wanted.values())
        for key, gradient in found.items():
            expected = wanted[key]
            if gradient.ndim == 4 and not key.startswith("places"):
                expected = as_stored(torch.tensor(expected), gradient.shape)
            expected = expected.reshape(gradient.shape)
            np.testing.assert_allclose(gradient, expected, 1e-3, 2e-6 * steepest, err_msg=key)


@pytest.mark.parametrize("name", ["groups", "encoder"])
def test_onnx_files_give_the_output_of_onnxruntime(name: str, tmp_path: Path) -> None:
    network = SEQUENCE_NETWORKS[name]
    x, y = network.samples(4), labels(4)
    path = tmp_path / "model.onnx"
    names = {"input_names": ["x"], "output_names": ["y"]}
    torch.onnx.export(
        network.module(), (torch.tensor(x[:1]),), path, dynamo=False, opset_version=17, **names
    )
    made = compile_model(path, x, y, CompileOptions(dtype="float32"))
    native = NativeModel(made.files, made.manifest)
    session = onnxruntime.InferenceSession(str(path))
    for sample in x:
        native.evaluate(sample, 0)
        (expected,) = session.run(None, {"x": sample[None]})
        np.testing.assert_allclose(native.output(), expected.reshape(-1), 1e-4, 1e-5)


def runtime_exponential(native: NativeModel) -> Any:
    """The runtime's own exp, which test_runtime_numerics holds against float64."""
    function = native.library.od_expf
    function.argtypes, function.restype = [ctypes.c_float], ctypes.c_float
    return np.vectorize(function, otypes=[np.float32])


CASES = [
    ("groups", "sgd", "full"),
    ("layers", "momentum", "bias"),
    ("attention", "sgd", "full"),
    ("encoder", "accumulated momentum", "full"),
]


@pytest.mark.parametrize(("name", "optimizer", "scheme"), CASES)
def test_int8_training_equals_the_reference_bit_for_bit(
    name: str, optimizer: str, scheme: str
) -> None:
    network, options = SEQUENCE_NETWORKS[name], OPTIMIZERS[optimizer]
    made = compiled_network(network, scheme=scheme, **options)
    native = made.native()
    machine = SequenceMachine(made.program, made.histories, native.loss_error("cross_entropy"))
    machine.exponential = runtime_exponential(native)
    steps = options.get("accumulation_steps", 1)
    start = native.parameters()
    for number, x in enumerate(network.samples(8, seed=3), start=1):
        y = number % 5
        native.train(x, y, 0.05)
        dtype = made.program.tensor(made.program.input).dtype
        machine.train(np.frombuffer(pack_sample(made.model.manifest, x), dtype), y, 0.05)
        if steps > 1 and number % steps == 0:
            native.apply(0.05)
            machine.apply()
        for key, value in native.parameters().items():
            np.testing.assert_array_equal(value, machine.values[key], f"step {number}: {key}")
        expected = [(float(s.history), s.exponent, s.amax, s.saturated, s.zeros)
                    for s in machine.scales.values()]  # fmt: skip
        assert native.scales() == expected, f"step {number}"
    assert any((native.parameters()[key] != start[key]).any() for key in start)


def planted_words(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Random sentences in which the word of the class stands at four random places."""
    generator = np.random.default_rng(seed)
    x, y = generator.integers(0, VOCABULARY, (count, *BERT.shape)), labels(count)
    for sentence, word in zip(x, y, strict=True):
        sentence[generator.choice(len(sentence), 4, replace=False)] = word
    return x, y


@pytest.mark.parametrize("scheme", ["full", "bias"])
def test_an_int8_encoder_learns_which_word_a_sentence_repeats(scheme: str) -> None:
    native = compiled_network(BERT, scheme=scheme).native()
    (x, y), (test_x, test_y) = planted_words(600, 1), planted_words(100, 2)

    def accuracy() -> float:
        hits = [native.evaluate(s, int(w))[1] == w for s, w in zip(test_x, test_y, strict=True)]
        return float(np.mean(hits))

    assert accuracy() < 0.5
    for sentence, word in zip(x, y, strict=True):
        native.train(sentence, int(word), 0.03)
    assert accuracy() > 0.85


def test_tokens_outside_the_vocabulary_are_refused() -> None:
    manifest = compiled_network(BERT, scheme="full").model.manifest
    assert manifest["input"]["dtype"] == "int32"
    packed = np.frombuffer(pack_sample(manifest, np.arange(16.0) % VOCABULARY), "<i4")
    np.testing.assert_array_equal(packed, np.arange(16) % VOCABULARY)
    for wrong in (VOCABULARY, -1, 0.5, float("nan")):
        with pytest.raises(UserError, match="allowed: whole numbers 0 to 10"):
            pack_sample(manifest, np.full(16, wrong))


class Waves(Attention):
    """Positions that are constants of the model."""

    def __init__(self) -> None:
        super().__init__()
        places = self.places.detach()
        del self.places
        self.register_buffer("places", places)


def test_positions_that_are_no_parameters_are_not_trained() -> None:
    x = torch.zeros((1, 6), dtype=torch.int64)
    assert load_module(Waves().eval(), x).frozen == {"position1.weight"}
    assert load_module(Attention().eval(), x).frozen == frozenset()


class Masked(Attention):
    """Attention with a mask, which is not supported."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(6, 6).triu(1) * -10.0)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.softmax(q @ k.transpose(-2, -1) / 2.0 + self.mask, -1) @ v


def test_masks_are_refused_by_name() -> None:
    x = torch.zeros((1, 6), dtype=torch.int64)
    with pytest.raises(UnsupportedOperatorsError, match=r"with a constant of shape \[6, 6\]"):
        load_module(Masked().eval(), x)


def three_steps(board: str, build: Path) -> TrainingOutcome:
    """Of the encoder, all of it trained in int8, on a board."""
    compiled_network(BERT, scheme="full").model.write(build / "bert")
    model, (words, y) = load_model_directory(build / "bert"), planted_words(4, 3)
    x = words.astype(np.float32)  # as data of files come
    settings = DeviceSettings(board=board)
    target = open_target(settings, target_board(settings), model, build)
    with target.device as device:
        data = Dataset(x[:3], y[:3], x[3:], y[3:], source="words")
        training = TrainingSettings(steps=3, learning_rate=0.03)
        return run_training(device, model.manifest, data, training)


def test_an_int8_encoder_trains_to_the_same_bytes_in_qemu_and_on_the_host(tmp_path: Path) -> None:
    host, simulated = (three_steps(board, tmp_path) for board in ("host", "qemu_mps2_an386"))
    start = [
        p.tobytes() for p in compiled_network(BERT, scheme="full").native().parameters().values()
    ]
    stored = [bytes(p) for p in simulated.parameters]
    assert stored == [bytes(p) for p in host.parameters]
    assert sum(a != b for a, b in zip(stored, start, strict=False)) > len(start) // 2
    assert list(simulated.losses) == list(host.losses)
