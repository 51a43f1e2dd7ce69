"""The command line: a verb is a function, a user's fault is one line and exit code 1."""

import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from ondevice import options as opt
from ondevice.budget import budget_lines, check_budget
from ondevice.check.command import check
from ondevice.checkpoint_commands import app as checkpoint_app
from ondevice.compiled_model import load_model_directory, run_compiler
from ondevice.config import Overrides
from ondevice.config_command import config_verb
from ondevice.dashboard.watch_command import watch
from ondevice.display import format_bytes, format_evaluation
from ondevice.doctor.command import doctor
from ondevice.errors import UserError
from ondevice.federate.deployment_command import app as federate_app
from ondevice.html_report.command import report
from ondevice.info import describe, describe_port
from ondevice.interrupt import EXIT_CODE, StopOnInterrupt
from ondevice.key import load_key, new_key
from ondevice.live.predict_command import predict
from ondevice.live.record_command import record
from ondevice.memory_report import Chart, check_report_name, compile_with_charts, write_report
from ondevice.new.command import new
from ondevice.options import INPUT, with_settings
from ondevice.privacy.command import app as privacy_app
from ondevice.profile.command import profile
from ondevice.run_settings import settings_for
from ondevice.search.command import search
from ondevice.session import evaluate_once, prepare
from ondevice.settings import load_settings
from ondevice.sources import compile_request, load_sources
from ondevice.target import board_budget, build_for, real_port, target_board
from ondevice.terminal import text_console
from ondevice.train_command import train
from ondevice.tune.command import tune, tune_worker

DEFAULT_BUILD = Path("build")

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Trains neural networks on microcontrollers.\n\n"
    "Begin with [bold]ondevice train[/bold]: it adapts the demo's model to a new person "
    "on a simulated board.",
)


def main() -> None:
    """Runs the command line: exit code 0, 1 (a user's fault), 2 (usage) or 130 (Ctrl-C)."""
    # Warnings of libraries about each other are nothing that a person at this prompt can mend.
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", module=r"tvm\.")
    try:
        app()
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}")


def _fail(message: str) -> None:
    """Ends with one line, whatever the message holds."""
    print(f"ondevice: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)


app.command(
    epilog="Examples:\n\n"
    "  ondevice train\n\n"
    "  ondevice train --board host --scheme last --epochs 5\n\n"
    "  ondevice train --model net.onnx --data mine.npz --port /dev/ttyACM0 "
    "--board nucleo_f446re\n\n"
    "  ondevice train --resume runs/20260101-120000-watch"
)(train)


@app.command(
    name="compile",
    epilog="Example:\n\n  ondevice compile --model net.onnx --data mine.npz --scheme last-2 -o out",
)
@with_settings(*INPUT, "device.board")
def compile_verb(
    overrides: Overrides,
    config: opt.ConfigOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write model.c and manifest.json here"),
    ] = None,
    stop_after: Annotated[
        str | None, typer.Option(help="Print what this stage gives, and stop: load, plan, ...")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Draw the arena over a training step: FILE.html or FILE.svg"),
    ] = None,
    build_dir: opt.BuildDirOption = DEFAULT_BUILD,
) -> None:
    """Compile a model and print its RAM and flash; refuse what does not fit the board."""
    settings = load_settings(config, overrides)
    sources = load_sources(settings)
    if sources.model.is_dir():
        raise UserError(f"{sources.model}: is compiled already; see `ondevice info`")
    # A real board need not be connected to compile for it.
    target = target_board(settings.device, connect=False)
    simd = target.simd if target is not None else "dsp"
    request = compile_request(settings, sources, build_dir, simd=simd)
    charts: list[Chart] = []
    if report is None:
        compiled = run_compiler(request)
    else:
        check_report_name(report)
        compiled, charts = compile_with_charts(request)
    if stop_after is not None:
        print(compiled.stage_text(stop_after))
        return
    name = target.name if target is not None else "the board"
    budget = board_budget(target, compiled.manifest)
    for line in budget_lines(budget, compiled.manifest, name):
        print(line)
    if report is not None:
        write_report(report, charts, compiled.manifest, budget.stack_bytes)
        print(f"Memory over a training step: {report}")
    check_budget(budget, compiled.manifest, name)
    if output is not None:
        compiled.write(output)
        print(f"Written to {output}")


