"""Command-line options that several verbs share; those of the model are in `model_options`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

_DATA, _DEVICE, _TRAINING = "Data", "Board", "Training"

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file of settings; options given here win over it."),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help=".npz file with x, y, x_test, y_test (default: the demo's unseen wearer)",
        rich_help_panel=_DATA,
    ),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        help=".npz file whose x sets the activations' ranges (default: from --data)",
        rich_help_panel=_DATA,
    ),
]
BoardOption = Annotated[
    str | None,
    typer.Option(
        "--board", help="See `ondevice boards` (default: qemu_f405)", rich_help_panel=_DEVICE
    ),
]
PortOption = Annotated[
    str | None,
    typer.Option(
        "--port",
        help="Serial port of a real board, e.g. /dev/ttyACM0 (default: that of the only board of "
        "its kind; see `ondevice ports`)",
        rich_help_panel=_DEVICE,
    ),
]
FlashOption = Annotated[
    bool | None,
    typer.Option("--flash", help="Flash the real board first.", rich_help_panel=_DEVICE),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help="Key file: the firmware serves only who has it, too; see `ondevice key new`",
        rich_help_panel=_DEVICE,
    ),
]
ReconnectOption = Annotated[
    float | None,
    typer.Option(
        "--reconnect-s",
        min=0.0,
        help="How long a lost link is opened again; 0: not at all (default: 60)",
        rich_help_panel=_DEVICE,
    ),
]
AllowExportOption = Annotated[
    bool | None,
    typer.Option(
        "--allow-export/--no-allow-export",
        help="Whether samples, gradients and optimiser state may be read from the firmware that "
        "is built (default: from host and QEMU boards only)",
        rich_help_panel=_DEVICE,
    ),
]
FlashFileOption = Annotated[
    Path | None,
    typer.Option(
        "--flash-file",
        help="Where a simulated board keeps its checkpoints (default: build/flash/BOARD-MODEL.bin)",
        rich_help_panel=_DEVICE,
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        "--steps", min=1, help="Training steps, one sample each", rich_help_panel=_TRAINING
    ),
]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        "--epochs", min=1, help="Passes over the data (default: 3)", rich_help_panel=_TRAINING
    ),
]
LearningRateOption = Annotated[
    float | None, typer.Option("--lr", min=0.0, help="Learning rate", rich_help_panel=_TRAINING)
]
ScheduleOption = Annotated[
    Literal["constant", "linear", "cosine", "step"] | None,
    typer.Option(
        "--lr-schedule",
        help="How the learning rate goes on after the warm-up (default: linear, to 0)",
        rich_help_panel=_TRAINING,
    ),
]
WarmupOption = Annotated[
    int | None,
    typer.Option(
        "--warmup-steps",
        min=0,
        help="Updates over which the learning rate rises linearly (default: 0)",
        rich_help_panel=_TRAINING,
    ),
]
StepEveryOption = Annotated[
    int | None,
    typer.Option(
        "--lr-step-every",
        min=1,
        help="Of --lr-schedule step: updates between steps (default: a third of the run)",
        rich_help_panel=_TRAINING,
    ),
]
StepFactorOption = Annotated[
    float | None,
    typer.Option(
        "--lr-step-factor",
        help="Of --lr-schedule step: what a step multiplies with (default: 0.1)",
        rich_help_panel=_TRAINING,
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        "--seed", min=0, help="Of the order of samples (default: 0)", rich_help_panel=_TRAINING
    ),
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
