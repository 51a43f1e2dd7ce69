"""Rounds over the link, on the host board: what a federation's client asks of a board."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ondevice.boards import load_board
from ondevice.build import Firmware, build_firmware, simulate_command
from ondevice.errors import DeviceError
from ondevice.federate.board_round import BoardRound
from ondevice.federate.delta import Codec, decode_delta
from ondevice.federate.weights import Weights, weight_formats, weights_from_device
from ondevice.flash_file import prepare_flash_file
from ondevice.link.device import Device
from ondevice.link.messages import Failure, Region, Request, encode_read
from ondevice.link.transport import ProcessTransport
from ondevice_compiler.samples import pack_label, pack_sample
from small_networks import NETWORKS, compiled, labels

RATE = 0.005
MODELS: dict[str, dict[str, Any]] = {
    "dense": {},
    "topk": {"compress": "topk", "compress_ratio": 0.1, "optimizer": "momentum"},
    "int8": {"compress": "int8"},
    "proximal": {"proximal": True},
}


@cache
def manifest_of(kind: str) -> dict[str, Any]:
    return dict(compiled("perceptron", **MODELS[kind]).model.manifest)


class Bench:
    """Firmware of the models above, built once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._built: dict[tuple[str, bool, str], Firmware] = {}

    def _firmware(self, kind: str, private: bool, name: str) -> Firmware:
        if (kind, private, name) not in self._built:
            folder = self._root / f"{kind}-{private}-{name}"
            compiled("perceptron", **MODELS[kind]).model.write(folder / "model")
            self._built[kind, private, name] = build_firmware(
                folder / "model", load_board(name), folder / "build", None, not private
            )
        return self._built[kind, private, name]

    @contextmanager
    def board(
        self, kind: str, private: bool = False, flash: Path | None = None, name: str = "host"
    ) -> Iterator[Device]:
        board = load_board(name)
        path = prepare_flash_file(flash, board) if flash is not None else None
        command = simulate_command(self._firmware(kind, private, name), board, path)
        with Device(ProcessTransport(command)) as device:
            yield device


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("rounds"))


def first_weights(kind: str, device: Device) -> list[bytes]:
    parameters = device.read_parameters()
    return [parameters[form.index] for form in weight_formats(manifest_of(kind))]


def train(kind: str, device: Device, steps: int = 12) -> None:
    manifest = manifest_of(kind)
    for x, y in zip(NETWORKS["perceptron"].samples(steps, seed=5), labels(steps), strict=True):
        device.write_input(pack_sample(manifest, x))
        device.write_label(pack_label(manifest, y))
        device.train(RATE)


def learnt(kind: str, device: Device, before: list[bytes]) -> Weights:
    """The change that the device's weights show now."""
    formats = weight_formats(manifest_of(kind))
    after = weights_from_device(formats, device.read_parameters())
    return tuple(
        new - form.to_real(old) for new, form, old in zip(after, formats, before, strict=True)
    )


def total(change: Weights) -> float:
    return sum(float(np.abs(array).sum()) for array in change)


def difference(one: Weights, other: Weights) -> Weights:
    return tuple(a - b for a, b in zip(one, other, strict=True))


def test_a_dense_round_sends_all_that_was_learnt(bench: Bench) -> None:
    with bench.board("dense") as device:
        before = first_weights("dense", device)
        one = BoardRound(device, manifest_of("dense"))
        one.begin(before)
        train("dense", device)
        change = learnt("dense", device, before)
        message = one.end()
    assert message[0] == Codec.DENSE
    assert total(change) > 0
    assert total(difference(decode_delta(manifest_of("dense"), message), change)) < 1e-9


def test_what_top_k_does_not_send_comes_with_later_rounds(bench: Bench) -> None:
    """Rounds that learn nothing empty the residual; what arrived in all is what was learnt."""
    manifest = manifest_of("topk")
    with bench.board("topk") as device:
        before = first_weights("topk", device)
        one = BoardRound(device, manifest)
        one.begin(before)
        train("topk", device)
        change = learnt("topk", device, before)
        arrived = decode_delta(manifest, one.end())
        sent = sum(int(np.count_nonzero(array)) for array in arrived)
        assert 0 < sent <= 0.1 * sum(array.size for array in change) + 1
        for _ in range(12):
            one.begin(before)
            arrived = tuple(
                a + b for a, b in zip(arrived, decode_delta(manifest, one.end()), strict=True)
            )
    assert total(difference(arrived, change)) < 1e-9


def test_a_change_that_was_not_taken_is_sent_again(bench: Bench) -> None:
    manifest = manifest_of("topk")
    with bench.board("topk") as device:
        before = first_weights("topk", device)
        one = BoardRound(device, manifest)
        one.begin(before)
        train("topk", device)
        lost = one.end()
        one.begin(before, taken=False)
        assert one.end() == lost
        one.begin(before, taken=True)
        assert one.end() != lost


def test_a_change_may_be_read_again_and_is_neither_trained_nor_evaluated(bench: Bench) -> None:
    manifest = manifest_of("int8")
    with bench.board("int8") as device:
        one = BoardRound(device, manifest)
        one.begin(first_weights("int8", device))
        train("int8", device)
        assert one.end() == one.end()
        for forbidden in (device.evaluate, lambda: device.train(RATE)):
            with pytest.raises(DeviceError) as caught:
                forbidden()
            assert caught.value.code == Failure.STATE