@app.command(epilog="Example:\n\n  ondevice build --model out --board nucleo_f446re")
@with_settings(*INPUT, "device.board", "device.key_file", "device.allow_export")
def build(
    overrides: Overrides,
    config: opt.ConfigOption = None,
    build_dir: opt.BuildDirOption = DEFAULT_BUILD,
) -> None:
    """Build the firmware of a model for a board; refuse one whose stack may overflow."""
    from ondevice.stack_bound import firmware_stack_bound

    settings = load_settings(config, overrides)
    prepared = prepare(settings, build_dir, text_console(stderr=True).print, connect=False)
    assert prepared.board is not None  # only a bare --port leaves it open
    firmware = build_for(prepared.model, prepared.board, build_dir, settings.device)
    if firmware.flash_bytes is None or firmware.ram_bytes is None:
        print(firmware.elf)  # a native program has neither flash nor a RAM limit
        return
    bound = firmware_stack_bound(firmware.elf, prepared.board)
    sizes = f"flash {format_bytes(firmware.flash_bytes)}, RAM {format_bytes(firmware.ram_bytes)}"
    stack = f"stack at most {bound.program_bytes:,} of {firmware.stack_bytes:,} B"
    print(f"{firmware.elf}: {sizes}, {stack}")


@app.command(
    epilog="Examples:\n\n"
    "  ondevice flash --board nucleo_f446re\n\n"
    "  ondevice flash --model out --board nucleo_f446re --port /dev/ttyACM1 --tool openocd"
)
@with_settings(
    *INPUT, "device", without=("device.flash", "device.flash_file", "device.reconnect_s")
)
def flash(
    overrides: Overrides,
    tool: Annotated[
        Literal["auto", "openocd", "st-flash", "platformio", "disk"],
        typer.Option(help="What flashes: the first of these that is there, or this one"),
    ] = "auto",
    config: opt.ConfigOption = None,
    build_dir: opt.BuildDirOption = DEFAULT_BUILD,
) -> None:
    """Build the firmware of a model and put it on a real board."""
    from ondevice.build import flash as flash_firmware

    asked = {**overrides, "device": {**overrides["device"], "flash": True}}
    settings = load_settings(config, asked)
    target = target_board(settings.device)
    if target is None or target.run != "serial":
        raise UserError(
            "only a real board is flashed; name it with --board (see `ondevice boards`)"
        )
    prepared = prepare(settings, build_dir, text_console(stderr=True).print)
    firmware = build_for(prepared.model, target, build_dir, settings.device)
    place = real_port(settings.device, target)
    used = flash_firmware(firmware, target, place, tool)
    model_id = prepared.model.manifest["model_id"]
    print(f"{target.name} at {place} runs model {model_id} (flashed by {used})")


@app.command(
    name="eval",
    epilog="Example:\n\n  ondevice eval --checkpoint runs/20260101-120000-watch/checkpoint.npz",
)
@with_settings(*INPUT, "device", without=("device.reconnect_s",))
def eval_verb(
    overrides: Overrides,
    checkpoint: opt.CheckpointOption = None,
    config: opt.ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
    build_dir: opt.BuildDirOption = DEFAULT_BUILD,
) -> None:
    """Measure accuracy on the device; nothing is trained.

    A run's checkpoint brings the settings of its run, unless --config says otherwise.
    """
    settings, preprocessing = settings_for(checkpoint, config, overrides)
    console = text_console(as_json)
    say = text_console(stderr=True).print
    prepared = prepare(settings, build_dir, say, preprocessing=preprocessing)
    with StopOnInterrupt() as stop:
        measured = evaluate_once(settings, prepared, build_dir, stop.requested, checkpoint)
    if measured is None:
        raise typer.Exit(EXIT_CODE)
    if as_json:
        print(json.dumps({"event": "evaluate", **asdict(measured)}))
    console.print(format_evaluation(measured))


