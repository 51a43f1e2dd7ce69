"""The demo's data are split fairly, and its model is as good, and as bad, as is said of it."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from ondevice import demo
from ondevice.data import load_dataset
from ondevice.demo.watch import axis_rms
from ondevice.errors import UserError
from ondevice.sources import demo_calibration, demo_dataset, demo_model

WINDOW_SAMPLES = 100
# Correctly classified test windows of the pretrained model: as pretrained, watch rotated, of how
# many. Measured once, when watch.onnx was written.
CORRECT = {
    6: (137, 49, 152),
    7: (148, 53, 171),
    8: (119, 48, 156),
    9: (139, 38, 156),
    10: (129, 51, 168),
}

Position = tuple[int, int]  # recording, sample


@pytest.fixture(scope="module")
def recordings() -> dict[str, Any]:
    """The data as the package has them, read without the code under test."""
    spec = find_spec("seglearn")
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin).parent / "data" / "watch_dataset.npy"
    loaded: dict[str, Any] = np.load(file, allow_pickle=True).item()
    return loaded


@pytest.fixture(scope="module")
def positions(recordings: dict[str, Any]) -> dict[bytes, Position]:
    """Where each sample, as bytes of a window's column, is from."""
    found: dict[bytes, Position] = {}
    for index, samples in enumerate(recordings["X"]):
        columns = (samples / axis_rms()).astype(np.float32)
        for time, column in enumerate(columns):
            found[column.tobytes()] = (index, time)
    # Six floats identify a sample: were some equal, they could not tell where one is from.
    assert len(found) == sum(map(len, recordings["X"]))
    return found


def _origins(x: Iterable[NDArray[np.float32]], where: dict[bytes, Position]) -> list[Position]:
    """Recording and first sample of each window, having checked that all of it is in order."""
    starts = []
    for window in x:
        columns = [where[column.tobytes()] for column in np.ascontiguousarray(window.T)]
        recording, start = columns[0]
        assert columns == [(recording, start + offset) for offset in range(WINDOW_SAMPLES)]
        starts.append((recording, start))
    return starts


@pytest.mark.parametrize("person", demo.UNSEEN_PEOPLE)
def test_no_raw_sample_is_both_adapted_to_and_tested_on(
    person: int, recordings: dict[str, Any], positions: dict[bytes, Position]
) -> None:
    split = demo.wearer_split(person, rotated=False)
    adaptation = _origins(split.adapt_x, positions)
    test = _origins(split.test_x, positions)
    own = set(np.flatnonzero(recordings["subject"] == person))
    assert {recording for recording, _ in adaptation} == own
    assert {recording for recording, _ in test} == own
    for recording in own:
        last = max(start for r, start in adaptation if r == recording) + WINDOW_SAMPLES
        first = min(start for r, start in test if r == recording)
        assert first - last >= WINDOW_SAMPLES
        assert last <= 0.3 * len(recordings["X"][recording])


@pytest.mark.parametrize("person", demo.UNSEEN_PEOPLE)
def test_windows_have_the_labels_of_their_recordings(
    person: int, recordings: dict[str, Any], positions: dict[bytes, Position]
) -> None:
    split = demo.wearer_split(person, rotated=False)
    for x, y in ((split.adapt_x, split.adapt_y), (split.test_x, split.test_y)):
        expected = [int(recordings["y"][recording]) for recording, _ in _origins(x, positions)]
        assert y.tolist() == expected
        assert set(expected) == set(range(len(split.class_names)))


def test_no_person_is_in_both_sets(
    recordings: dict[str, Any], positions: dict[bytes, Position]
) -> None:
    def people(x: NDArray[np.float32]) -> set[int]:
        return {int(recordings["subject"][index]) for index, _ in _origins(x, positions)}

    pretraining = people(demo.pretraining_set()[0])
    assert people(demo.calibration_set()[0]) <= pretraining
    unseen = [people(demo.wearer_split(p, rotated=False).test_x) for p in demo.UNSEEN_PEOPLE]
    assert pretraining == set(demo.PRETRAINING_PEOPLE)
    assert unseen == [{person} for person in demo.UNSEEN_PEOPLE]
    assert pretraining.isdisjoint(set().union(*unseen))


