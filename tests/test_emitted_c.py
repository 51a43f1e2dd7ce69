"""The C that comes out: the same each time, clean under strict warnings, tied to its runtime."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from native_model import ROOT, WARNINGS
from ondevice_compiler.emit import ABI
from ondevice_compiler.scheme import UpdateScheme
from small_networks import compiled

SPARSE = UpdateScheme.of("sparse", ["head.weight", "head.bias", "depthwise.bias", "fc.bias"])
COMPILERS = ["gcc", "arm-none-eabi-gcc"]
DIGEST = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from small_networks import compiled
files = compiled(sys.argv[2], optimizer="momentum", accumulation_steps=2).model.files
text = "".join(name + files[name] for name in sorted(files))
print("digest", hashlib.sha256(text.encode()).hexdigest())
"""


def check_c(
    compiler: str, folder: Path, files: dict[str, str], cpu: str = "cortex-m4"
) -> subprocess.CompletedProcess[str]:
    """Compiles the model's C under the house's warnings."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    machine = [f"-mcpu={cpu}", "-mthumb"] if compiler.startswith("arm") else []
    if cpu == "cortex-m55":
        machine.append("-mfloat-abi=hard")  # Vectors are passed in the FPU's registers.
    include = f"-I{ROOT / 'runtime/include'}"
    flags = ["-std=c99", "-O2", "-ffp-contract=off", *WARNINGS, *machine, include, "-c"]
    command = [compiler, *flags, str(folder / "model.c"), "-o", str(folder / "model.o")]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize(
    "scheme", ["full", "last", "bias", SPARSE], ids=["full", "last", "bias", "sparse"]
)
def test_the_c_is_clean_under_strict_warnings(
    scheme: str | UpdateScheme, dtype: str, tmp_path: Path
) -> None:
    files = compiled("wearer", scheme=scheme, dtype=dtype).model.files
    for compiler in COMPILERS:
        done = check_c(compiler, tmp_path, files)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("cpu", "simd"),
    [
        ("cortex-m0plus", "none"), ("cortex-m3", "none"), ("cortex-m33", "dsp"),
        ("cortex-m55", "mve"),
    ],
)  # fmt: skip
def test_the_c_is_clean_for_every_core(cpu: str, simd: str, tmp_path: Path) -> None:
    files = compiled("wearer", simd=simd).model.files
    done = check_c("arm-none-eabi-gcc", tmp_path, files, cpu)
    assert done.returncode == 0, done.stderr
    assert ("od_dot16" in files["kernels.h"]) == (simd == "mve")
    assert ("od_dot4" in files["kernels.h"]) <= (simd != "none")


@pytest.mark.parametrize(
    ("name", "dtype"), [("residual", "int8"), ("residual", "float32"), ("pools", "int8")]
)
def test_the_c_of_every_network_is_clean_with_sums_and_momentum(
    name: str, dtype: str, tmp_path: Path
) -> None:
    made = compiled(name, dtype=dtype, optimizer="momentum", accumulation_steps=2)
    done = check_c("arm-none-eabi-gcc", tmp_path, made.model.files)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("samples", "dtype"), [(1, "int8"), (2, "float32")])
def test_the_c_is_clean_with_adam_decay_and_clipping(
    samples: int, dtype: str, tmp_path: Path
) -> None:
    rule: dict[str, Any] = {"optimizer": "adam", "weight_decay": 0.1, "accumulation_steps": samples}
    made = compiled("perceptron", dtype=dtype, clip_norm=1.0, clip_value=1.0, **rule)
    done = check_c("arm-none-eabi-gcc", tmp_path, made.model.files)
    assert done.returncode == 0, done.stderr


def test_the_same_model_gives_the_same_bytes_in_every_process() -> None:
    digests = set()
    for seed in ("0", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-c", DIGEST, str(ROOT / "tests"), "residual"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        digests.add(re.search(r"^digest (\w+)$", done.stdout, re.MULTILINE)[1])  # type: ignore[index]
    assert len(digests) == 1


def test_a_runtime_of_another_abi_is_refused_by_name(tmp_path: Path) -> None:
    header = (ROOT / "runtime/include/ondevice/model.h").read_text(encoding="utf-8")
    changed, count = re.subn(r"(#define OD_MODEL_ABI) (\d+)", r"\1 99", header)
    assert count == 1
    (tmp_path / "ondevice").mkdir()
    (tmp_path / "ondevice/model.h").write_text(changed, encoding="utf-8")
    files = {**compiled("perceptron").model.files}
    files["model.c"] = files["model.c"].replace('"ondevice/model.h"', '"./ondevice/model.h"')
    done = check_c("gcc", tmp_path, files)
    assert done.returncode != 0
    assert f"compiled for runtime ABI {ABI}: compile it again" in done.stderr


def test_the_model_id_follows_the_content() -> None:
    ids = {
        compiled("perceptron", **options).model.manifest["model_id"]
        for options in ({}, {"scheme": "last"}, {"dtype": "float32"}, {"optimizer": "momentum"})
    }
    assert len(ids) == 4
    manifest = compiled("perceptron").model.manifest
    text = compiled("perceptron").model.files["model.c"]
    written = re.search(r"\.id = \{(.*)\}", text)
    assert written is not None
    assert bytes(int(v, 16) for v in written[1].split(", ")).hex() == manifest["model_id"]
    assert len(manifest["model_id"]) == hashlib.sha256().digest_size


def test_ram_in_the_manifest_is_what_the_object_file_takes(tmp_path: Path) -> None:
    for dtype in ("int8", "float32"):
        made = compiled("wearer", dtype=dtype, optimizer="momentum")
        done = check_c("arm-none-eabi-gcc", tmp_path, made.model.files)
        assert done.returncode == 0, done.stderr
        listing = ["arm-none-eabi-size", "-B", str(tmp_path / "model.o")]
        sizes = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
        _, data, bss = (int(v) for v in sizes.splitlines()[1].split()[:3])
        ram_bytes = made.model.manifest["memory"]["ram_bytes"]
        assert data == 0, "nothing may be copied to RAM at start"
        assert ram_bytes <= bss <= ram_bytes + 3 * (4 + len(made.model.manifest["parameters"]))
