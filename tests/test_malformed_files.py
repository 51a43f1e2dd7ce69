"""Files that anybody may have made: refused in one line, with nothing run and nothing written."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ondevice.boards import load_board
from ondevice.checkpoint import CheckpointError, checkpoint_from_device, load_checkpoint
from ondevice.checkpoint import save_checkpoint as write_checkpoint
from ondevice.compiled_model import load_model_directory
from ondevice.config import Config, config_to_toml, load_config
from ondevice.data import DataError, load_dataset
from ondevice.errors import UserError
from ondevice.npz import NpzError, read_npz
from ondevice.places import data_folder
from ondevice_compiler.errors import UserError as CompilerError
from ondevice_compiler.load import load_model
from ondevice_compiler.load.array_pickle import read_array_archive
from ondevice_compiler.tiling.database import read_database
from toy_training import toy_manifest

REFUSED = (UserError, CompilerError)
any_file = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
slow_file = settings(any_file, max_examples=15)
fix = st.tuples(
    st.integers(0, 2**31), st.sampled_from(["set", "cut", "drop", "add"]), st.binary(max_size=9)
)


class Trap:
    """A pickle of it creates a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self._marker), "w")


def spoilt(good: bytes, changes: list[tuple[int, str, bytes]]) -> bytes:
    """The good file with some bytes overwritten, cut off, left out or put in."""
    data = bytearray(good)
    for place, kind, content in changes:
        at = place % (len(data) + 1)
        if kind == "set":
            data[at : at + len(content)] = content
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at : at + 1 + len(content)]
        else:
            data[at:at] = content
    return bytes(data)


def refusal(load: Callable[[Path], object], path: Path) -> str | None:
    """What a user is told; None where the file loads. Any other error fails the test."""
    try:
        load(path)
    except REFUSED as error:
        return str(error)
    return None


def check(path: Path, content: bytes, load: Callable[[Path], object]) -> None:
    """The file loads or is refused in one line, and the folder stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    before = sorted(path.parent.rglob("*"))
    said = refusal(load, path)
    assert said is None or 0 < len(said) < 1500
    assert said is None or "\n" not in said, said
    assert sorted(path.parent.rglob("*")) == before


def data_file() -> bytes:
    content = io.BytesIO()
    x, y = np.arange(24, dtype=np.float32).reshape(4, 6), np.array([0, 1, 0, 1])
    np.savez_compressed(content, x=x, y=y, x_test=x, y_test=y, class_names=np.array(["a", "b"]))
    return content.getvalue()


def checkpoint_file(tmp_path: Path) -> bytes:
    manifest = toy_manifest()
    parameters = [bytes(entry["bytes"]) for entry in manifest["parameters"]]
    path = tmp_path / "good-checkpoint.npz"
    write_checkpoint(path, checkpoint_from_device(manifest, 3, parameters))
    return path.read_bytes()


@any_file
@given(changes=st.lists(fix, min_size=1, max_size=4))
def test_spoilt_data_files_are_refused_or_load(
    tmp_path: Path, changes: list[tuple[int, str, bytes]]
) -> None:
    check(tmp_path / "a" / "data.npz", spoilt(data_file(), changes), load_dataset)


@any_file
@given(changes=st.lists(fix, min_size=1, max_size=4))
def test_spoilt_checkpoints_are_refused_or_load(
    tmp_path: Path, changes: list[tuple[int, str, bytes]]
) -> None:
    good = checkpoint_file(tmp_path)
    check(tmp_path / "b" / "checkpoint.npz", spoilt(good, changes), load_checkpoint)


@any_file
@given(changes=st.lists(fix, min_size=1, max_size=3))
def test_spoilt_text_files_are_refused_or_load(
    tmp_path: Path, changes: list[tuple[int, str, bytes]]
) -> None:
    board = (data_folder("boards") / "nucleo_f446re.ini").read_bytes()
    config = config_to_toml(Config()).encode()
    entry = b'{"workload": "w", "tile": [1, 2, 4], "count": 7, "unit": "instructions"}\n'
    manifest = json.dumps(toy_manifest()).encode()
    folder = tmp_path / "c"
    check(
        folder / "nucleo_f446re.ini", spoilt(board, changes), lambda p: load_board(p.stem, folder)
    )
    check(folder / "run.toml", spoilt(config, changes), load_config)
    check(folder / "tuning.jsonl", spoilt(entry, changes), read_database)
    check(
        folder / "manifest.json", spoilt(manifest, changes), lambda p: load_model_directory(folder)
    )


wild = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@any_file
@given(data=st.data())
def test_a_manifest_with_anything_in_any_place_is_refused_or_has_its_form(
    tmp_path: Path, data: st.DataObject
) -> None:
    manifest = json.loads(json.dumps(toy_manifest()))
    place: Any = manifest
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            place[key] = data.draw(wild)
            break
        place = inner
    check(
        tmp_path / "d" / "manifest.json",
        json.dumps(manifest).encode(),
        lambda path: load_model_directory(path.parent),
    )


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (
            ("input", "bytes"),
            2**70,
            r"input\.bytes is 1180591620717411303424; needed: 0 to",
        ),
        (("input", "bytes"), -1, r"input\.bytes is -1; needed"),
        (("memory",), 5, "memory is 5; needed: a table"),
        (("parameters",), {}, r"parameters is \{\}; needed: a list"),
        (("label", "count"), True, r"label\.count is True"),
    ],
)
def test_a_manifest_of_another_form_is_named(
    tmp_path: Path, place: tuple[str, ...], value: Any, message: str
) -> None:
    manifest = json.loads(json.dumps(toy_manifest()))
    inner = manifest
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_model_directory(tmp_path)


def npy(header: str, content: bytes) -> bytes:
    """An .npy file with any header."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def test_an_archive_that_unpacks_to_more_than_is_allowed_is_refused_before_it_is_unpacked(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(30_000_000))
    assert path.stat().st_size < 40_000
    with pytest.raises(NpzError, match="unpacks to 30,000,000 bytes; allowed: 1,000,000"):
        read_npz(path, 1_000_000)


