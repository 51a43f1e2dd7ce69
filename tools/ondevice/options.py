"""The command line's options: one table of those that set a key of the configuration.

A verb says which of them it takes and receives what was given as one mapping for `load_config`:

    @with_settings(*INPUT, "device.board")
    def verb(overrides: Overrides, config: ConfigOption = None) -> None:
        settings = load_settings(config, overrides)

A new option is one line of the table, and every verb that takes its section has it.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ondevice.completion import board_names, port_names, scheme_names

Verb = Callable[..., None]

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file of settings; options given here win over it."),
]
CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint", help="Parameters to put on the board first: a run's checkpoint.npz"
    ),
]
BuildDirOption = Annotated[
    Path, typer.Option("--build-dir", help="Where compiled models and firmware are kept")
]
JsonLinesOption = Annotated[
    bool, typer.Option("--json", help="JSON lines on stdout; text goes to stderr.")
]

INPUT = ("model", "data", "window", "normalise", "image", "audio")
"""What is compiled and what it is fed: sections of every verb that may compile."""


@dataclass(frozen=True)
class Setting:
    """An option that sets a key of the configuration; not given, the key keeps its value.

    Attributes:
        kind: Of its value.
        flag: As typed, "--yes/--no" for a switch with both.
        help: One line.
        panel: Of the help page; None: the verb's own options.
        limits: `min` and `max`, where the command line checks them; what completes it in a shell.
    """

    kind: Any
    flag: str
    help: str
    panel: str | None
    limits: dict[str, Any] = field(default_factory=dict)


def _panel(panel: str | None) -> Callable[..., Setting]:
    def setting(kind: Any, flag: str, text: str, **limits: Any) -> Setting:
        return Setting(kind, flag, text, panel, limits)

    return setting


_model, _data, _board, _training = map(_panel, ("Model", "Data", "Board", "Training"))
_federate = _panel("Federation")
_own = _panel(None)

SETTINGS = {
    "model.file": _model(
        Path,
        "--model",
        ".onnx, .pt2, .tflite or .pkl file, or a directory written by `ondevice compile` "
        "(default: the demo's)",
    ),
    "model.head": _model(
        int,
        "--head",
        "Replace the last layer by a fresh one with this many outputs (default: keep it)",
        min=1,
    ),
    "model.scheme": _model(
        str,
        "--scheme",
        "What is updated: full, last, last-K, bias, bias-only, bn, tinytl or sparse:FILE.toml "
        "(default: full)",
        autocompletion=scheme_names,
    ),
    "model.dtype": _model(Literal["int8", "float32"], "--dtype", "Arithmetic (default: int8)"),
    "model.loss": _model(
        Literal["cross_entropy", "binary_cross_entropy", "mse"],
        "--loss",
        "(default: cross_entropy)",
    ),
    "model.label_smoothing": _model(
        float,
        "--label-smoothing",
        "Share of the target that cross entropy spreads over all classes (default: 0)",
    ),
    "model.optimizer": _model(Literal["sgd", "momentum", "adam"], "--optimizer", "(default: sgd)"),
    "model.momentum": _model(float, "--momentum", "Of --optimizer momentum (default: 0.9)"),
    "model.weight_decay": _model(
        float, "--weight-decay", "Of weights, not of biases; Adam's is decoupled (default: 0)"
    ),
    "model.clip_norm": _model(
        float, "--clip-norm", "Largest norm of the whole gradient; costs 4 bytes a parameter"
    ),
    "model.clip_value": _model(float, "--clip-value", "Largest magnitude of each gradient element"),
    "model.tuning": _model(
        Path, "--tuning", "Tuning database of `ondevice tune` (default: the one that is shipped)"
    ),
    "model.accumulation_steps": _model(
        int, "--accumulate", "Samples an update (default: 1)", min=1
    ),
    "model.dp_clip_norm": _model(
        float,
        "--dp-clip-norm",
        "DP-SGD: largest norm of each sample's gradient; costs 8 bytes a parameter",
    ),
    "model.dp_noise_multiplier": _model(
        float,
        "--dp-noise",
        "DP-SGD: noise in units of --dp-clip-norm; see `ondevice privacy budget` (default: 0)",
    ),
    "model.compress": _model(
        Literal["none", "topk", "ternary", "sign", "int8"],
        "--compress",
        "How a board sends the change of a federated round; all but none keep a residual of the "
        "weights' size (default: none)",
    ),
    "model.compress_ratio": _model(
        float, "--compress-ratio", "Share of the elements that topk sends (default: 0.01)"
    ),
    "data.file": _data(
        Path,
        "--data",
        "File or folder: .npz, .csv, .parquet, a folder a class with such files or pictures; see "
        "docs/data.md (default: the demo's unseen wearer)",
    ),
    "data.test_file": _data(
        Path, "--test-data", "Held-out samples, likewise (default: some of --data, by its rules)"
    ),
    "data.label_column": _data(
        str, "--label-column", "Of a table: which column is the class (default: label)"
    ),
    "window.samples": _data(
        int, "--window", "Samples a window that recordings are cut into (default: not cut)", min=1
    ),
    "window.stride": _data(
        int, "--stride", "From one training window to the next (default: half a window)", min=1
    ),
    "window.layout": _data(
        Literal["channels_first", "channels_last"],
        "--layout",
        "Order of a sample's axes (default: channels_first)",
    ),
    "normalise.method": _data(
        Literal["none", "standard", "rms", "range", "given"],
        "--normalise",
        "Each channel, by what training data show (default: none)",
    ),
    "data.calibration": _data(
        Path,
        "--calibration",
        "Data that set the activations' ranges (default: from --data)",
    ),
    "device.board": _board(
        str,
        "--board",
        "See `ondevice boards` (default: qemu_f405)",
        autocompletion=board_names,
    ),
    "device.port": _board(
        str,
        "--port",
        "Serial port of a real board, e.g. /dev/ttyACM0 (default: that of the only board of "
        "its kind; see `ondevice ports`)",
        autocompletion=port_names,
    ),
    "device.flash": _board(bool, "--flash", "Flash the real board first."),
    "device.flash_file": _board(
        Path,
        "--flash-file",
        "Where a simulated board keeps its checkpoints (default: build/flash/BOARD-MODEL.bin)",
    ),
    "device.sensor_file": _board(
        Path,
        "--sensor-file",
        "Recording (.csv, ...) that the own sensor of a simulated board plays; see docs/sensor.md",
    ),
    "device.key_file": _board(
        Path,
        "--key",
        "Key file: the firmware serves only who has it, too; see `ondevice key new`",
    ),
    "device.allow_export": _board(
        bool,
        "--allow-export/--no-allow-export",
        "Whether samples, gradients and optimiser state may be read from the firmware that "
        "is built (default: from host and QEMU boards only)",
    ),
    "device.reconnect_s": _board(
        float,
        "--reconnect-s",
        "How long a lost link is opened again; 0: not at all (default: 60)",
        min=0.0,
    ),
    "training.steps": _training(int, "--steps", "Training steps, one sample each", min=1),
    "training.epochs": _training(int, "--epochs", "Passes over the data (default: 3)", min=1),
    "training.learning_rate": _training(float, "--lr", "Learning rate", min=0.0),
    "training.learning_rate_schedule": _training(
        Literal["constant", "linear", "cosine", "step"],
        "--lr-schedule",
        "How the learning rate goes on after the warm-up (default: linear, to 0)",
    ),
    "training.warmup_steps": _training(
        int,
        "--warmup-steps",
        "Updates over which the learning rate rises linearly (default: 0)",
        min=0,
    ),
    "training.learning_rate_step_every": _training(
        int,
        "--lr-step-every",
        "Of --lr-schedule step: updates between steps (default: a third of the run)",
        min=1,
    ),
    "training.learning_rate_step_factor": _training(
        float,
        "--lr-step-factor",
        "Of --lr-schedule step: what a step multiplies with (default: 0.1)",
    ),
    "training.seed": _training(int, "--seed", "Of the order of samples (default: 0)", min=0),
    "training.evaluate_each_epoch": _training(
        bool, "--eval-epochs", "Measure held-out accuracy after every epoch, not only the last."
    ),
    "training.checkpoint_every_steps": _own(
        int, "--checkpoint-every", "Steps between checkpoints (default: an epoch)", min=1
    ),
    "federate.strategy": _federate(
        Literal["fedavg", "fedprox", "fedadam"],
        "--strategy",
        "How updates are averaged (default: fedavg)",
    ),
    "federate.rounds": _federate(int, "--rounds", "Of local training (default: 20)", min=1),
    "federate.clients": _federate(int, "--clients", "Of a simulated fleet (default: 8)", min=1),
    "federate.boards": _federate(
        str,
        "--boards",
        "Of a simulated fleet, as qemu_f405*4,host*4 (default: --clients of --board, or host)",
    ),
    "federate.fraction": _federate(
        float, "--fraction", "Share of the clients that a round asks (default: 1)"
    ),
    "federate.min_clients": _federate(
        int, "--min-clients", "That must answer, else the round is repeated (default: 1)", min=1
    ),
    "federate.local_epochs": _federate(
        int, "--local-epochs", "Passes over a client's data a round (default: 1)", min=1
    ),
    "federate.proximal_mu": _federate(
        float, "--proximal-mu", "Of --strategy fedprox (default: 0.1)"
    ),
    "federate.server_learning_rate": _federate(
        float, "--server-lr", "Of --strategy fedadam (default: 0.01)"
    ),
    "federate.round_timeout_s": _federate(
        float, "--round-timeout-s", "Updates that come later are not waited for (default: 600)"
    ),
    "federate.evaluate_every": _federate(
        int, "--evaluate-every", "Rounds from one measurement to the next (default: 1)", min=1
    ),
    "federate.client_data": _federate(
        Path, "--client-data", "Folder with a data file or folder for each client"
    ),
    "federate.split": _federate(
        Literal["wearer", "dirichlet", "iid"],
        "--split",
        "How data are dealt: by the demo's wearers, skewed or evenly by label (default: wearer)",
    ),
    "federate.dirichlet_alpha": _federate(
        float,
        "--dirichlet-alpha",
        "Of --split dirichlet; small: few classes a client (default: 0.5)",
    ),
    "output.directory": _own(Path, "--output", "Folder of run folders (default: runs)"),
    "output.name": _own(str, "--run-name", "Run folder is DATE-NAME (default: the model's name)"),
    "output.tensorboard": _own(
        Path, "--tensorboard", "Also write the run for TensorBoard, in this folder"
    ),
    "output.mlflow": _own(
        str, "--mlflow", "Also record the run with MLflow: URI of a server, or a folder"
    ),
}


def with_settings(*taken: str, without: Sequence[str] = ()) -> Callable[[Verb], Verb]:
    """Gives a verb options of the table in place of its parameter `overrides`.

    Args:
        taken: Sections ("model": all of its options) and single keys ("device.board").
        without: Keys of these sections that the verb does not take.
    """
    names = [
        name
        for name in SETTINGS
        if (name in taken or name.partition(".")[0] in taken) and name not in without
    ]

    def decorate(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def run(**given: Any) -> None:
            overrides: dict[str, dict[str, object]] = {}
            for name in names:
                section, _, key = name.partition(".")
                value = given.pop(_parameter(name))
                overrides.setdefault(section, {})[key] = None if value == [] else value
            training = overrides.get("training", {})
            if training.get("steps") is not None and training.get("epochs") is not None:
                raise typer.BadParameter("--steps and --epochs exclude each other")
            verb(overrides=overrides, **given)

        own = inspect.signature(verb, eval_str=True).parameters.values()
        added = [
            inspect.Parameter(
                _parameter(name),
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=_annotation(SETTINGS[name]),
            )
            for name in names
        ]
        return with_parameters(run, [*added, *(p for p in own if p.name != "overrides")])

    return decorate


def with_parameters(verb: Verb, parameters: Sequence[inspect.Parameter]) -> Verb:
    """Tells Typer, which reads both, what the verb takes; by keyword, so in any order."""
    keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    verb.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    verb.__annotations__ = {p.name: p.annotation for p in keywords}
    return verb


def _parameter(name: str) -> str:
    return name.replace(".", "_")


def _annotation(setting: Setting) -> Any:
    option = typer.Option(
        setting.flag, help=setting.help, rich_help_panel=setting.panel, **setting.limits
    )
    return Annotated[setting.kind | None, option]
