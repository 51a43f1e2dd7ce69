"""`import ondevice`: compile, connect, train, evaluate, checkpoint, on the host board."""

import doctest
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import ondevice
from ondevice import cli
from ondevice.api import board as board_module
from ondevice.api import compilation, model_checkpoint
from ondevice.api import run as run_module
from ondevice.api.keywords import CompileSettings, TrainingKeywords
from ondevice.checkpoint import checkpoint_from_device
from ondevice.config import Config, ModelSettings, TrainingSettings
from ondevice.events import Event, StepTrained

CLASSES = 3


def small_network(norm: bool = False) -> nn.Module:
    """A convolution (with a batch norm, and then no bias of its own) and a linear layer."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv1d(2, 6, 3, bias=not norm),
        nn.BatchNorm1d(6) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 8, CLASSES),
    )
    if norm:
        with torch.no_grad():
            for values in (network[1].running_mean, network[1].bias):
                values.uniform_(-0.5, 0.5)
            for values in (network[1].running_var, network[1].weight):
                values.uniform_(0.5, 1.5)
    return network


def samples(count: int = 60) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    generator = np.random.default_rng(0)
    y = np.arange(count) % CLASSES
    x = generator.normal(size=(count, 2, 10)) + np.array([[1, -1, 0], [0, 1, -1]]).T[y][:, :, None]
    return x.astype(np.float32), y


@dataclass(frozen=True)
class Made:
    """A network, its compiled model, and a board with it."""

    network: nn.Module
    model: ondevice.Model
    board: ondevice.Board


Make = Callable[..., Made]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Compiles and connects once for each set of options; the board is as compiled again."""
    folder = tmp_path_factory.mktemp("build")
    made: dict[str, Made] = {}

    def get(norm: bool = False, **options: Any) -> Made:
        key = f"{norm} {options}"
        if key not in made:
            network = small_network(norm)
            model = ondevice.compile(network, samples(), board="host", build_dir=folder, **options)
            made[key] = Made(network, model, model.connect())
        try:
            made[key].board.restore()
        except ondevice.UserError:  # a test has connected to it by another object
            made[key] = replace(made[key], board=made[key].model.connect())
        return made[key]

    yield get
    for each in made.values():
        each.board.close()


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import ondevice, sys; print(*{'numpy', 'tvm', 'torch', 'matplotlib'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_every_name_of_the_package_is_there() -> None:
    assert {"compile", "load", "Model", "Board", "Run", "UserError"} <= set(dir(ondevice))
    for name in ondevice.__all__:
        assert getattr(ondevice, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ondevice.nothing


def test_keyword_arguments_are_all_keys_of_the_configuration() -> None:
    named = {*signature(ondevice.compile).parameters, *signature(ondevice.Board.fit).parameters}
    known = {item.name for kind in (ModelSettings, TrainingSettings) for item in fields(kind)}
    typed = CompileSettings.__optional_keys__ | TrainingKeywords.__optional_keys__
    sections = {item.name for item in fields(Config)}
    assert typed <= known | sections
    assert known - {"file"} <= typed | named


def test_every_error_is_a_user_error() -> None:
    errors = [name for name in ondevice.__all__ if name.endswith(("Error", "Fault"))]
    assert len(errors) > 8
    assert all(issubclass(getattr(ondevice, name), ondevice.UserError) for name in errors)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_float32_step_is_the_step_of_torchs_sgd(make: Make, batch: int) -> None:
    made = make(dtype="float32", accumulation_steps=batch)
    x, y = samples()
    twin = deepcopy(made.network)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    for start in (0, batch):
        chosen = slice(start, start + batch)
        step = made.board.train_step(x[chosen], y[chosen], learning_rate=0.1)
        loss = nn.functional.cross_entropy(twin(torch.tensor(x[chosen])), torch.tensor(y[chosen]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert step.updates == 1
        assert step.loss == pytest.approx(loss.item(), rel=1e-5)
    state = made.board.checkpoint().state_dict()
    for name, wanted in twin.state_dict().items():
        np.testing.assert_allclose(state[name], wanted, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(state["0.weight"], made.network.state_dict()["0.weight"])


def test_what_a_board_learnt_in_int8_computes_the_same_in_torch_also_through_a_batch_norm(
    make: Make,
) -> None:
    tolerance = 0.08
    made = make(norm=True, dtype="int8")
    x, y = samples()
    for _ in range(2):
        made.board.train_step(x, y, learning_rate=0.05)
    network = deepcopy(made.network).eval()
    network.load_state_dict(made.board.checkpoint().state_dict())
    with torch.no_grad():
        wanted = torch.softmax(network(torch.tensor(x)), dim=1).numpy()
    found = made.board.predict(x)
    np.testing.assert_allclose(found, wanted, atol=tolerance)
    accuracy = made.board.evaluate(x, y).accuracy
    assert accuracy == pytest.approx((wanted.argmax(axis=1) == y).mean(), abs=0.02)
    assert accuracy is not None
    assert accuracy > 0.6
    before = torch.softmax(made.network.eval()(torch.tensor(x)), dim=1).detach().numpy()
    assert np.abs(before - wanted).max() > 2 * tolerance, "training moved it"


def filled(model: ondevice.Model, byte: int) -> ondevice.ModelCheckpoint:
    content = [bytes([byte]) * entry["bytes"] for entry in model.manifest["parameters"]]
    return ondevice.ModelCheckpoint(checkpoint_from_device(model.manifest, 0, content), model)


def test_a_weight_that_is_trained_in_part_goes_back_to_its_channels(tmp_path: Path) -> None:
    scheme = tmp_path / "scheme.toml"
    scheme.write_text("[channels]\n4 = {first = 3}\n")
    network = small_network()
    model = ondevice.compile(
        network, samples(), dtype="float32", scheme=f"sparse:{scheme}", build_dir=tmp_path
    )
    before, after = network.state_dict(), filled(model, 0).state_dict()
    zeros = (after["4.weight"] == 0).reshape(CLASSES, 6, 8)
    assert zeros[:, :3].all()
    torch.testing.assert_close(
        after["4.weight"][~zeros.reshape(CLASSES, -1)],
        before["4.weight"][~zeros.reshape(CLASSES, -1)],
    )
    assert not zeros[:, 3:].any()


def test_a_layer_that_took_up_two_batch_norms_is_refused_by_name(tmp_path: Path) -> None:
    network = small_network(norm=True)
    network.insert(2, deepcopy(network[1]))
    model = ondevice.compile(network, samples(), dtype="float32", build_dir=tmp_path)
    with pytest.raises(ondevice.UserError, match="more than one batch norm was folded into"):
        filled(model, 0).state_dict()


def test_a_replaced_head_is_refused_by_name_and_by_another_models_board(make: Make) -> None:
    made = make(dtype="float32", accumulation_steps=1)
    model = ondevice.compile(
        made.network, samples(), head=4, dtype="float32", board="host",
        build_dir=made.model.build_dir,
    )  # fmt: skip
    checkpoint = filled(model, 0)
    with pytest.raises(ondevice.UserError, match=r"4\.weight was trained with shape"):
        checkpoint.state_dict()
    with pytest.raises(ondevice.UserError, match="the checkpoint is of model"):
        made.board.restore(checkpoint)


def test_a_checkpoint_file_brings_back_what_was_learnt(make: Make, tmp_path: Path) -> None:
    made = make(dtype="float32", accumulation_steps=1)
    x, y = samples()
    made.board.train_step(x, y, learning_rate=0.1)
    learnt = made.board.evaluate()
    made.board.checkpoint().save(tmp_path / "learnt.npz")
    made.board.restore()
    assert made.board.evaluate().loss > learnt.loss
    made.board.restore(made.model.checkpoint(tmp_path / "learnt.npz"))
    assert made.board.evaluate().loss == learnt.loss


def test_a_boards_flash_keeps_what_was_saved_for_the_next_connection(
    make: Make, tmp_path: Path
) -> None:
    model = make(dtype="float32", accumulation_steps=1).model
    flash = tmp_path / "flash.bin"
    with model.connect(flash_file=flash) as board:
        board.train_step(*samples(), learning_rate=0.1)
        learnt = board.evaluate().loss
        number = board.save(loss=learnt)
        board.restore()
        assert board.evaluate().loss > learnt
        assert board.load(number).sequence == number
        assert board.evaluate().loss == learnt
        assert [each.sequence for each in board.saved()] == [number]
    with pytest.raises(ondevice.UserError, match="this board is closed"):
        board.evaluate()
    with model.connect(flash_file=flash, keep=True) as board:
        assert board.evaluate().loss == learnt
    with model.connect(flash_file=flash) as board:
        assert board.evaluate().loss > learnt


def test_a_run_is_what_the_command_line_makes_of_it(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(norm=True, dtype="int8")
    seen: list[str] = []
    run = made.board.fit(
        epochs=2, learning_rate=0.05, name="mine", output=tmp_path,
        on_event=lambda event: seen.append(type(event).__name__),
    )  # fmt: skip
    assert run.path.name.endswith("-mine")
    assert seen[0] == "Started"
    assert run.steps == len(run.losses) == len(run.correct) == 2 * len(made.model.data.x)
    assert run.before is not None
    assert run.after is not None
    assert run.after.loss < run.before.loss
    assert not run.interrupted
    assert run.checkpoint().content.parameter_bytes() == run.parameters.parameter_bytes()
    monkeypatch.setattr(
        sys, "argv",
        ["ondevice", "eval", "--checkpoint", str(run.path / "checkpoint.npz"), "--json",
         "--build-dir", str(made.model.build_dir), "--flash-file", str(tmp_path / "flash.bin")],
    )  # fmt: skip
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert json.loads(capsys.readouterr().out)["accuracy"] == run.after.accuracy
    again = ondevice.Run(run.path)
    np.testing.assert_array_equal(again.losses, run.losses)
    with pytest.raises(ondevice.UserError, match="without its model"):
        again.checkpoint()


def test_fit_goes_on_from_what_the_board_holds(make: Make, tmp_path: Path) -> None:
    made = make(norm=True, dtype="int8")
    made.board.train_step(*samples(), learning_rate=0.05)
    held = made.board.evaluate().loss
    x, y = samples(30)
    run = made.board.fit((x, y, x[:6], y[:6]), steps=5, learning_rate=0.0, output=tmp_path)
    assert run.before is not None
    assert run.before.samples == 6
    assert run.steps == 5
    assert made.board.evaluate().loss == held, "a learning rate of 0 changes nothing"
    with ThreadPoolExecutor(1) as other:  # where no Ctrl-C arrives
        again = other.submit(made.board.fit, steps=1, learning_rate=0.0, output=tmp_path).result()
    assert again.before is not None
    assert again.before.samples == len(made.model.data.x_test), "the model's own data again"


def test_ctrl_c_ends_a_run_after_the_step_and_the_command_line_goes_on_with_it(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = ondevice.Preprocessing(offset=(0.5,), gain=(2.0,))  # which no setting knows
    made = make(norm=True, dtype="int8", preprocessing=how)
    np.testing.assert_allclose(made.model.data.x.mean(), 2 * (samples()[0].mean() - 0.5), atol=0.2)

    def press(event: Event) -> None:
        if isinstance(event, StepTrained) and event.step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    run = made.board.fit(steps=20, output=tmp_path, on_event=press)
    assert run.interrupted
    assert run.steps == run.checkpoint().step == 7
    assert run.after is None
    made.board.close()  # its flash is the command line's now
    arguments = ["--resume", str(run.path), "--build-dir", str(made.model.build_dir)]
    monkeypatch.setattr(sys, "argv", ["ondevice", "train", *arguments])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    resumed = ondevice.Run(run.path)
    assert not resumed.interrupted
    assert resumed.steps == 20
    np.testing.assert_array_equal(resumed.losses[:7], run.losses)


def test_a_simulator_that_dies_is_started_again_where_the_run_was(
    make: Make, tmp_path: Path
) -> None:
    model = make(norm=True, dtype="int8").model
    before = children()
    with model.connect(flash_file=tmp_path / "flash.bin", reconnect_s=60) as board:
        simulators = children() - before
        assert len(simulators) == 1
        board.train_step(*samples(9), learning_rate=0.05)  # fit begins with this, not from new

        def kill(event: Event) -> None:
            if isinstance(event, StepTrained) and event.step == 5 and simulators:
                os.kill(simulators.pop(), signal.SIGKILL)

        run = board.fit(
            steps=20, learning_rate=0.05, checkpoint_every_steps=1000, output=tmp_path,
            on_event=kill,
        )  # fmt: skip
        assert not run.interrupted
        assert run.steps == 20
        assert run.summary["reconnects"] == 1
        learnt = board.checkpoint().content.parameter_bytes()
    with model.connect(flash_file=tmp_path / "other.bin") as board:
        board.train_step(*samples(9), learning_rate=0.05)
        board.fit(steps=20, learning_rate=0.05, output=tmp_path)
        assert board.checkpoint().content.parameter_bytes() == learnt


def children() -> set[int]:
    """Processes that this one has started, by any of its threads."""
    found = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(number) for file in found for number in file.read_text().split()}


def test_html_shows_figures_and_escapes_names(make: Make, tmp_path: Path) -> None:
    made = make(norm=True, dtype="int8")
    run = made.board.fit(steps=10, output=tmp_path)
    assert run._repr_html_().count('src="data:image/png;base64,') == 2  # curves, confusion
    html = made.model._repr_html_()
    assert "operators of a training step" in html
    assert f"{made.model.ram_bytes:,} B" in html
    confusion = np.eye(2, dtype=np.int64)
    evil = ondevice.Evaluation(2, 1.0, 0.1, confusion, ("<script>", "b"))
    assert "<script>" not in evil._repr_html_()
    assert evil.plot().png().startswith(b"\x89PNG")
    with pytest.raises(ondevice.UserError, match="has no confusion"):
        ondevice.Evaluation(2, None, 0.1).plot()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((3, 10)), 0, r"x has shape \[3, 10\].*takes \[2, 10\], or \[n, 2, 10\]"),
        (np.zeros((4, 2, 10)), [0, 1], "x has 4 samples but y has 2 labels"),
        (np.zeros((4, 2, 10)), 0, "x has 4 samples but y has 1 labels"),
        (np.full((2, 10), np.nan), 0, "is nan"),
        (np.zeros((2, 10)), CLASSES, "allowed labels: 0 to 2"),
        (np.zeros((2, 10)), 0.5, "cross_entropy needs integer class labels"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_before_it_is_sent(
    make: Make, x: Any, y: Any, message: str
) -> None:
    made = make(dtype="float32", accumulation_steps=1)
    done = made.board.telemetry().step
    with pytest.raises(ondevice.DataError, match=message):
        made.board.train_step(x, y)
    assert made.board.telemetry().step == done


@pytest.mark.parametrize("rate", [-0.1, float("nan"), float("inf")])
def test_a_learning_rate_that_is_none_is_refused(make: Make, rate: float) -> None:
    made = make(dtype="float32", accumulation_steps=1)
    with pytest.raises(ondevice.UserError, match="allowed: 0 or more, and finite"):
        made.board.train_step(*samples(3), learning_rate=rate)


def test_a_batch_of_no_whole_updates_is_refused(make: Make) -> None:
    made = make(dtype="float32", accumulation_steps=4)
    with pytest.raises(ondevice.DataError, match="allowed are multiples of 4"):
        made.board.train_step(*samples(6))


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((small_network(), samples()), {"momentun": 0.5}, "unknown setting momentun"),
        ((small_network(), samples()), {"dtype": "int4"}, "model.dtype = 'int4': allowed"),
        ((small_network(),), {}, "a module needs its data"),
        ((small_network(), samples()[:1]), {}, "data is a tuple of 1"),
        ((nn.Linear(7, 3), samples()), {}, "torch.export refuses it on a sample"),
        (("none.onnx", samples()), {}, "none.onnx: no such model"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line(
    tmp_path: Path, arguments: tuple[Any, ...], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ondevice.UserError, match=message) as caught:
        ondevice.compile(*arguments, build_dir=tmp_path, **settings)
    assert "\n" not in str(caught.value)


def test_a_model_is_saved_as_a_directory_and_loaded_again(make: Make, tmp_path: Path) -> None:
    made = make(norm=True, dtype="int8")
    saved = made.model.save(tmp_path / "model")
    assert made.model.save(saved) == saved, "an older model is replaced"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    loaded = ondevice.load(saved, samples(), board="host", build_dir=made.model.build_dir)
    assert loaded.manifest == made.model.manifest
    assert loaded.fits("qemu_f405")
    assert loaded.budget("host").board_ram_bytes is None
    with pytest.raises(ondevice.UserError, match="is no compiled model"):
        made.model.save(tmp_path)


def test_arrays_are_normalised_as_the_settings_say_and_new_samples_like_them(
    tmp_path: Path,
) -> None:
    x, y = samples()
    model = ondevice.compile(
        small_network(), (100 * x, y), board="host", normalise={"method": "rms"},
        build_dir=tmp_path,
    )  # fmt: skip
    np.testing.assert_allclose(np.sqrt((model.data.x**2).mean(axis=(0, 2))), 1.0, rtol=1e-4)
    assert model.preprocessing is not None
    raw = 100 * np.moveaxis(model.data.x[:2], 1, -1) / np.array(model.preprocessing.gain) / 100
    np.testing.assert_allclose(model.preprocess(raw), model.data.x[:2], rtol=1e-4)


def test_the_examples_in_the_docstrings_give_what_they_say(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(dtype="float32", accumulation_steps=1)
    monkeypatch.chdir(tmp_path)
    x, y = samples()
    run = made.board.fit(steps=4)
    known = {"ondevice": ondevice, "model": made.model, "board": made.board, "x": x, "y": y}
    known |= {"network": deepcopy(made.network), "run": run}
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for module in (compilation, run_module, model_checkpoint, board_module):
        for test in finder.find(module, globs=dict(known)):
            runner.run(test)
    assert runner.summarize(verbose=False) == (0, runner.tries)
    assert runner.tries > 10
