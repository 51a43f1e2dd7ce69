"""Builds one board: runtime + firmware + generated model. Run by SCons inside PlatformIO."""

import os
import subprocess
import sys
from pathlib import Path

from SCons.Script import AlwaysBuild, Default, DefaultEnvironment

from ondevice.boards import load_board
from ondevice.errors import UserError
from ondevice.image import check_images, seal_image
from ondevice.linker_script import linker_script
from ondevice.toolchain import (
    BESIDE_STEP,
    CODE,
    LINK,
    WARNINGS,
    definitions,
    driver_folders,
    machine_flags,
    tool_prefix,
)

env = DefaultEnvironment()
root = Path(env.subst("$PROJECT_DIR"))
build = Path(env.subst("$BUILD_DIR"))
name = env.subst("$PIOENV")
try:
    board = load_board(name)
except UserError as error:
    sys.exit(f"Error: {error}")
host = board.run == "host"

model = Path(os.environ.get("ONDEVICE_MODEL_DIR", root / "build" / name / "model"))
if not (model / "model.c").is_file():
    if "ONDEVICE_MODEL_DIR" in os.environ:
        sys.exit(f"Error: no model.c in {model}: run `ondevice compile --board {name} -o DIR`")
    print(f"Compiling the demo model into {model}")
    command = [sys.executable, "-m", "ondevice", "compile", "--board", name, "-o", str(model)]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit(f"Error: `ondevice compile --board {name} -o {model}` failed")

allow_export = {"0": False, "1": True}.get(os.environ.get("ONDEVICE_ALLOW_EXPORT", ""))
prefix = tool_prefix(board)
machine = machine_flags(board)
env.Replace(
    CC=f"{prefix}gcc",
    AR=f"{prefix}gcc-ar",
    RANLIB=f"{prefix}gcc-ranlib",
    OBJCOPY=f"{prefix}objcopy",
    SIZETOOL=f"{prefix}size",
    PROGNAME="firmware",
    PROGSUFFIX="" if host else ".elf",
    SRC_FILTER=[
        "+<*.c>",
        *(f"+<{folder}/*.c>" for folder in driver_folders(board)),
    ],
)
env.Append(
    CFLAGS=["-std=c99"],
    CCFLAGS=[*machine, *CODE, *WARNINGS],
    CPPPATH=[
        str(root / "runtime" / "include"),
        str(root / "firmware" / "src"),
        str(root / "firmware" / "src" / board.driver),
        str(model),
    ],
    CPPDEFINES=[
        ("OD_BOARD_NAME", env.StringifyMacro(board.firmware_name)),
        *definitions(board, allow_export).items(),
    ],
    LINKFLAGS=[*machine],
)
if not host:
    build.mkdir(parents=True, exist_ok=True)
    script = build / "board.ld"
    script.write_text(linker_script(board), encoding="utf-8")
    env.Append(
        CCFLAGS=["-fcallgraph-info=su"],  # for ondevice.stack_bound
        LINKFLAGS=[
            *LINK,
            f"-T{script}",
            f"-Wl,-Map,{build / 'firmware.map'}",
        ],
        LIBS=["c", "gcc"],
    )

runtime = str(root / "runtime" / "src")
in_step = ["+<*.c>", *(f"-<{each}>" for each in BESIDE_STEP)]
env.BuildSources(str(build / "runtime"), runtime, in_step)
beside = env.Clone()
beside.Append(CCFLAGS=["-Os"])  # after CODE's -O3: the last one counts
beside.BuildSources(str(build / "beside"), runtime, [f"+<{each}>" for each in BESIDE_STEP])
env.BuildSources(str(build / "model"), str(model))
program = env.BuildProgram()


def _seal(target, source, env):
    seal_image(Path(str(target[0])), None)


env.AddPostAction(program, env.VerboseAction(_seal, "Sealing $TARGET"))
if not host:
    env.Depends(program, str(script))
targets = [program]
if not host:
    binary = env.Command(
        str(build / "firmware.bin"),
        program,
        env.VerboseAction("$OBJCOPY -O binary $SOURCE $TARGET", "Writing $TARGET"),
    )
    targets.append(binary)
Default(targets)


def _simulate(target, source, env):
    from ondevice.build import simulation_command

    if board.run == "renode":
        from ondevice.renode import free_port, renode_command

        port = free_port()
        print(f"UART: socket://127.0.0.1:{port}", flush=True)
        return subprocess.run(renode_command(Path(str(source[0])), board, port)).returncode
    return subprocess.run(simulation_command(str(source[0]), board), check=False).returncode


def _upload(target, source, env):
    from ondevice.flash import flash_file

    try:
        check_images(Path(str(source[0])))
        flash_file(Path(str(source[0])), board, env.subst("$UPLOAD_PORT") or None)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if board.run == "serial":
    upload = env.Alias("upload", program, env.VerboseAction(_upload, "Flashing $SOURCE"))
    AlwaysBuild(upload)
else:
    run = env.Alias("simulate", program, env.VerboseAction(_simulate, "Running $SOURCE"))
    AlwaysBuild(run)
