"""The options of what is compiled; every verb that may compile takes all of them."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Section = dict[str, object]
"""The section [model] of the configuration; None where an option was not given."""

_PREFIX = "model_"  # The options' names in Python, beside the verb's own.


def _option(kind: Any, flag: str, text: str, **limits: Any) -> Any:
    return Annotated[kind | None, typer.Option(flag, help=text, rich_help_panel="Model", **limits)]


OPTIONS = {
    "file": _option(
        Path,
        "--model",
        ".onnx, .pt2, .tflite or .pkl file, or a directory written by `ondevice compile` "
        "(default: the demo's)",
    ),
    "head": _option(
        int,
        "--head",
        "Replace the last layer by a fresh one with this many outputs (default: keep it)",
        min=1,
    ),
    "scheme": _option(
        str,
        "--scheme",
        "What is updated: full, last, last-K, bias, bias-only, bn, tinytl or sparse:FILE.toml "
        "(default: full)",
    ),
    "dtype": _option(Literal["int8", "float32"], "--dtype", "Arithmetic (default: int8)"),
    "loss": _option(
        Literal["cross_entropy", "binary_cross_entropy", "mse"],
        "--loss",
        "(default: cross_entropy)",
    ),
    "label_smoothing": _option(
        float,
        "--label-smoothing",
        "Share of the target that cross entropy spreads over all classes (default: 0)",
    ),
    "optimizer": _option(Literal["sgd", "momentum", "adam"], "--optimizer", "(default: sgd)"),
    "momentum": _option(float, "--momentum", "Of --optimizer momentum (default: 0.9)"),
    "weight_decay": _option(
        float, "--weight-decay", "Of weights, not of biases; Adam's is decoupled (default: 0)"
    ),
    "clip_norm": _option(
        float, "--clip-norm", "Largest norm of the whole gradient; costs 4 bytes a parameter"
    ),
    "clip_value": _option(float, "--clip-value", "Largest magnitude of each gradient element"),
    "tuning": _option(
        Path, "--tuning", "Tuning database of `ondevice tune` (default: the one that is shipped)"
    ),
    "accumulation_steps": _option(int, "--accumulate", "Samples an update (default: 1)", min=1),
}


def with_model_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Gives a verb all model options; it receives them as one `Section` called `model`."""
    own = inspect.signature(verb)
    kind = inspect.Parameter.KEYWORD_ONLY  # so that one without a default may stand anywhere
    others = [p.replace(kind=kind) for name, p in own.parameters.items() if name != "model"]
    added = [
        inspect.Parameter(_PREFIX + key, kind, default=None, annotation=annotation)
        for key, annotation in OPTIONS.items()
    ]

    @functools.wraps(verb)
    def with_section(**given: Any) -> None:
        section = {key: given.pop(_PREFIX + key) for key in OPTIONS}
        verb(model=section, **given)

    # Typer reads both.
    with_section.__signature__ = own.replace(parameters=[*added, *others])  # type: ignore[attr-defined]
    with_section.__annotations__ = {p.name: p.annotation for p in (*added, *others)}
    return with_section
