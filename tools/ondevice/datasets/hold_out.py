"""What is trained on and what is held out to measure with, where the data do not say."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.recordings import Recording

CLIP_WINDOWS = 3  # a recording shorter than so many windows is held out whole, or not at all


def split_recordings(recordings: Sequence[Recording], share: float, window: int) -> list[Recording]:
    """Says of every recording what is held out of it.

    The end of a long recording is, one window behind what is trained on, so that no held-out
    window resembles a training window by overlap. Short ones are held out whole, a share of each
    class.

    Args:
        recordings: Those with `held_out` set stay as they are.
        share: Of the samples, 0 to below 1.
        window: Length of a window in samples.

    Returns:
        Recordings that are to train on or held out; a long one becomes two.
    """
    found: list[Recording] = []
    clips: list[Recording] = []
    for recording in recordings:
        if recording.held_out is not None:
            found.append(recording)
        elif len(recording.values) < CLIP_WINDOWS * window:
            clips.append(recording)
        else:
            found += _split_in_time(recording, share, window)
    chosen = split_samples([clip.label for clip in clips], share)
    parts = zip(clips, chosen, strict=True)
    return [*found, *(replace(clip, held_out=bool(part)) for clip, part in parts)]


def _split_in_time(recording: Recording, share: float, window: int) -> list[Recording]:
    length = len(recording.values)
    if share == 0:
        return [replace(recording, held_out=False)]
    held_out = min(max(round(share * length), window), length - 2 * window)
    return [
        replace(recording, values=recording.values[: length - held_out - window], held_out=False),
        replace(recording, values=recording.values[length - held_out :], held_out=True),
    ]


def split_samples(labels: Sequence[Any], share: float, seed: int = 0) -> NDArray[np.bool_]:
    """Chooses that share of each class, at least one of a class with two or more samples.

    Args:
        labels: Of each sample: name, number or targets (which are all one class).
        share: 0 to below 1.
        seed: Of the choice.

    Returns:
        bool [n]: held out.
    """
    held_out = np.zeros(len(labels), np.bool_)
    generator = np.random.default_rng(seed)
    names = np.array(["" if isinstance(label, np.ndarray) else str(label) for label in labels])
    for name in np.unique(names):
        members = np.flatnonzero(names == name)
        count = round(share * len(members))
        if share > 0 and len(members) > 1:
            count = min(max(count, 1), len(members) - 1)
        held_out[generator.permutation(members)[:count]] = True
    return held_out
