"""Attacks, labels, defences and scores, against closed forms and known values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from ondevice.errors import UserError
from ondevice.privacy.attack import AttackName, Problem, Reconstruction, attack_of, targets
from ondevice.privacy.audit import common_labels, private_samples
from ondevice.privacy.defences import Defence
from ondevice.privacy.labels import infer_labels
from ondevice.privacy.network import AttackedModule
from ondevice.privacy.score import Judge, matched, similarity
from ondevice.privacy.update import Update, whole
from ondevice.privacy.verdict import first_safe

INPUTS, HIDDEN, CLASSES = 6, 12, 4
SECRET = np.linspace(-1.0, 1.0, INPUTS, dtype=np.float32)[None]
SECRET_LABEL = 2


def make_update(gradients: dict[str, NDArray[Any]], weights: dict[str, NDArray[Any]]) -> Update:
    values = tuple(np.asarray(value, np.float64) for value in gradients.values())
    return Update(
        names=tuple(gradients),
        parts=(None,) * len(gradients),
        weights=tuple(np.asarray(weights[name], np.float64) for name in gradients),
        gradients=values,
        sent=whole(values),
        size_bytes=0,
        updates=1,
        learning_rate=1.0,
    )


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> tuple[AttackedModule, Update]:
    """A network with one hidden layer, and autograd's gradient of one sample."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES))
    path = Path(tmp_path_factory.mktemp("attacked")) / "net.pt2"
    torch.export.save(torch.export.export(network.eval(), (torch.zeros(1, INPUTS),)), path)
    loss = nn.functional.cross_entropy(
        network(torch.from_numpy(SECRET)), torch.tensor([SECRET_LABEL])
    )
    loss.backward()
    module = AttackedModule.load(path)
    names = list(module.arrangement.shapes)
    tensors = dict(zip(names, network.parameters(), strict=True))
    assert [tensor.numel() for tensor in tensors.values()] == [
        int(np.prod(shape)) for shape in module.arrangement.shapes.values()
    ]
    shapes = module.arrangement.shapes
    return module, make_update(
        {name: t.grad.numpy().reshape(shapes[name]) for name, t in tensors.items()},
        {name: t.detach().numpy().reshape(shapes[name]) for name, t in tensors.items()},
    )


def invert(
    module: AttackedModule, update: Update, name: AttackName, seed: int = 0, sent_only: bool = False
) -> Reconstruction:
    attack, iterations = attack_of(name)
    problem = Problem(
        target=module.target(update, sent_only),
        shape=(1, INPUTS),
        classes=CLASSES,
        labels=infer_labels(update, module.arrangement.last_layer, 1),
        label_smoothing=0.0,
        low=-3.0,
        high=3.0,
        centre=0.0,
        spread=1.0,
    )
    return attack(problem, iterations, seed)


def error(found: Reconstruction) -> float:
    return float(np.mean((found.x - SECRET) ** 2))


def test_the_input_is_the_quotient_of_the_first_layers_gradients(
    attacked: tuple[AttackedModule, Update],
) -> None:
    _, update = attacked
    weight, bias = update.gradients[0].reshape(HIDDEN, INPUTS), update.gradients[1]
    assert np.allclose(weight / bias.reshape(-1, 1), SECRET, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "limit"), [("dlg", 1e-3), ("idlg", 1e-3), ("cosine", 3e-2)])
def test_an_attack_recovers_sample_and_label_of_a_small_network(
    attacked: tuple[AttackedModule, Update], name: AttackName, limit: float
) -> None:
    tries = [invert(*attacked, name, seed) for seed in range(3)]
    found = min(tries, key=lambda one: one.matching_loss)  # all that an attacker can go by
    assert error(found) < limit
    assert found.labels.tolist() == [SECRET_LABEL]


def test_a_pruned_update_hides_the_sample_from_who_takes_zeros_for_gradients(
    attacked: tuple[AttackedModule, Update],
) -> None:
    module, update = attacked
    pruned = Defence("prune", 0.9).apply(update, seed=0)
    assert error(invert(module, pruned, "idlg")) > 0.05 > error(invert(module, update, "idlg"))


