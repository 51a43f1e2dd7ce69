"""A key as a user meets it: made, built in, asked for, and never seen again."""

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ondevice import cli
from ondevice.checkpoint import load_checkpoint
from ondevice.key import KeyFileError, load_key, new_key
from toy_training import toy_manifest, write_toy_data

ROOT = Path(__file__).resolve().parent.parent
FAKE_MODEL = ROOT / "tests" / "c" / "fake_model.c"


Say = pytest.CaptureFixture[str]


def ondevice(*arguments: str) -> None:
    """The command line, in this process and folder."""
    cli.app(list(arguments), standalone_mode=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled model, whose table is optimiser state, its data, and a key."""
    place = tmp_path_factory.mktemp("keyed")
    manifest = toy_manifest(
        optimizer={"name": "momentum", "momentum": 0.9, "accumulation_steps": 2},
        model_id=bytes(range(16)).hex(),
        parameters=[
            {"name": "fc.weight", "shape": [4], "dtype": "int32", "bytes": 16, "format": "int32"},
            {
                "name": "fc.table.velocity",
                "shape": [3000],
                "dtype": "uint8",
                "bytes": 3000,
                "kind": "state",
                "format": "momentum",
            },
        ],
    )
    shape = [1, 1, 1, 150]
    manifest["input"].update(source_shape=[1, 150], shape=shape, memory_shape=shape, bytes=600)
    (place / "model").mkdir()
    (place / "model" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    text = FAKE_MODEL.read_text(encoding="utf-8")
    text = text.replace("OD_UINT8, OD_WEIGHT}", "OD_UINT8, OD_OPTIMIZER_STATE}")
    (place / "model" / "model.c").write_text(text, encoding="utf-8")
    samples: dict[str, Any] = {key: np.zeros((8, 150), np.float32) for key in ("x", "x_test")}
    write_toy_data(place / "data.npz", y=np.arange(8) % 2, y_test=np.arange(8) % 2, **samples)
    new_key(place / "board.key")
    return place


def train(capsys: Say, board: str, output: str, *options: str) -> tuple[Path, str]:
    """A run of 6 steps; returns its folder and what was printed."""
    ondevice(
        "train", "--model", "model", "--data", "data.npz", "--board", board,
        "--steps", "6", "--output", output, "--build-dir", f"build-{board}", *options,
    )  # fmt: skip
    said = capsys.readouterr()
    (run,) = Path(output).iterdir()
    return run, said.out + said.err


@pytest.mark.parametrize("board", ["host", "qemu_f405"])
def test_a_keyed_board_trains_and_shows_the_key_to_nobody(
    folder: Path, board: str, monkeypatch: pytest.MonkeyPatch, capsys: Say
) -> None:
    monkeypatch.chdir(folder)
    run, said = train(capsys, board, f"runs-{board}", "--key", "board.key")
    assert load_checkpoint(run / "checkpoint.npz").arrays[0][0] == 6  # it counts its steps
    key = Path("board.key").read_bytes()
    assert key.hex() not in said
    for path in run.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert key not in content, path
        assert key.hex().encode() not in content.lower(), path
    assert 'board.key"' in (run / "config.toml").read_text(encoding="utf-8")


def test_a_run_without_a_key_and_private_says_that_checkpoints_hold_weights_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say
) -> None:
    monkeypatch.chdir(folder)
    run, said = train(capsys, "host", "runs-private", "--no-allow-export")
    weights, state = load_checkpoint(run / "checkpoint.npz").arrays
    assert weights[0] == 6
    assert not state.any()
    assert "checkpoints hold weights only" in " ".join(said.split())


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path, capsys: Say) -> None:
    path = tmp_path / "board.key"
    ondevice("key", "new", str(path))
    key = path.read_bytes()
    assert (len(key), stat.S_IMODE(path.stat().st_mode)) == (32, 0o600)
    assert key.hex() not in capsys.readouterr().out
    with pytest.raises(KeyFileError, match="is there already; choose another name"):
        ondevice("key", "new", str(path))
    assert path.read_bytes() == load_key(path) == key
    new_key(tmp_path / "other.key")
    assert load_key(tmp_path / "other.key") != key
    assert load_key(None) is None


def test_what_is_no_key_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    with pytest.raises(KeyFileError, match="cannot read the key"):
        load_key(path)
    for content in (b"", bytes(31), bytes(32), b"\xff" * 32, b"x" * 33):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(KeyFileError, match="not a key"):
            load_key(path)
    path.write_bytes(bytes(range(32)))
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match=r"0640 let others read the key; .*chmod 600"):
        load_key(path)
