"""Settings of a run: a TOML file, overridden by the command line, as frozen dataclasses."""

import difflib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ondevice.errors import UserError
from ondevice.input_settings import (
    AudioSettings,
    DataSettings,
    ImageSettings,
    NormaliseSettings,
    WindowSettings,
)
from ondevice.schedule import Schedule, ScheduleKind

DEFAULT_EPOCHS = 3


class ConfigError(UserError):
    """A setting is unknown, of the wrong type or outside its range."""


@dataclass(frozen=True)
class ModelSettings:
    """What is compiled; without `file`, the demo's model."""

    file: Path | None = None
    head: int | None = field(default=None, metadata={"minimum": 1, "maximum": 65535})
    scheme: str = "full"
    dtype: str = field(default="int8", metadata={"allowed": ("int8", "float32")})
    loss: str = field(
        default="cross_entropy",
        metadata={"allowed": ("cross_entropy", "binary_cross_entropy", "mse")},
    )
    label_smoothing: float = field(default=0.0, metadata={"minimum": 0.0, "maximum": 0.999})
    optimizer: str = field(default="sgd", metadata={"allowed": ("sgd", "momentum", "adam")})
    momentum: float = field(default=0.9, metadata={"minimum": 0.0, "maximum": 0.999})
    beta1: float = field(default=0.9, metadata={"minimum": 0.0, "maximum": 0.99999})
    beta2: float = field(default=0.999, metadata={"minimum": 0.0, "maximum": 0.99999})
    epsilon: float = field(default=1e-8, metadata={"minimum": 1e-30, "maximum": 1.0})
    weight_decay: float = field(default=0.0, metadata={"minimum": 0.0, "maximum": 1e6})
    clip_norm: float | None = field(default=None, metadata={"minimum": 1e-6, "maximum": 1e6})
    clip_value: float | None = field(default=None, metadata={"minimum": 1e-6, "maximum": 1e6})
    accumulation_steps: int = field(default=1, metadata={"minimum": 1})
    dp_clip_norm: float | None = field(default=None, metadata={"minimum": 1e-6, "maximum": 1e6})
    dp_noise_multiplier: float = field(default=0.0, metadata={"minimum": 0.0, "maximum": 100.0})
    compress: str = field(
        default="none", metadata={"allowed": ("none", "topk", "ternary", "sign", "int8")}
    )
    compress_ratio: float = field(default=0.01, metadata={"minimum": 1e-6, "maximum": 1.0})
    proximal: bool = False
    reorder: bool = True
    patch: bool = True
    in_place: bool = True
    remat_macs_cap: float = field(default=0.0, metadata={"minimum": 0.0, "maximum": 1.0})
    tuning: Path | None = None


@dataclass(frozen=True)
class DeviceSettings:
    """Where it is trained; without `board`, the simulated default, or whatever is at `port`.

    A lost link is opened again for at most `reconnect_s`; 0: never.
    Without `allow_export`, samples, gradients and optimiser state leave only host and QEMU boards.
    `flash_file` is where a simulated board keeps its checkpoints; without it, in the build folder
    by board and model. `sensor_file` is what a simulated board's own sensor plays (docs/sensor.md).
    """

    board: str | None = None
    port: str | None = None
    flash: bool = False
    flash_file: Path | None = None
    sensor_file: Path | None = None
    reconnect_s: float = field(default=60.0, metadata={"minimum": 0.0, "maximum": 1e6})
    key_file: Path | None = None
    allow_export: bool | None = None


