"""The verb `ondevice record`."""

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from ondevice.errors import UserError
from ondevice.interrupt import EXIT_CODE, StopOnInterrupt
from ondevice.live.background import BackgroundSource
from ondevice.live.open import Medium, Wishes, kind_of, open_live
from ondevice.live.record_session import RecordSession, View
from ondevice.live.recorded_set import RecordedSet, SetRate, check_labels
from ondevice.live.recorder import Recorder, SavedTake
from ondevice.live.source import LiveSource
from ondevice.terminal import text_console

MOST_LABELS = 9  # one a key


def record(
    source: Annotated[
        str,
        typer.Argument(
            help="serial:PORT@BAUD, stdin, camera:0, microphone, board:PORT or file:FILE"
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the data set; added to if it exists")
    ],
    labels: Annotated[
        str, typer.Option(help="Classes, e.g. walking,idle; keys 1 to 9 record takes of them")
    ] = "",
    label: Annotated[
        str, typer.Option(help="Record one take of this class at once, without keys")
    ] = "",
    duration_s: Annotated[
        float | None, typer.Option(min=0.001, help="A take ends by itself after so long")
    ] = None,
    hold_out: Annotated[
        int | None,
        typer.Option(min=2, help="Each so manieth take of a class goes to test/, others to train/"),
    ] = None,
    rate_hz: Annotated[
        float | None,
        typer.Option(min=0.001, help="The sample rate, where it need not be measured"),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Read a file without waiting.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a screen.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines on stdout; text goes to stderr.")
    ] = False,
) -> None:
    """Record a labelled data set from a sensor, by key press or for a set time.

    Keys: 1 to 9 begin and end a take of that label (of a camera: save a picture), space ends it, u
    deletes the last take, q quits.
    """
    chosen = _labels(labels, label, output)
    kind, _ = kind_of(source)
    source = "stdin" if source == "-" else source
    opened = open_live(source, Wishes(rate_hz, fast))
    # A slow terminal must not delay samples; a file does not care.
    live: LiveSource = opened if fast else BackgroundSource(opened)
    with closing(live):
        data_set = RecordedSet(output, kind.medium, live.channels, source, hold_out)
        console = text_console(as_json)
        session: RecordSession | None = None

        def saved(take: SavedTake) -> None:
            if session is not None:
                session.saved(take)
            if as_json:
                print(json.dumps(_record(take)), flush=True)
            if plain or as_json or label:
                console.print(f"{take.label}: {take.path}")
                for warning in take.warnings:
                    console.print(f"warning: {take.path}: {warning}")

        recorder = Recorder(data_set, kind.medium, _fixed(rate_hz, live), on_saved=saved)
        with StopOnInterrupt() as stop:
            session = RecordSession(live, recorder, chosen, duration_s, stop.requested)
            try:
                if label:
                    session.run_one(label, drop_backlog=kind.is_live and not fast)
                else:
                    _by_keys(session, source, kind.medium, plain or as_json)
            finally:
                for line in _summary(recorder, output):
                    console.print(line)
                if as_json:
                    print(json.dumps(_end(recorder, output)), flush=True)
        if stop.requested():
            raise typer.Exit(EXIT_CODE)


def _labels(labels: str, label: str, folder: Path) -> tuple[str, ...]:
    if bool(labels) and bool(label):
        raise typer.BadParameter("--labels (keys) and --label (one take) exclude each other")
    if label:
        check_labels((label,))
        return (label,)
    names = tuple(name.strip() for name in labels.split(",") if name.strip())
    if not names:  # those that are there already
        places = [folder, folder / "train", folder / "test"]
        found = {path.name for place in places if place.is_dir() for path in place.iterdir()
                 if path.is_dir()}  # fmt: skip
        names = tuple(sorted(found - {"train", "test"}))
    if not names:
        raise typer.BadParameter("give --labels walking,idle, or --label for one take without keys")
    if len(names) > MOST_LABELS:
        raise UserError(
            f"{len(names)} labels; allowed: {MOST_LABELS}, one a key; record the others in a "
            "second session"
        )
    check_labels(names)
    return names


def _fixed(rate_hz: float | None, source: LiveSource) -> SetRate | None:
    if source.rate_hz is not None:
        return SetRate(source.rate_hz, 0.0, "the source itself")
    return SetRate(rate_hz, 0.0, "the command line") if rate_hz is not None else None


def _by_keys(session: RecordSession, source: str, medium: Medium, plain: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    from ondevice.live.keys import Keys
    from ondevice.live.record_screen import record_screen

    with Keys() as keys:
        if plain:
            session.run(keys.pressed, lambda view: None)
            return
        console = Console(stderr=True, markup=False, highlight=False)
        with Live(console=console, screen=console.is_terminal, auto_refresh=False) as screen:

            def show(view: View) -> None:
                screen.update(record_screen(view, source, medium), refresh=True)

            session.run(keys.pressed, show)


def _record(take: SavedTake) -> dict[str, object]:
    return {
        "event": "take",
        "label": take.label,
        "file": str(take.path),
        "samples": take.samples,
        "seconds": round(take.seconds, 3),
        "warnings": list(take.warnings),
    }


def _end(recorder: Recorder, folder: Path) -> dict[str, object]:
    rate = recorder.known_rate()
    return {
        "event": "end",
        "folder": str(folder),
        "takes": len(recorder.saved),
        "rate_hz": rate.rate_hz if rate is not None else None,
        "rate_uncertainty_hz": rate.uncertainty_hz if rate is not None else None,
    }


def _summary(recorder: Recorder, folder: Path) -> list[str]:
    if not recorder.saved:
        return ["Nothing recorded"]
    names = sorted({take.label for take in recorder.saved})
    each = [f"{name} {sum(t.label == name for t in recorder.saved)}" for name in names]
    lines = [f"{len(recorder.saved)} takes in {folder}: {', '.join(each)}"]
    rate = recorder.known_rate()
    measured = recorder.rate()
    if rate is not None and rate.uncertainty_hz == 0:
        lines.append(f"Sample rate: {rate.rate_hz:g} Hz, from {rate.basis}")
    elif rate is not None and measured is not None:
        lines.append(
            f"Sample rate: {measured}, by {rate.basis} of {measured.samples:,} samples in "
            f"{measured.duration_s:.1f} s"
        )
        lines.extend(f"warning: {warning}" for warning in measured.warnings)
    return lines