def test_an_upload_that_is_cut_short_keeps_the_residual(bench: Bench) -> None:
    manifest = manifest_of("topk")
    with bench.board("topk") as device:
        before = first_weights("topk", device)
        one = BoardRound(device, manifest)
        one.begin(before)
        train("topk", device)
        lost = one.end()
        device._channel.request(Request.PARAMETERS_BEGIN, bytes([1]))  # and then nothing
        one.begin(before, taken=True)
        assert one.end() == lost


def test_the_residual_survives_a_power_loss_in_the_boards_flash(
    bench: Bench, tmp_path: Path
) -> None:
    manifest = manifest_of("topk")
    flash = tmp_path / "board.flash"
    with bench.board("topk", flash=flash) as device:
        before = first_weights("topk", device)
        one = BoardRound(device, manifest)
        one.begin(before)
        train("topk", device)
        one.end()
        device.save_checkpoint()
        one.begin(before)
        wanted = one.end()
    with bench.board("topk", flash=flash) as device:
        assert device.info.restored
        one = BoardRound(device, manifest)
        one.begin(before)
        assert one.end() == wanted


def test_a_private_board_takes_part_and_gives_no_residual_away(bench: Bench) -> None:
    manifest = manifest_of("topk")
    index = next(e["index"] for e in manifest["parameters"] if e["format"] == "residual")
    messages = []
    for private in (False, True):
        with bench.board("topk", private) as device:
            before = first_weights("topk", device)
            one = BoardRound(device, manifest)
            for _ in range(2):
                one.begin(before)
                train("topk", device)
                messages.append(one.end())
            if private:
                with pytest.raises(DeviceError) as caught:
                    device._channel.request(
                        Request.READ, encode_read(Region.PARAMETER, index, 0, 4)
                    )
                assert caught.value.code == Failure.PRIVATE
    assert messages[:2] == messages[2:]
    assert messages[0] != messages[1]


def test_a_round_forgets_the_sample_of_a_private_board(bench: Bench) -> None:
    with bench.board("dense", private=True) as device:
        manifest = manifest_of("dense")
        sample = pack_sample(manifest, NETWORKS["perceptron"].samples(1, seed=9)[0])
        before = first_weights("dense", device)
        device.write_input(sample)
        device.write_label(pack_label(manifest, 0))
        seen = device.evaluate().loss
        BoardRound(device, manifest).begin(before)
        assert device.evaluate().loss != seen


def test_a_round_that_is_begun_again_forgets_the_first_attempt(bench: Bench) -> None:
    manifest = manifest_of("int8")
    messages = []
    for interrupted in (False, True):
        with bench.board("int8") as device:
            before = first_weights("int8", device)
            one = BoardRound(device, manifest)
            one.begin(before)
            train("int8", device)
            one.end()
            one.begin(before)
            scales = device.read_scales()
            if interrupted:
                train("int8", device, steps=7)
                held = device.read_parameters()
                one.begin(before, again=True)
                device.write_parameters(device.read_parameters(), scales)
                assert held != device.read_parameters()
            train("int8", device)
            messages.append(one.end())
    assert messages[0] == messages[1]


def test_a_restarted_board_takes_a_round_begun_again_for_a_new_one(
    bench: Bench, tmp_path: Path
) -> None:
    manifest = manifest_of("topk")
    flash = tmp_path / "board.flash"
    with bench.board("topk", flash=flash) as device:
        before = first_weights("topk", device)
        one = BoardRound(device, manifest)
        one.begin(before)
        train("topk", device)
        one.end()
        device.save_checkpoint()
        one.begin(before)
        wanted = one.end()
    with bench.board("topk", flash=flash) as device:
        one = BoardRound(device, manifest)
        one.begin(before, again=True)
        assert one.end() == wanted


def test_the_pull_is_refused_where_nothing_is_anchored(bench: Bench) -> None:
    with bench.board("dense") as device, pytest.raises(DeviceError) as caught:
        device.rounds.pull(0.5)
    assert caught.value.code == Failure.UNSUPPORTED


def test_a_whole_pull_undoes_the_round(bench: Bench) -> None:
    with bench.board("proximal") as device:
        before = first_weights("proximal", device)
        one = BoardRound(device, manifest_of("proximal"))
        one.begin(before)
        train("proximal", device)
        assert first_weights("proximal", device) != before
        device.rounds.pull(1.0)
        assert first_weights("proximal", device) == before
        with pytest.raises(DeviceError) as caught:
            device.rounds.pull(1.5)
        assert caught.value.code == Failure.VALUE


def test_a_round_keeps_the_velocity_and_a_whole_upload_does_not_end_in_one(bench: Bench) -> None:
    manifest = manifest_of("topk")
    with bench.board("topk") as device:
        before = first_weights("topk", device)
        one = BoardRound(device, manifest)
        one.begin(before)
        train("topk", device)
        held = device.read_parameters()
        one.begin(before)
        entries = manifest["parameters"]
        velocity = [e["index"] for e in entries if e["format"] == "momentum"]
        after = device.read_parameters()
        assert [after[i] for i in velocity] == [held[i] for i in velocity]
        device.write_parameters(held)  # in the middle of a round, as it was read
        assert device.read_parameters() == held
        assert device.rounds.end().message


def test_qemu_sends_the_bytes_that_the_host_board_sends(bench: Bench) -> None:
    manifest, messages = manifest_of("topk"), []
    for name in ("host", "qemu_f405"):
        with bench.board("topk", name=name) as device:
            one = BoardRound(device, manifest)
            before = first_weights("topk", device)
            for _ in range(3):
                one.begin(before)
                train("topk", device)
                messages.append(one.end())
    assert messages[:3] == messages[3:]
    assert one.ticks > 0