@dataclass(frozen=True)
class TrainingSettings:
    """How it is trained.

    `steps` and `epochs` exclude each other. The schedule's steps are updates: samples, divided by
    `accumulation_steps`. Without `learning_rate_step_every` there are three equal parts.

    Where the loss is no number, or its mean exceeds `rollback_factor` times the best mean so far
    (0: does not matter), training goes back to the best checkpoint at half the learning rate, at
    most `rollbacks` times; see docs/reliability.md.

    `evaluate_each_epoch` measures on the held-out samples between epochs, too, which takes a
    forward pass for each of them.
    """

    steps: int | None = field(default=None, metadata={"minimum": 1})
    epochs: int | None = field(default=None, metadata={"minimum": 1})
    learning_rate: float = field(default=0.01, metadata={"minimum": 0.0, "maximum": 1e6})
    learning_rate_schedule: str = field(
        default="linear", metadata={"allowed": ("constant", "linear", "cosine", "step")}
    )
    warmup_steps: int = field(default=0, metadata={"minimum": 0, "maximum": 2**31})
    learning_rate_step_every: int | None = field(
        default=None, metadata={"minimum": 1, "maximum": 2**31}
    )
    learning_rate_step_factor: float = field(default=0.1, metadata={"minimum": 0.0, "maximum": 1.0})
    seed: int = field(default=0, metadata={"minimum": 0})
    checkpoint_every_steps: int | None = field(default=None, metadata={"minimum": 1})
    rollback_factor: float = field(default=5.0, metadata={"minimum": 0.0, "maximum": 1e6})
    rollbacks: int = field(default=3, metadata={"minimum": 0, "maximum": 50})
    evaluate_each_epoch: bool = False

    def total_steps(self, samples: int) -> int:
        """Returns the number of training steps for a set of `samples`."""
        if self.steps is not None:
            return self.steps
        return samples * (self.epochs if self.epochs is not None else DEFAULT_EPOCHS)

    def schedule(self, total_steps: int, accumulation_steps: int = 1) -> Schedule:
        """Returns the learning rate of a run of `total_steps` training steps."""
        updates = -(-total_steps // accumulation_steps)
        every = self.learning_rate_step_every
        return Schedule(
            kind=ScheduleKind[self.learning_rate_schedule.upper()],
            learning_rate=self.learning_rate,
            total_steps=updates,
            warmup_steps=self.warmup_steps,
            step_every=every if every is not None else max(-(-updates // 3), 1),
            step_factor=self.learning_rate_step_factor,
        )


@dataclass(frozen=True)
class OutputSettings:
    """Where results go: `directory`/DATE-`name`, and to TensorBoard and MLflow where asked for.

    `mlflow` is the URI of a tracking server or store, or a folder.
    """

    directory: Path = Path("runs")
    name: str | None = None
    tensorboard: Path | None = None
    mlflow: str | None = None


@dataclass(frozen=True)
class FederateSettings:
    """How boards learn together; see docs/federated.md.

    The learning rate and its schedule, over rounds, are [training]'s. `boards` says how many of
    which kind a simulated fleet has, as "qemu_f405*4,host*4"; without it, `clients` of
    [device] board. `split` says whose data each has: a wearer's (of the demo), or shares of
    [data]'s by label ("dirichlet", "iid"); `client_data` is a folder with a file or folder for
    each client instead.
    """

    strategy: str = field(default="fedavg", metadata={"allowed": ("fedavg", "fedprox", "fedadam")})
    rounds: int = field(default=20, metadata={"minimum": 1})
    clients: int = field(default=8, metadata={"minimum": 1, "maximum": 10000})
    boards: str | None = None
    fraction: float = field(default=1.0, metadata={"minimum": 0.001, "maximum": 1.0})
    min_clients: int = field(default=1, metadata={"minimum": 1})
    local_epochs: int = field(default=1, metadata={"minimum": 1})
    proximal_mu: float = field(default=0.1, metadata={"minimum": 0.0, "maximum": 1e3})
    server_learning_rate: float = field(default=0.01, metadata={"minimum": 1e-9, "maximum": 1e3})
    server_beta1: float = field(default=0.9, metadata={"minimum": 0.0, "maximum": 0.9999})
    server_beta2: float = field(default=0.99, metadata={"minimum": 0.0, "maximum": 0.9999})
    server_tau: float = field(default=1e-3, metadata={"minimum": 1e-12, "maximum": 1.0})
    round_timeout_s: float = field(default=600.0, metadata={"minimum": 1.0, "maximum": 1e6})
    evaluate_every: int = field(default=1, metadata={"minimum": 1})
    client_data: Path | None = None
    split: str = field(default="wearer", metadata={"allowed": ("wearer", "dirichlet", "iid")})
    dirichlet_alpha: float = field(default=0.5, metadata={"minimum": 1e-3, "maximum": 1e3})


@dataclass(frozen=True)
class Config:
    """All settings of a run; one attribute a section of the TOML file."""

    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    window: WindowSettings = field(default_factory=WindowSettings)
    normalise: NormaliseSettings = field(default_factory=NormaliseSettings)
    image: ImageSettings = field(default_factory=ImageSettings)
    audio: AudioSettings = field(default_factory=AudioSettings)
    device: DeviceSettings = field(default_factory=DeviceSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    federate: FederateSettings = field(default_factory=FederateSettings)
    output: OutputSettings = field(default_factory=OutputSettings)


Overrides = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class Layer:
    """Settings from one place, which later layers win over.

    Attributes:
        tables: Values by section and key.
        origin: Of these, for messages.
        folder: That relative paths are relative to.
    """

    tables: Mapping[str, Any]
    origin: str
    folder: Path = Path()


def load_config(path: Path | None = None, overrides: Overrides | None = None) -> Config:
    """Reads a configuration file and lays command-line values over it.

    Args:
        path: TOML file, or None for the defaults. Its relative paths are relative to its folder.
        overrides: Values by section and key; None means "not given". Relative paths are relative
            to the working directory.

    Returns:
        The checked configuration.

    Raises:
        ConfigError: Unreadable TOML, an unknown section or key, or a value of the wrong type or
            range; the message names file, key, value and what is allowed.
    """
    layers = [file_layer(path)] if path is not None else []
    return config_of([*layers, command_line_layer(overrides or {})])


def config_of(layers: Sequence[Layer]) -> Config:
    """Lays settings over each other, and those over the defaults.

    Raises:
        ConfigError: As from `load_config`.
    """
    config = Config()
    for layer in layers:
        config = _apply(config, layer.tables, layer.origin, layer.folder)
    return config


def with_overrides(config: Config, overrides: Overrides, origin: str) -> Config:
    """Lays values over a configuration.

    Args:
        config: Checked.
        overrides: Values by section and key; None means "not given".
        origin: Of the values, for messages.

    Raises:
        ConfigError: See `load_config`.
    """
    return _apply(config, _given(overrides), origin, Path())


def file_layer(path: Path) -> Layer:
    """Reads a TOML file.

    Raises:
        ConfigError: It is none.
    """
    return Layer(_read_toml(path), str(path), path.parent)


def command_line_layer(overrides: Overrides) -> Layer:
    """Takes the options that were given."""
    return Layer(_given(overrides), "command line")


def _given(overrides: Overrides) -> dict[str, dict[str, object]]:
    return {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in overrides.items()
    }


def config_to_toml(config: Config) -> str:
    """Prints a configuration as TOML that `load_config` reads back from any folder."""
    lines: list[str] = []
    for section, values in asdict(config).items():
        lines.append(f"[{section}]")
        for key, value in values.items():
            if value is not None:
                lines.append(f"{key} = {_toml_value(value)}")
        lines.append("")
    return "\n".join(lines)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError; bytes that are no UTF-8
        raise ConfigError(f"{path}: not a TOML file: {error}") from error


def _apply(config: Config, tables: Mapping[str, Any], origin: str, folder: Path) -> Config:
    sections = [item.name for item in fields(Config)]
    for section, values in tables.items():
        if section not in sections:
            raise ConfigError(_unknown(origin, "section", section, sections))
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"{origin}: {section} = {values!r} stands outside a section; "
                f"write it under one of: {', '.join(f'[{name}]' for name in sections)}"
            )
        current = getattr(config, section)
        kinds = get_type_hints(type(current))
        known = {item.name: item for item in fields(current)}
        changes: dict[str, Any] = {}
        for key, value in values.items():
            if key not in known:
                raise ConfigError(_unknown(origin, f"key in [{section}]", key, list(known)))
            culprit = f"{origin}: {section}.{key} = {value!r}"
            typed = _typed(value, kinds[key], culprit, folder)
            _check_range(typed, known[key].metadata, culprit)
            changes[key] = typed
        if section == "training":
            changes = _exclusive_length(changes, origin)
        if section == "model" and "scheme" in changes:
            changes["scheme"] = _anchored_scheme(changes["scheme"], folder)
        config = replace(config, **{section: replace(current, **changes)})
    return config


def _unknown(origin: str, what: str, name: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{origin}: unknown {what}: {name!r}; allowed: {', '.join(allowed)}{hint}"


def _typed(value: object, kind: Any, culprit: str, folder: Path) -> object:
    """Returns `value` as the field's type, or raises."""
    if get_origin(kind) in (Union, UnionType):
        kind = next(choice for choice in get_args(kind) if choice is not type(None))
    if kind is Path and isinstance(value, str | Path):
        if str(value) == "":
            raise ConfigError(f"{culprit}: the path is empty")
        return folder / Path(value).expanduser()
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{culprit}: must be a list")
        item_kind = get_args(kind)[0]
        return tuple(_typed(item, item_kind, culprit, folder) for item in value)
    # TOML and Python agree that true is not 1 here, although bool is a subclass of int.
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    names = {Path: "a path", float: "a number", int: "an integer", bool: "true or false"}
    raise ConfigError(f"{culprit}: must be {names.get(kind, 'a string')}")


def _check_range(value: object, rules: Mapping[str, Any], culprit: str) -> None:
    if "allowed" in rules and value not in rules["allowed"]:
        raise ConfigError(f"{culprit}: allowed: {', '.join(rules['allowed'])}")
    if isinstance(value, int | float):
        lowest, highest = rules.get("minimum", -math.inf), rules.get("maximum", math.inf)
        if not lowest <= value <= highest:  # also refuses NaN
            limit = f"at least {lowest}" + (f" and at most {highest}" if highest < math.inf else "")
            raise ConfigError(f"{culprit}: must be {limit}")


def _exclusive_length(changes: dict[str, Any], origin: str) -> dict[str, Any]:
    """A later `steps` replaces an earlier `epochs` and the reverse; both at once is a mistake."""
    if "steps" in changes and "epochs" in changes:
        raise ConfigError(f"{origin}: training.steps and training.epochs exclude each other")
    if "steps" in changes:
        return {**changes, "epochs": None}
    if "epochs" in changes:
        return {**changes, "steps": None}
    return changes


def _anchored_scheme(scheme: str, folder: Path) -> str:
    """The file of `sparse:FILE` is relative to the configuration that names it."""
    kind, separator, file = scheme.partition(":")
    return f"{kind}:{folder / Path(file).expanduser()}" if separator and file else scheme


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Path):
        return json.dumps(str(value.absolute()), ensure_ascii=False)
    if isinstance(value, str):
        kind, separator, file = value.partition(":")
        if kind == "sparse" and separator:
            value = f"sparse:{Path(file).absolute()}"
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    return repr(value)
