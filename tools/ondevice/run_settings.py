"""Settings that a run's checkpoint brings along: those it was trained with."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ondevice.config import Config, Overrides, load_config
from ondevice.preprocessing import Preprocessing
from ondevice.settings import load_settings
from ondevice.sources import compiled_preprocessing


def settings_for(
    checkpoint: Path | None, config: Path | None, overrides: Overrides
) -> tuple[Config, Preprocessing | None]:
    """Reads the settings of a verb that uses a checkpoint.

    Other data than the run's are treated as the run's were: the same normalisation and classes,
    and the same integer network, which the run's own data calibrated.

    Args:
        checkpoint: A run's checkpoint.npz; None: there is none.
        config: As given on the command line, which wins over the run's config.toml.
        overrides: Values of the command line.

    Returns:
        Settings, and the preprocessing that the run was trained with, where it has any.
    """
    if checkpoint is None or config is not None:
        return load_settings(config, overrides), None
    folder = checkpoint.parent
    if not (folder / "config.toml").is_file():
        return load_settings(None, overrides), None
    before = load_config(folder / "config.toml").data
    given = {key: value for key, value in overrides.get("data", {}).items() if value is not None}
    if "file" in given:
        own: Mapping[str, object] = {"calibration": before.calibration or before.file}
        settings = load_settings(folder / "config.toml", {**overrides, "data": {**own, **given}})
        if "test_file" not in given:
            settings = _without_test_file(settings)
    else:
        settings = load_settings(folder / "config.toml", overrides)
    has_manifest = (folder / "manifest.json").is_file()
    return settings, compiled_preprocessing(folder) if has_manifest else None


def _without_test_file(settings: Config) -> Config:
    """The run's held-out file says nothing of other data."""
    return replace(settings, data=replace(settings.data, test_file=None))
