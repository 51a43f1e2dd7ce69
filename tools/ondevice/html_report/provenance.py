"""Sections "Model and data", "Settings" and "Made with": what somebody needs to do it again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ondevice.html_report.history import History
from ondevice.html_report.numbers import plain, size

_CREDENTIALS = re.compile(r"://[^/\s\"'@]+@")

Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class Provenance:
    """The sections.

    Attributes:
        model: Facts of the model.
        data: Facts of data and preprocessing.
        settings: config.toml, without what is private.
        versions: Names and versions.
        command: Does it again, in the run's folder.
        checkpoint: The run began with parameters of another one.
    """

    model: Facts
    data: Facts
    settings: str
    versions: Facts
    command: str
    checkpoint: bool


def provenance(history: History) -> Provenance:
    """Gathers it."""
    command = "ondevice train --config config.toml"
    if history.from_checkpoint:
        command += " --checkpoint start.npz"
    return Provenance(
        _model(history),
        _data(history),
        without_private(history.config, Path.home()),
        _versions(history),
        command,
        history.from_checkpoint,
    )


def without_private(text: str, home: Path) -> str:
    """Takes the person's name out of paths, and passwords out of addresses."""
    if home != Path(home.anchor):
        text = re.sub(rf"{re.escape(str(home))}(?=[/\"\s]|$)", "~", text)
    return _CREDENTIALS.sub("://...@", text)


def _model(history: History) -> Facts:
    manifest, started = history.manifest, history.started
    optimizer: dict[str, Any] = manifest["optimizer"]
    facts = [
        ("model", started.model),
        ("model id", started.model_id),
        ("run id", started.run),
        ("arithmetic", started.dtype),
        ("update scheme", started.scheme),
        ("loss", str(manifest["loss"])),
        ("optimiser", str(optimizer["name"])),
        ("samples an update", str(optimizer.get("accumulation_steps", 1))),
        ("learning rate", plain(started.learning_rate)),
        ("order of samples", f"seed {started.seed}"),
        ("input", " × ".join(map(str, manifest["input"]["source_shape"]))),
        ("outputs", str(manifest["output"]["count"])),
        ("constants in flash", size(manifest["memory"].get("const_bytes", 0))),
    ]
    return [(name, text) for name, text in facts if text]


def _data(history: History) -> Facts:
    started = history.started
    facts = [
        ("training samples", f"{started.samples:,}"),
        ("held-out samples", f"{started.test_samples:,}"),
    ]
    if started.class_names:
        facts.append(("classes", ", ".join(started.class_names)))
    how: dict[str, Any] | None = history.manifest.get("preprocessing")
    if how is None:
        return [*facts, ("preprocessing", "none: samples are given as the model takes them")]
    if how.get("channels"):
        facts.append(("channels", ", ".join(map(str, how["channels"]))))
    if how.get("rate_hz") is not None:
        facts.append(("sample rate", f"{plain(float(how['rate_hz']))} Hz"))
    if how.get("window_samples") is not None:
        window = f"{how['window_samples']} samples, one every {how.get('stride_samples')}"
        facts.append(("window", window))
    if how.get("gain"):
        facts.append(("normalisation", "(value - offset) × gain, each channel"))
        facts.append(("offset", ", ".join(f"{float(v):.4g}" for v in how["offset"])))
        facts.append(("gain", ", ".join(f"{float(v):.4g}" for v in how["gain"])))
    if how.get("audio"):
        facts.append(("features of sound", str(how["audio"].get("features"))))
    return facts


def _versions(history: History) -> Facts:
    environment, summary = history.environment or {}, history.summary or {}
    facts = [("board", history.started.board)]
    about = environment.get("board") or {}
    if about.get("title"):
        facts = [("board", f"{history.started.board}: {about['title']}")]
    if environment.get("begun"):
        facts.append(("begun", str(environment["begun"]).replace("T", " ")))
    if environment.get("python"):
        facts.append(("Python", str(environment["python"])))
    facts += [(str(k), str(v)) for k, v in (environment.get("packages") or {}).items()]
    facts += [(str(k), str(v)) for k, v in (environment.get("programs") or {}).items()]
    if environment.get("system"):
        facts.append(("computer", str(environment["system"])))
    facts.append(("model ABI", str(history.manifest["abi"])))
    if summary.get("firmware_digest"):
        facts.append(("firmware's digest (BLAKE2s)", str(summary["firmware_digest"])))
    return facts
