"""From what was read to what a model is trained on: held out, cut, normalised, numbered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.config import Config
from ondevice.data import DataError, Dataset, make_dataset
from ondevice.datasets.hold_out import split_recordings, split_samples
from ondevice.datasets.images import augmented
from ondevice.preprocessing import (
    Preprocessing,
    cut_windows,
    preprocessing_for,
    with_normalisation,
)
from ondevice.recordings import Recording, Recordings, Samples


@dataclass(frozen=True)
class Part:
    """Training or held-out samples before features and normalisation.

    Attributes:
        values: float32 [n, ..., channels].
        labels: Of each: name, number or targets.
    """

    values: NDArray[np.float32]
    labels: tuple[Any, ...]


def assemble(
    raw: Recordings | Samples,
    test: Recordings | Samples | None,
    config: Config,
    given: Preprocessing | None = None,
) -> tuple[Dataset, Preprocessing]:
    """Makes a data set.

    Args:
        raw: What was read.
        test: What was read from `data.test_file`; None: it is held out of `raw`.
        config: Window, normalisation, augmentation.
        given: A model's own preprocessing, which wins over the settings; None: fit one.

    Raises:
        DataError: Nothing is left to train on or to measure with, or labels do not agree.
    """
    preprocessing = given if given is not None else _declared(raw, config)
    if isinstance(raw, Recordings):
        parts = _parts_of_recordings(raw, test, config, preprocessing)
    else:
        parts = _parts_of_samples(raw, test, config)
    train, held_out = parts
    _check_not_empty(train, held_out, raw.source)
    class_names = preprocessing.class_names or _class_names(train.labels)
    preprocessing = replace(preprocessing, class_names=class_names)
    features = preprocessing.with_features(train.values)
    if given is None:
        preprocessing = with_normalisation(preprocessing, config.normalise, features)
    dataset = make_dataset(
        {
            "x": preprocessing.finish(features),
            "y": _numbers(train.labels, class_names, raw.source),
            "x_test": preprocessing.apply(held_out.values),
            "y_test": _numbers(held_out.labels, class_names, raw.source),
            "class_names": np.array(class_names, dtype=str),
        },
        raw.source,
    )
    return dataset, preprocessing


def assemble_arrays(
    dataset: Dataset, config: Config, given: Preprocessing | None = None
) -> tuple[Dataset, Preprocessing | None]:
    """Normalises arrays that have the model's axes already, where the settings say so.

    Args:
        dataset: Of an .npz file: x [n, ...sample shape].
        config: Normalisation, and the layout, which says which axis the channels are.
        given: A model's own preprocessing, which wins over the settings.
    """
    if given is None and config.normalise.method == "none":
        return dataset, None
    layout = given.layout if given is not None else config.window.layout
    last = [_channels_last(x, layout) for x in (dataset.x, dataset.x_test)]
    if given is not None:
        preprocessing = given
    else:
        declared = replace(preprocessing_for(config.window), class_names=dataset.class_names)
        preprocessing = with_normalisation(declared, config.normalise, last[0])
    x, x_test = (preprocessing.finish(values) for values in last)
    return replace(dataset, x=x, x_test=x_test), preprocessing


def _channels_last(x: NDArray[np.float32], layout: str) -> NDArray[np.float32]:
    return np.moveaxis(x, 1, -1) if layout == "channels_first" else x


def _declared(raw: Recordings | Samples, config: Config) -> Preprocessing:
    rate_hz = raw.rate_hz if isinstance(raw, Recordings) else None
    audio = config.audio if config.audio.features != "none" else None
    return preprocessing_for(config.window, raw.channels, rate_hz, audio)


def _parts_of_recordings(
    raw: Recordings, test: Recordings | Samples | None, config: Config, how: Preprocessing
) -> tuple[Part, Part]:
    length, stride = how.window_samples, how.stride_samples
    if length is None or stride is None:
        raise DataError(f"{raw.source}: recordings are cut into windows: set window.samples")
    if test is None:
        recordings = split_recordings(raw.recordings, config.data.test_share, length)
    else:
        assert isinstance(test, Recordings)  # the same reader read it
        _check_channels(raw, test)
        recordings = [replace(recording, held_out=False) for recording in raw.recordings]
        recordings += [replace(recording, held_out=True) for recording in test.recordings]
    train = [recording for recording in recordings if not recording.held_out]
    held_out = [recording for recording in recordings if recording.held_out]
    return _cut(train, length, stride), _cut(held_out, length, length)


def _cut(recordings: Sequence[Recording], length: int, stride: int) -> Part:
    windows = [cut_windows(recording.values, length, stride) for recording in recordings]
    labels = tuple(
        recording.label
        for recording, cut in zip(recordings, windows, strict=True)
        for _ in range(len(cut))
    )
    shape = recordings[0].values.shape[1:] if recordings else ()
    values = np.concatenate(windows) if windows else np.empty((0, length, *shape), np.float32)
    return Part(values, labels)


def _parts_of_samples(
    raw: Samples, test: Recordings | Samples | None, config: Config
) -> tuple[Part, Part]:
    if test is not None:
        assert isinstance(test, Samples)  # the same reader read it
        _check_channels(raw, test)
        train, held_out = Part(raw.values, raw.labels), Part(test.values, test.labels)
    else:
        chosen = np.array(
            raw.held_out
            if raw.held_out is not None
            else split_samples(raw.labels, config.data.test_share)
        )
        train, held_out = (_chosen(raw, np.flatnonzero(part)) for part in (~chosen, chosen))
    return _with_copies(train, config), held_out


def _chosen(raw: Samples, indices: NDArray[np.intp]) -> Part:
    return Part(raw.values[indices], tuple(raw.labels[index] for index in indices))


def _with_copies(part: Part, config: Config) -> Part:
    """Adds the augmented copies of pictures, which are the same in every run."""
    copies = config.image.copies
    if copies == 0 or part.values.ndim != 4:
        return part
    generator = np.random.default_rng(0)
    made = [augmented(p, config.image, generator) for _ in range(copies) for p in part.values]
    return Part(np.concatenate([part.values, np.stack(made)]), part.labels * (1 + copies))


def _check_channels(raw: Recordings | Samples, test: Recordings | Samples) -> None:
    if raw.channels != test.channels:
        raise DataError(
            f"{test.source}: its channels are {', '.join(test.channels)}, but those of "
            f"{raw.source} are {', '.join(raw.channels)}; choose with data.columns"
        )


def _check_not_empty(train: Part, held_out: Part, source: str) -> None:
    if not len(train.values):
        raise DataError(
            f"{source}: nothing to train on: every recording is shorter than a window; "
            "lower window.samples"
        )
    if not len(held_out.values):
        raise DataError(
            f"{source}: nothing is held out to measure with; raise data.test_share, or give "
            "data.test_file"
        )
    if isinstance(train.labels[0], np.ndarray):
        return
    missing = {str(label) for label in held_out.labels} - {str(label) for label in train.labels}
    if missing:
        raise DataError(
            f"{source}: nothing of class {sorted(missing)[0]!r} is left to train on; "
            "record more of it, or leave it out"
        )


def _class_names(labels: Sequence[Any]) -> tuple[str, ...]:
    """The names in order; empty where labels are numbers or targets."""
    if all(isinstance(label, int) for label in labels) or isinstance(labels[0], np.ndarray):
        return ()
    return tuple(sorted({str(label) for label in labels}))


def _numbers(labels: Sequence[Any], class_names: tuple[str, ...], source: str) -> NDArray[Any]:
    if isinstance(labels[0], np.ndarray):
        return np.stack(labels)
    if not class_names:
        return np.array([int(label) for label in labels], np.int64)
    known = {name: index for index, name in enumerate(class_names)}
    unknown = next((str(label) for label in labels if str(label) not in known), None)
    if unknown is not None:
        raise DataError(
            f"{source}: label {unknown!r} is no class of the training data; there are: "
            f"{', '.join(class_names)}"
        )
    return np.array([known[str(label)] for label in labels], np.int64)
