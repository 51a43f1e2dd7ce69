"""The verbs `ondevice privacy ...`."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from ondevice import options as opt
from ondevice.config import ModelSettings, Overrides
from ondevice.errors import UserError
from ondevice.interrupt import EXIT_CODE, StopOnInterrupt
from ondevice.json_lines import JsonLines
from ondevice.options import INPUT, with_settings
from ondevice.privacy.budget_command import budget
from ondevice.settings import load_settings
from ondevice.terminal import progress_bar, text_console

WIDTH = 132  # columns of the table where there is no terminal
NEEDED = {"torch": "torch", "scipy": "privacy", "skimage": "privacy"}


class AttackChoice(StrEnum):
    """Attacks, as typed."""

    DLG = "dlg"
    IDLG = "idlg"
    COSINE = "cosine"


app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="What a device's update gives away of the samples it learnt from.",
)


@app.callback()
def privacy_group() -> None:
    """What a device's update gives away of the samples it learnt from."""


app.command(
    epilog="Examples:\n\n  ondevice privacy budget --samples 2000 --lot 32 --noise-multiplier 1\n\n"
    "  ondevice privacy budget --samples 2000 --lot 32 --epochs 5 --target-epsilon 8"
)(budget)


@app.command(
    epilog="Examples:\n\n  ondevice privacy audit --quick\n\n"
    "  ondevice privacy audit --model net.pt2 --data pictures --samples 8"
)
@with_settings(
    *INPUT,
    "output.directory",
    without=(
        "model.head",
        "model.loss",
        "model.optimizer",
        "model.momentum",
        "model.tuning",
        "model.accumulation_steps",
    ),
)
def audit(
    overrides: Overrides,
    subject: Annotated[
        Literal["digits", "digits-relu", "watch"],
        typer.Option(
            help="Without --model: DLG's LeNet on digits, a ReLU network on them, or the demo's"
        ),
    ] = "digits",
    attack: Annotated[
        list[AttackChoice] | None,
        typer.Option(help="May be given several times (default: what suits the row)"),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Private samples (default: 4; with --quick 2)")
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Size of a batch beside 1; may be repeated (default: 4)"),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(min=1, help="Of an attack (default: 300; of the cosine attack 400)"),
    ] = None,
    restarts: Annotated[
        int, typer.Option(min=1, help="Searches at most, where one does not match well")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of samples, first guesses and noise")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A few rows, under a minute.")] = False,
    config: opt.ConfigOption = None,
    as_json: opt.JsonLinesOption = False,
    build_dir: opt.BuildDirOption = Path("build"),
) -> None:
    """Attack the updates that a device really sends, and say what they give away.

    Compiles the network in several ways, trains each on the host board on a few private samples,
    and tries to reconstruct these from the update by gradient inversion.
    """
    _check_installed()
    settings = load_settings(config, overrides)
    # They import torch, which takes seconds; other verbs do not wait for it.
    from ondevice.privacy.audit import run_audit
    from ondevice.privacy.network import AttackedModule
    from ondevice.privacy.report import write_audit
    from ondevice.privacy.results import AuditSettings, Row
    from ondevice.privacy.scenarios import (
        Scenario,
        all_scenarios,
        configured_scenarios,
        quick_scenarios,
    )
    from ondevice.privacy.subject import built_in_subject, own_subject
    from ondevice.privacy.table import audit_table
    from ondevice.privacy.verdict import verdict

    plain = replace(settings, model=ModelSettings(file=settings.model.file))
    if settings.model.file is not None:
        audited = own_subject(plain)
    else:
        audited = built_in_subject(subject, plain, build_dir)
    console = text_console(as_json, WIDTH)
    lines = JsonLines(sys.stdout) if as_json else None
    module = AttackedModule.load(audited.file)
    scenarios = configured_scenarios(settings.model)
    if quick:
        scenarios += quick_scenarios()
    else:
        scenarios += all_scenarios(module.arrangement, batch or (4,), build_dir)
    how = AuditSettings(
        samples=samples if samples is not None else 2 if quick else 4,
        restarts=restarts,
        iterations=iterations,
        attacks=tuple(name.value for name in attack or ()),
        seed=seed,
    )
    stop = StopOnInterrupt(lambda: console.print("Stopping after this attack."))
    with progress_bar(console) as progress, stop:
        task = progress.add_task("privacy audit", total=len(scenarios))
        begun = 0

        def on_start(scenario: Scenario) -> None:
            nonlocal begun
            progress.update(task, completed=begun, description=scenario.title)
            begun += 1

        def on_row(row: Row) -> None:
            if lines is not None:
                lines.write({"event": "row", **row.record()})

        result = run_audit(
            audited, module, scenarios, how, build_dir, on_row, on_start, stop.requested
        )
    if not result.rows:
        raise typer.Exit(EXIT_CODE)
    folder = write_audit(result, settings.output.directory, datetime.now())
    console.print(audit_table(result))
    for title, why in result.left_out:
        console.print(f"Left out: {title}: {why}")
    sentences = verdict(result)
    for sentence in sentences:
        console.print(sentence)
    console.print(f"Results are in {folder}")
    if lines is not None:
        lines.write({"event": "verdict", "sentences": sentences, "folder": str(folder)})
    if result.interrupted:
        raise typer.Exit(EXIT_CODE)


def _check_installed() -> None:
    for module, extra in NEEDED.items():
        if find_spec(module) is None:
            raise UserError(
                f"an audit needs {module}, which is not installed: "
                f"pip install 'ondevice-training[{extra}]'"
            )