def test_samples_are_normalised_by_the_pretraining_people_alone(recordings: dict[str, Any]) -> None:
    people = np.asarray(recordings["subject"])
    samples = np.concatenate(
        [x for x, p in zip(recordings["X"], people, strict=True) if p in (1, 2, 3, 4, 5)]
    )
    np.testing.assert_allclose(axis_rms() ** 2, np.mean(samples**2, axis=0), rtol=1e-12)


def test_a_rotated_watch_sees_the_same_with_two_axes_reversed_on_either_sensor() -> None:
    upright, rotated = (demo.wearer_split(6, rotated) for rotated in (False, True))
    for axis, sign in enumerate((-1, -1, 1, -1, -1, 1)):
        np.testing.assert_array_equal(rotated.adapt_x[:, axis], sign * upright.adapt_x[:, axis])
        np.testing.assert_array_equal(rotated.test_x[:, axis], sign * upright.test_x[:, axis])
    np.testing.assert_array_equal(rotated.test_y, upright.test_y)


def test_windows_are_in_source_layout_and_of_the_stated_types() -> None:
    split = demo.wearer_split(demo.DEFAULT_PERSON, rotated=True)
    assert split.adapt_x.shape == (129, 6, WINDOW_SAMPLES)
    assert split.test_x.shape == (152, 6, WINDOW_SAMPLES)
    assert split.adapt_x.dtype == split.test_x.dtype == np.float32
    assert split.adapt_y.dtype == split.test_y.dtype == np.int64
    x, y = demo.calibration_set()
    assert x.shape == (64, 6, WINDOW_SAMPLES)
    assert set(y.tolist()) == set(range(7))


@pytest.mark.parametrize("person", [0, 1, 5, 11])
def test_a_person_who_is_not_unseen_is_refused(person: int) -> None:
    with pytest.raises(UserError, match=f"person {person}.*6, 7, 8, 9, 10"):
        demo.wearer_split(person, rotated=False)


def test_a_data_file_holds_the_split(tmp_path: Path) -> None:
    split = demo.wearer_split(9, rotated=True)
    path = tmp_path / "wearer.npz"
    demo.write_npz(path, split)
    read = load_dataset(path)
    np.testing.assert_array_equal(read.x, split.adapt_x)
    np.testing.assert_array_equal(read.y, split.adapt_y)
    np.testing.assert_array_equal(read.x_test, split.test_x)
    np.testing.assert_array_equal(read.y_test, split.test_y)
    assert read.class_names == split.class_names
    assert [file.name for file in tmp_path.iterdir()] == ["wearer.npz"]


def test_the_command_line_gets_the_default_wearer_with_the_watch_rotated() -> None:
    data = demo_dataset()
    split = demo.wearer_split(demo.DEFAULT_PERSON, rotated=True)
    np.testing.assert_array_equal(data.x, split.adapt_x)
    np.testing.assert_array_equal(data.x_test, split.test_x)
    assert data.class_names == split.class_names
    assert len(demo_calibration()[0]) == 64


@pytest.mark.parametrize("person", demo.UNSEEN_PEOPLE)
def test_the_pretrained_model_recognises_as_many_windows_as_stated(person: int) -> None:
    session = onnxruntime.InferenceSession(demo_model())
    for rotated, expected in zip((False, True), CORRECT[person][:2], strict=True):
        split = demo.wearer_split(person, rotated)
        assert len(split.test_y) == CORRECT[person][2]
        correct = sum(
            int(np.argmax(session.run(None, {"x": x[None]})[0])) == y
            for x, y in zip(split.test_x, split.test_y, strict=True)
        )
        # Another version of onnxruntime may sum in another order and turn a tie.
        assert abs(correct - expected) <= 1


def test_the_model_file_is_small_and_its_parameters_are_named_for_their_layers() -> None:
    assert demo_model().stat().st_size < 100_000
    graph = onnx.load(demo_model()).graph
    layers = ("stem", "depthwise", "pointwise", "residual", "head")
    assert {tensor.name for tensor in graph.initializer} == {
        f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")
    }
    assert sum(int(np.prod(tensor.dims)) for tensor in graph.initializer) == 4471
    assert [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [1, 6, 100]