@pytest.mark.parametrize(
    ("header", "content"),
    [
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }", bytes(80)),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (9,), }", bytes(80)),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (-10,), }", bytes(80)),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (2**64, 0), }", b""),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': __import__('os'), }", bytes(80)),
        ("{'descr': '<f8', 'fortran_order': False}", bytes(80)),
        ("{" * 100, b""),
    ],
)
def test_an_array_that_promises_what_it_does_not_hold_is_refused(
    tmp_path: Path, header: str, content: bytes
) -> None:
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy(header, content))
    with pytest.raises(DataError):
        load_dataset(path)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


ONE_NUMBER = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }"


def test_names_that_leave_the_archive_write_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    with zipfile.ZipFile(folder / "data.npz", "w") as archive:
        for name in ("../../outside.npy", "/tmp/outside.npy", "x.npy"):
            archive.writestr(
                name, npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", bytes(8))
            )
    with pytest.raises(DataError, match="no key 'y'"):
        load_dataset(folder / "data.npz")
    assert [path.name for path in tmp_path.rglob("*")] == ["inner", "data.npz"]


def test_no_archive_runs_the_pickle_that_it_holds(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    trap = pickle.dumps(Trap(marker), protocol=2)
    content = io.BytesIO()
    np.save(content, np.array([Trap(marker)], dtype=object), allow_pickle=True)
    for entry in ("x.npy", "format.npy", "names.npy", "evil/data.pkl"):
        path = tmp_path / "evil.npz"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(entry, trap if entry.endswith(".pkl") else content.getvalue())
        for load in (load_dataset, load_checkpoint, read_array_archive):
            with pytest.raises(REFUSED):
                load(path)
    (tmp_path / "evil.pkl").write_bytes(trap)
    with pytest.raises(REFUSED):
        load_model(tmp_path / "evil.pkl")
    assert not marker.exists()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "good.pt2"
    model = torch.nn.Sequential(torch.nn.Linear(4, 3)).eval()
    torch.export.save(torch.export.export(model, (torch.zeros(1, 4),)), path)
    return path


def rewritten(path: Path, good: Path, replaced: dict[str, bytes]) -> Path:
    """The archive with entries replaced, by the ends of their names."""
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w") as archive:
        for entry in source.infolist():
            ends = [end for end in replaced if entry.filename.endswith(end)]
            content = replaced.pop(ends[0]) if ends else source.read(entry)
            archive.writestr(entry.filename, content)
        for end, content in replaced.items():
            archive.writestr(f"good/{end}", content)
    return path


@pytest.mark.parametrize("where", ["sample inputs", "weight", "constant", "object"])
def test_a_torch_program_runs_no_pickle(tmp_path: Path, exported: Path, where: str) -> None:
    assert load_model(exported).source_shape == (1, 4)
    marker = tmp_path / "marker"
    stream = io.BytesIO()
    torch.save(Trap(marker), stream)
    meta = {"use_pickle": True, "is_param": True, "tensor_meta": None}
    constants = "data/constants/model_constants_config.json"
    if where == "sample inputs":
        changes = {"data/sample_inputs/model.pt": stream.getvalue()}
    elif where == "weight":
        with zipfile.ZipFile(exported) as archive:
            name = "good/data/weights/model_weights_config.json"
            config = json.loads(archive.read(name))
        config["config"]["0.weight"] |= meta
        changes = {
            "data/weights/weight_0": stream.getvalue(),
            "data/weights/model_weights_config.json": json.dumps(config).encode(),
        }
    else:
        kind = "tensor" if where == "constant" else "opaque_obj"
        entry = {"path_name": f"{kind}_0", **meta, "is_param": False}
        pickled = stream.getvalue() if where == "constant" else pickle.dumps(Trap(marker))
        changes = {
            constants: json.dumps({"config": {"c": entry}}).encode(),
            f"data/constants/{kind}_0": pickled,
        }
    path = rewritten(tmp_path / "evil.pt2", exported, changes)
    assert "\n" not in (refusal(load_model, path) or "")
    assert not marker.exists()


SIZES = (("x", 4), ("y", 3))


def onnx_model(external: str | None = None) -> bytes:
    weight = numpy_helper.from_array(np.ones((3, 4), np.float32), "w")
    if external is not None:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=external)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, k]) for n, k in (("x", 4), ("y", 3))
    ]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    return bytes(model.SerializeToString())


def test_an_onnx_file_reads_no_file_outside_its_folder(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(48))
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "good.onnx").write_bytes(onnx_model())
    assert load_model(folder / "good.onnx").source_shape == (1, 4)
    for location in ("../secret", str(secret), "missing"):
        (folder / "evil.onnx").write_bytes(onnx_model(location))
        with pytest.raises(CompilerError, match="not a valid ONNX file"):
            load_model(folder / "evil.onnx")


@slow_file
@given(changes=st.lists(fix, min_size=1, max_size=4))
def test_spoilt_models_are_refused_or_load(
    tmp_path: Path, exported: Path, changes: list[tuple[int, str, bytes]]
) -> None:
    check(tmp_path / "e" / "net.onnx", spoilt(onnx_model(), changes), load_model)
    check(tmp_path / "e" / "net.pt2", spoilt(exported.read_bytes(), changes), load_model)
