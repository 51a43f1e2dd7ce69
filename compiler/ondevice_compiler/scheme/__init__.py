"""Update schemes: which parameters, and which channels of them, a training step changes."""

from __future__ import annotations

from ondevice_compiler.scheme.channels import strongest_channels
from ondevice_compiler.scheme.prepare import prepare
from ondevice_compiler.scheme.resolve import SCHEMES, resolve_scheme
from ondevice_compiler.scheme.select import select
from ondevice_compiler.scheme.update_scheme import UpdateScheme

__all__ = ["SCHEMES", "UpdateScheme", "prepare", "resolve_scheme", "select", "strongest_channels"]
