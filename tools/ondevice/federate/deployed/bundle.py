"""The bundle (FAB) that Flower wants of every run; what is run is installed already."""

_PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "ondevice-federation"
version = "1.0.0"
description = "Run by `ondevice federate serve` and `join`"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "ondevice"

[tool.flwr.app.components]
serverapp = "ondevice_federation:server"
clientapp = "ondevice_federation:client"

[tool.flwr.app.config]
"""
_MODULE = '''\
"""Holds no code: nodes run what is installed on them."""

raise ImportError("start it with `ondevice federate serve` and `ondevice federate join`")
'''


def build_bundle() -> bytes:
    """The bundle's bytes."""
    from flwr.cli.build import build_fab_from_files

    bundle, _ = build_fab_from_files(
        {"pyproject.toml": _PROJECT.encode(), "ondevice_federation.py": _MODULE.encode()}
    )
    return bytes(bundle)