@app.command(
    epilog="Examples:\n\n"
    "  ondevice info runs/20260101-120000-watch\n\n"
    "  ondevice info qemu_f405\n\n"
    "  ondevice info --port /dev/ttyACM0"
)
@with_settings("device.key_file")
def info(
    overrides: Overrides,
    subject: Annotated[
        str, typer.Argument(help="A compiled model, a run folder, a checkpoint, or a board's name")
    ] = "",
    port: Annotated[str, typer.Option(help="Ask the board behind this serial port.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The manifest on stdout.")] = False,
) -> None:
    """Describe a compiled model, a run, a checkpoint or a board."""
    if bool(subject) == bool(port):
        raise typer.BadParameter("allowed: what to describe, or --port, one of them")
    if port:
        for line in describe_port(port, load_key(load_settings(None, overrides).device.key_file)):
            print(line)
        return
    if as_json:
        print(json.dumps(load_model_directory(Path(subject)).manifest))
        return
    for line in describe(subject):
        print(line)


app.command(
    epilog="Examples:\n\n"
    "  ondevice search --ram 9K\n\n"
    "  ondevice search --model net.onnx --data mine.npz --ram 96K --macs 20M --epochs 5"
)(search)


app.command(
    epilog="Examples:\n\n"
    "  ondevice profile --group layer\n\n"
    "  ondevice profile --model net.onnx --data mine.npz --board qemu_mps2_an500 "
    "--report profile.html"
)(profile)


app.command(
    epilog="Examples:\n\n"
    "  ondevice tune --compare\n\n"
    "  ondevice tune --model net.onnx --data mine.npz --tracker 192.168.1.5:9190"
)(tune)


app.command(epilog="Example:\n\n  ondevice tune-worker --tracker 192.168.1.5:9190")(tune_worker)


app.command(
    epilog="Examples:\n\n  ondevice doctor\n\n  ondevice doctor --board nucleo_f446re\n\n"
    "  ondevice doctor --run"
)(doctor)


app.command(
    epilog="Examples:\n\n  ondevice new gestures\n\n"
    "  ondevice new leaves --template tabular --board nucleo_f446re"
)(new)


app.command(
    epilog="Examples:\n\n  ondevice check --board nucleo_f446re\n\n"
    "  ondevice check --model net.onnx --data recordings --window 64"
)(check)


app.command(
    name="config",
    epilog="Examples:\n\n  ondevice config\n\n  ondevice config --config mine.toml --all",
)(config_verb)


app.add_typer(checkpoint_app, name="checkpoint")
app.add_typer(federate_app, name="federate")
app.add_typer(privacy_app, name="privacy")

key_app = typer.Typer(no_args_is_help=True)
app.add_typer(key_app, name="key")


@key_app.callback()
def key_group() -> None:
    """Keys that a host and its boards share."""


@key_app.command(name="new", epilog="Example:\n\n  ondevice key new board.key")
def key_new(file: Annotated[Path, typer.Argument(help="Written once, for you alone")]) -> None:
    """Make a key; give it to build, flash, train and eval as --key."""
    new_key(file)
    print(f"{file}: keep it; a board built with it serves nobody else")


@app.command(epilog="Example:\n\n  ondevice boards")
def boards() -> None:
    """List the boards that firmware can be built for."""
    from ondevice.boards import list_boards, load_board

    for name in list_boards():
        board = load_board(name)
        print(f"{name:<18} {board.run:<8} {board.title}")


@app.command(epilog="Example:\n\n  ondevice ports")
def ports() -> None:
    """List the serial ports of this computer."""
    from ondevice.ports import list_ports

    found = list_ports()
    for port in found:
        print(port)
    if not found:
        print("No serial port found; plug a board in, or use a simulated one.", file=sys.stderr)


app.command(
    epilog="Examples:\n\n"
    "  ondevice record serial:/dev/ttyUSB0@115200 -o moves --labels walking,idle\n\n"
    "  ondevice record serial:/dev/ttyUSB0 -o moves --label walking --duration-s 30"
)(record)


app.command(
    epilog="Examples:\n\n"
    "  ondevice predict --source serial:/dev/ttyUSB0 --checkpoint "
    "runs/20260101-120000-net/checkpoint.npz\n\n"
    "  ondevice predict --source file:walk.csv --fast --model net.onnx --data moves --json"
)(predict)


app.command(
    epilog="Examples:\n\n  ondevice report runs/20260101-120000-watch --open\n\n"
    "  ondevice report runs/20260101-120000-watch -o watch.html"
)(report)


app.command(
    epilog="Examples:\n\n"
    "  ondevice watch runs/20260101-120000-watch\n\n"
    "  ondevice watch runs/20260101-120000-watch --svg dashboard.svg"
)(watch)


if __name__ == "__main__":
    main()
