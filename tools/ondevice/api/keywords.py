"""Keyword arguments that are keys of the configuration: their types, for editors and checkers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict


class CompileSettings(TypedDict, total=False):
    """Of `ondevice.compile`: [model]'s keys that it does not name, and other sections.

    See `ondevice.config.ModelSettings` and docs/data.md.
    """

    head: int
    label_smoothing: float
    momentum: float
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    clip_norm: float
    clip_value: float
    accumulation_steps: int
    dp_clip_norm: float
    dp_noise_multiplier: float
    compress: str
    compress_ratio: float
    proximal: bool
    reorder: bool
    patch: bool
    in_place: bool
    remat_macs_cap: float
    tuning: Path
    window: Mapping[str, Any]
    normalise: Mapping[str, Any]
    image: Mapping[str, Any]
    audio: Mapping[str, Any]


class TrainingKeywords(TypedDict, total=False):
    """Of `Board.fit`: [training]'s keys that it does not name.

    See `ondevice.config.TrainingSettings`.
    """

    learning_rate_schedule: str
    warmup_steps: int
    learning_rate_step_every: int
    learning_rate_step_factor: float
    seed: int
    checkpoint_every_steps: int
    evaluate_each_epoch: bool
    rollback_factor: float
    rollbacks: int
