"""Training that diverges goes back and goes on; training that is only noisy does not."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from ondevice.compiled_model import ModelDirectory, load_model_directory
from ondevice.config import DeviceSettings, TrainingSettings
from ondevice.data import Dataset
from ondevice.errors import DeviceError, LinkError
from ondevice.events import Event, ParametersRead, RolledBack, StepTrained
from ondevice.link.device import Device
from ondevice.outcome import TrainingOutcome
from ondevice.reconnect import Recovery
from ondevice.rollback import DivergenceWatch, KeptStates, TrainingDivergedError, uninformed_loss
from ondevice.target import open_target, target_board
from ondevice.train import run_training

INPUTS = 8


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> ModelDirectory:
    """A linear regression in float32: it diverges above a rate that can be computed."""
    torch = pytest.importorskip("torch")
    from ondevice_compiler import CompileOptions, compile_model

    folder = tmp_path_factory.mktemp("regression")
    torch.manual_seed(0)
    module = torch.nn.Linear(INPUTS, 1).eval()
    torch.export.save(torch.export.export(module, (torch.zeros(1, INPUTS),)), folder / "net.pt2")
    data = samples()
    options = CompileOptions(name="regression", dtype="float32", loss="mse")
    compile_model(folder / "net.pt2", data.x, data.y, options).write(folder / "model")
    return load_model_directory(folder / "model")


def samples() -> Dataset:
    """Every sample has the squared norm 8, so a step changes its own error by 1 - 16 * rate."""
    draw = np.random.default_rng(3)
    x = draw.choice(np.array([-1.0, 1.0], dtype=np.float32), size=(48, INPUTS))
    y = (x @ np.arange(INPUTS, dtype=np.float32) / 8.0 + 1.0)[:, None].astype(np.float32)
    return Dataset(x[:40], y[:40], x[40:], y[40:])


@pytest.fixture(scope="module")
def device(
    regression: ModelDirectory, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Device]:
    settings = DeviceSettings(board="host")
    build = tmp_path_factory.mktemp("build")
    target = open_target(settings, target_board(settings), regression, build, True)
    with target.device as device:
        yield device


def no_link() -> Device:
    raise LinkError("there is no other")


def train(
    device: Device, model: ModelDirectory, settings: TrainingSettings, events: list[Event]
) -> TrainingOutcome:
    device.reset_model()
    recovery = Recovery(no_link, lambda device: device.reset_model(), 0.0)
    return run_training(
        device, model.manifest, samples(), settings, events.append, recovery=recovery
    )


def settings(rate: float, **changes: object) -> TrainingSettings:
    base = {"steps": 400, "learning_rate": rate, "learning_rate_schedule": "constant"}
    return TrainingSettings(**{**base, **changes})  # type: ignore[arg-type]


def rollbacks(events: list[Event]) -> list[RolledBack]:
    return [event for event in events if isinstance(event, RolledBack)]


def test_a_loss_that_overflows_halves_the_rate_until_training_converges(
    device: Device, regression: ModelDirectory
) -> None:
    events: list[Event] = []
    outcome = train(device, regression, settings(0.4), events)
    found = rollbacks(events)
    assert [event.rate_scale for event in found] == [0.5, 0.25]  # 0.4 and 0.2 are above 2/16
    assert "not a finite number" in found[0].reason
    assert all(event.origin == "start" for event in found)  # before the first checkpoint
    assert outcome.rollbacks == 2
    assert outcome.after is not None
    assert outcome.after.loss < 1e-3
    assert [e.learning_rate for e in events if isinstance(e, StepTrained)][-1] == pytest.approx(0.1)
    # From there on it is the run at that rate, byte for byte.
    calm = train(device, regression, settings(0.1), [])
    assert outcome.parameters == calm.parameters
    assert outcome.counters.trained == calm.counters.trained == 400


@pytest.mark.parametrize("origin", ["board", "host"])
def test_a_loss_that_grows_goes_back_to_the_best_checkpoint(
    device: Device, regression: ModelDirectory, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if origin == "host":  # as with a board that has no flash for checkpoints
        info = replace(device.info, keeps_checkpoints=False)
        monkeypatch.setattr(device, "_info", info)
    # The rate rises to where it diverges, after the first checkpoints.
    events: list[Event] = []
    rising = settings(0.16, warmup_steps=400, steps=500, checkpoint_every_steps=40)
    outcome = train(device, regression, rising, events)
    (found,) = rollbacks(events)
    assert "times the best so far" in found.reason
    assert found.origin == origin
    assert 0 < found.step < found.diverged_step
    assert found.step % 40 == 0
    assert outcome.after is not None
    assert outcome.after.loss < 0.05
    kept = [event.step for event in events if isinstance(event, ParametersRead)]
    after = kept[kept.index(max(step for step in kept if step < found.diverged_step)) + 1]
    assert after == found.step  # the state that it went back to is the newest again


def test_training_that_diverges_at_any_rate_stops_in_one_line_with_the_best_parameters(
    device: Device, regression: ModelDirectory
) -> None:
    events: list[Event] = []
    with pytest.raises(TrainingDivergedError, match=r"after 2 rollbacks and at a .* 25: .*--lr"):
        train(device, regression, settings(100.0, rollbacks=2), events)
    assert len(rollbacks(events)) == 2
    read = [event for event in events if isinstance(event, ParametersRead)]
    assert all(np.isfinite(np.frombuffer(p, "<f4")).all() for p in read[-1].parameters[:2])


def test_rollbacks_can_be_switched_off(device: Device, regression: ModelDirectory) -> None:
    with pytest.raises(DeviceError, match="not a finite number"):
        train(device, regression, settings(0.4, rollbacks=0), [])


def test_the_factor_can_be_switched_off(device: Device, regression: ModelDirectory) -> None:
    for factor, expected in ((5.0, True), (0.0, False)):
        events: list[Event] = []
        growing = settings(0.13, steps=250, rollback_factor=factor)
        train(device, regression, growing, events)
        assert bool(rollbacks(events)) is expected


def watched(losses: list[float], factor: float, classes: int | None) -> int:
    """The step at which it is noticed, from 1; 0: never."""
    manifest = {"loss": "cross_entropy" if classes else "mse", "output": {"count": classes}}
    watch = DivergenceWatch(factor, uninformed_loss(manifest))
    return next((step for step, loss in enumerate(losses, 1) if watch.add(loss)), 0)


@pytest.mark.parametrize("classes", [2, 7, 100])
@pytest.mark.parametrize("right", [0.7, 0.9, 0.98])
def test_a_model_that_is_wrong_now_and_then_has_not_diverged(classes: int, right: float) -> None:
    """Most losses near 0, some large: what a batch of 1 gives, over many runs."""
    draw = np.random.default_rng(classes)
    for _ in range(20):
        wrong = draw.random(2000) > right
        losses = np.where(wrong, draw.exponential(1.5 * math.log(classes), 2000), 0.02)
        assert watched(list(losses), 5.0, classes) == 0


def test_a_model_that_forgets_everything_is_noticed_within_a_window() -> None:
    good, broken = [0.05] * 200, [1.5 * math.log(7)] * 100
    assert 200 < watched(good + broken, 5.0, 7) <= 300
    assert watched(good + broken, 0.0, 7) == 0
    assert 300 < watched([1.0] * 100 + good + [3.0] * 100, 5.0, None) <= 400


def test_a_state_that_diverges_at_once_is_not_gone_back_to_twice() -> None:
    states = KeptStates()
    states.keep(ParametersRead(40, ()), 1.0)
    states.keep(ParametersRead(80, ()), 0.5)
    assert states.best is not None
    assert states.best.step == 80
    states.diverged_at(85)  # the first time: 80 is not to blame yet
    assert states.trusts(80, 0.5)
    states.returned = states.best
    states.diverged_at(82)
    assert not states.trusts(80, 0.5)
    assert states.best is None