def test_who_matches_only_what_was_sent_sees_through_light_pruning(
    attacked: tuple[AttackedModule, Update],
) -> None:
    module, update = attacked
    pruned = Defence("prune", 0.4).apply(update, seed=0)
    blind = error(invert(module, pruned, "idlg"))
    assert error(invert(module, pruned, "idlg", sent_only=True)) < min(1e-4, blind)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(
    attacked: tuple[AttackedModule, Update],
) -> None:
    noisy = attacked[0], Defence("gaussian", 0.01).apply(attacked[1], seed=3)
    first, second = (invert(*noisy, "cosine", seed=5) for _ in range(2))
    assert first.x.tobytes() == second.x.tobytes()
    assert first.x.tobytes() != invert(*noisy, "cosine", seed=6).x.tobytes()


def test_a_smoothed_label_is_what_pytorch_smooths_it_to(
    attacked: tuple[AttackedModule, Update],
) -> None:
    logits, label = torch.tensor([[0.3, -1.0, 2.0]]), np.array([1])
    problem = Problem(attacked[0].target(attacked[1]), (1, INPUTS), 3, label, 0.2, -1, 1, 0, 1)
    found = -(targets(problem, label) * logits.log_softmax(-1)).sum()
    expected = nn.functional.cross_entropy(logits, torch.from_numpy(label), label_smoothing=0.2)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_an_update_of_a_layer_that_the_module_does_not_have_is_refused(
    attacked: tuple[AttackedModule, Update],
) -> None:
    added = {"lite0.weight": np.zeros((2, 1, 1, 3))}
    with pytest.raises(UserError, match=r"lite0\.weight"):
        attacked[0].target(make_update(added, added))


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_the_label_of_one_sample_is_told_by_the_last_layers_gradient(
    seed: int, classes: int
) -> None:
    generator = np.random.default_rng(seed)
    inputs = generator.uniform(0.0, 1.0, 7)
    logits = generator.normal(0, 2, classes)
    label = int(generator.integers(classes))
    slope = np.exp(logits) / np.exp(logits).sum()
    slope[label] -= 1.0
    gradients = {"fc.weight": np.outer(slope, inputs), "fc.bias": slope}
    update = make_update(gradients, gradients)
    found = infer_labels(update, "fc", 1)
    assert found is not None
    assert found.tolist() == [label]
    only_bias = make_update({"fc.bias": slope}, gradients)
    told = infer_labels(only_bias, "fc", 1)
    assert told is not None
    assert told.tolist() == [label]
    assert infer_labels(make_update({"stem.bias": slope}, {"stem.bias": slope}), "fc", 1) is None


def test_different_labels_of_a_batch_are_the_rows_with_the_lowest_minimum() -> None:
    generator = np.random.default_rng(0)
    inputs, chosen = generator.uniform(0.5, 1.0, (3, 20)), np.array([1, 4, 7])
    slopes = np.full((3, 10), 0.1)  # an untrained network finds all classes as likely
    slopes[np.arange(3), chosen] -= 1.0
    gradients = {"fc.weight": slopes.T @ inputs / 3}
    found = infer_labels(make_update(gradients, gradients), "fc", 3)
    assert found is not None
    assert found.tolist() == chosen.tolist()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.5, 0.9, 0.99]))
