"""What a scheme costs is known without generating its code."""

from __future__ import annotations

from functools import cache

import pytest

from ondevice_compiler.compile import Analysis, CompileOptions, analyse, plan_scheme
from small_networks import NETWORKS, compiled, labels


@cache
def analysis(name: str, dtype: str) -> Analysis:
    network = NETWORKS[name]
    return analyse(network.module(), network.samples(32), labels(32), CompileOptions(dtype=dtype))


@pytest.mark.parametrize(
    ("name", "dtype", "scheme", "optimizer"),
    [
        ("wearer", "int8", "full", "momentum"),
        ("perceptron", "float32", "bias", "sgd"),
    ],
)
def test_ram_and_macs_of_a_planned_scheme_are_those_of_the_manifest(
    name: str, dtype: str, scheme: str, optimizer: str
) -> None:
    options = CompileOptions(dtype=dtype, scheme=scheme, optimizer=optimizer)
    planned = plan_scheme(analysis(name, dtype), options)
    manifest = compiled(name, dtype=dtype, scheme=scheme, optimizer=optimizer).model.manifest
    assert planned.memory.ram_bytes == manifest["memory"]["ram_bytes"]
    assert planned.macs == sum(op["macs"] for op in manifest["ops"] if op["phase"] != "apply")