def test_pruning_keeps_the_largest_elements_alone(seed: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    gradients = {"a.weight": generator.normal(size=(10, 30)), "a.bias": generator.normal(size=100)}
    update = make_update(gradients, gradients)
    pruned = Defence("prune", share).apply(update, seed=0)
    assert pruned.sent_elements == max(round(400 * (1 - share)), 1)
    before, after, kept = (
        np.concatenate([values.reshape(-1) for values in arrays])
        for arrays in (update.gradients, pruned.gradients, pruned.sent)
    )
    assert np.array_equal(after[kept], before[kept])
    assert not after[~kept].any()
    assert np.abs(before[kept]).min() >= np.abs(before[~kept]).max()


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_noise_has_the_variance_that_was_asked_for(kind: Any) -> None:
    gradients = {"a.weight": np.zeros((200, 500))}
    noisy = Defence(kind, 0.01).apply(make_update(gradients, gradients), seed=1)
    assert np.var(noisy.gradients[0]) == pytest.approx(0.01, rel=0.05)
    fourth = np.mean(noisy.gradients[0] ** 4) / np.var(noisy.gradients[0]) ** 2
    assert fourth == pytest.approx({"gaussian": 3.0, "laplace": 6.0}[kind], rel=0.1)


def test_scores_have_the_values_of_their_definitions() -> None:
    generator = np.random.default_rng(0)
    data = generator.uniform(0, 1, (20, 1, 8, 8)).astype(np.float32)
    data[0], data[1] = 0.0, 1.0  # the range is 1
    judge = Judge.of(data, np.zeros(20, np.int64), (5, 6))
    same = judge.score(data[5], 0)
    assert same.mse == 0.0
    assert same.ssim == pytest.approx(1.0)
    assert same.recognisable
    shifted = judge.score(data[5] + np.float32(0.1), 0)
    assert shifted.mse == pytest.approx(0.01, rel=1e-4)
    assert shifted.psnr_db == pytest.approx(20.0, abs=0.01)
    assert shifted.recognisable
    inverted = judge.score(np.float32(0.9) * (1 - data[5]), 0)
    assert inverted.ssim is not None
    assert inverted.ssim < 0.5
    assert not inverted.recognisable
    other = judge.score(data[6], 0)
    assert not other.identified
    assert not other.recognisable


def test_what_is_less_like_its_sample_than_others_of_the_class_are_is_not_recognisable() -> None:
    data = np.zeros((3, 4), np.float32)
    data[1], data[2] = 1.0, 1.2
    judge = Judge.of(data, np.array([0, 0, 0]), (0,))
    assert judge.typical_mse[0] == pytest.approx(np.mean([1.0, 1.44]))
    far = judge.score(np.full(4, -2.0, np.float32), 0)
    assert far.identified
    assert not far.recognisable


def test_ssim_is_known_where_there_is_a_window_and_only_there() -> None:
    ones = np.ones((1, 5, 5), np.float32)
    expected = 1e-4 / (1 + 1e-4)  # of two constants 0 and 1: C1 / (1 + C1), C1 = 0.01^2
    assert similarity(0 * ones, ones, 1.0) == pytest.approx(expected, rel=1e-3)
    assert similarity(np.ones(9, np.float32), np.ones(9, np.float32), 1.0) is None


@given(st.permutations(range(5)))
def test_the_samples_of_a_batch_are_matched_whatever_their_order(order: list[int]) -> None:
    private = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    found = private[order] + np.float32(0.01)
    assert np.array_equal(found[matched(found, private)] - np.float32(0.01), private)


def test_labels_are_counted_as_often_as_both_batches_have_them() -> None:
    assert common_labels(np.array([1, 1, 2]), np.array([1, 2, 2])) == 2
    assert common_labels(np.array([0, 3]), np.array([1, 2])) == 0


def test_private_samples_are_of_different_classes_as_long_as_there_are_some() -> None:
    y = np.array([0] * 50 + [1] * 3 + [2] * 3)
    chosen = private_samples(y, 4, seed=0)
    assert sorted(y[list(chosen[:3])].tolist()) == [0, 1, 2]
    assert len(set(chosen)) == 4
    assert private_samples(y, 4, seed=0) == chosen


@pytest.mark.parametrize(
    ("recognisable", "index"), [([3, 2, 0, 0], 2), ([0, 1, 0], 2), ([1], None), ([0, 0], 0)]
)
def test_a_sweep_is_safe_from_where_nothing_is_recognisable_any_more(
    recognisable: list[int], index: int | None
) -> None:
    assert first_safe(recognisable) == index
