"""A client's part of a round: from an order to a report, on its board."""

import math
import zlib
from dataclasses import replace

import numpy as np

from ondevice.errors import DeviceError, LinkError, UserError
from ondevice.evaluation import evaluate
from ondevice.federate.board_round import BoardRound
from ondevice.federate.delta import decode_changes
from ondevice.federate.messages import Order, Report
from ondevice.federate.participant import Memory, Participant, load_memory, save_memory
from ondevice.federate.weights import WeightFormat, weight_formats
from ondevice.link.device import Device
from ondevice.link.messages import Failure
from ondevice.training_device import counter_unit

ATTEMPTS = 4  # A board that fails as often in one round is not asked again in it.
PULL_SHARE = 1 / 16  # Smaller ones would round to nothing in Q8.8.


def train_round(participant: Participant, order: Order) -> Report:
    """Trains a round and reports; a round that was reported already is reported again.

    Args:
        participant: Whose board holds what its last round left.
        order: From the server.

    Raises:
        LinkError: The board failed `ATTEMPTS` times.
        UserError: The order does not fit the model.
    """
    device = participant.connection.device
    memory = load_memory(participant.memory_file, order.federation)
    if memory.checkpoint and not _restore(device, memory.checkpoint):
        memory = Memory(order.federation)  # another board, or one whose flash was erased
    formats = weight_formats(participant.manifest)
    whole = _global_weights(formats, order, memory)
    if whole is None:
        return Report(order.round, needs_whole=True)
    sent = memory.report
    if sent is not None and sent.round == order.round and memory.held_weights == whole:
        return sent  # The server was restarted before it had saved the round.
    if not memory.held_round:
        device.reset_model()  # of an earlier federation, if any
    taken = sent is None or sent.round <= order.taken_round
    report = _train(participant, order, _split(formats, whole), taken)
    # Flash first: of a client that ends in between, the board still has the checkpoint that the
    # older memory names.
    checkpoint = _keep(participant.connection.device)
    save_memory(
        participant.memory_file, Memory(order.federation, order.round, whole, report, checkpoint)
    )
    return report


def evaluate_weights(participant: Participant, order: Order) -> Report:
    """Measures the order's (whole) weights on the client's held-out samples.

    The board's state is afterwards what its last round left. Where it can neither be read nor put
    back from flash, nothing is measured.
    """
    device = participant.connection.device
    if not participant.held_out or not (device.info.allow_export or device.info.keeps_checkpoints):
        return Report(order.round)
    formats = weight_formats(participant.manifest)
    parameters, scales = device.read_parameters(), device.read_scales()
    trial = list(parameters)
    for form, content in zip(formats, _split(formats, order.weights), strict=True):
        trial[form.index] = content
    for entry in participant.manifest["parameters"]:
        if entry["format"] == "round phase":
            trial[entry["index"]] = bytes(entry["bytes"])
    device.write_parameters(trial)
    try:
        measured = evaluate(device, participant.manifest, participant.held_out)
    finally:
        if device.info.allow_export:
            device.write_parameters(parameters, scales)
        elif device.checkpoints():
            device.load_checkpoint()
        else:
            device.reset_model()
    assert measured is not None  # nobody stops it
    return Report(
        order.round, samples=measured.samples, loss=measured.loss, correct=measured.correct
    )


def _global_weights(formats: list[WeightFormat], order: Order, memory: Memory) -> bytes | None:
    """The bytes of all weights, or None where the order builds on what the client does not hold."""
    size = sum(form.size_bytes for form in formats)
    if order.base_round == 0:
        if len(order.weights) != size:
            raise UserError(
                f"the server sent weights of {len(order.weights)} bytes, the model here has "
                f"{size}: compile the same model with the same settings on both sides"
            )
        return order.weights
    if memory.held_round != order.base_round:
        return None
    parts = []
    held = _split(formats, memory.held_weights)
    for form, old, change in zip(
        formats, held, decode_changes(formats, order.weights), strict=True
    ):
        dtype = np.dtype(form.dtype).newbyteorder("<")
        parts.append((np.frombuffer(old, dtype) + change.astype(dtype)).astype(dtype).tobytes())
    return b"".join(parts)


def _split(formats: list[WeightFormat], whole: bytes) -> list[bytes]:
    parts, at = [], 0
    for form in formats:
        parts.append(whole[at : at + form.size_bytes])
        at += form.size_bytes
    return parts


def _train(participant: Participant, order: Order, weights: list[bytes], taken: bool) -> Report:
    """The round on the board, from its beginning after every failure."""
    serial_bytes = 0
    for attempt in range(1, ATTEMPTS + 1):
        device = participant.connection.device
        try:
            one = BoardRound(device, participant.manifest)
            one.begin(weights, taken, again=attempt > 1)
            report = _learn(device, participant, order)
            delta = one.end()
        except LinkError:
            if attempt == ATTEMPTS:
                raise
            serial_bytes += _bytes_of(device)
            participant.connection.reopen()
            continue
        serial_bytes += _bytes_of(device)
        return replace(
            report,
            delta=delta,
            compress_count=one.ticks if _counts(device) else 0,
            serial_bytes=serial_bytes,
            attempts=attempt,
        )
    raise AssertionError("the last attempt returns or raises")


def _learn(device: Device, participant: Participant, order: Order) -> Report:
    samples, accumulated = participant.samples, device.info.accumulation_steps
    generator = np.random.default_rng(
        [order.seed, order.round, zlib.crc32(participant.name.encode())]
    )
    pull_every, share = _pull_rhythm(order)
    loss, correct, count, step = 0.0, 0, 0, 0
    for _ in range(order.local_epochs):
        for index in generator.permutation(len(samples)):
            sample, label = samples[index]
            device.write_input(sample)
            device.write_label(label)
            result = device.train(order.learning_rate)
            loss, correct = loss + result.loss, correct + result.correct
            count, step = count + result.count, step + 1
            if accumulated > 1 and step % accumulated == 0:
                count += device.apply(order.learning_rate)
            if pull_every and step % pull_every == 0:
                device.rounds.pull(share)
    if accumulated > 1 and step % accumulated:
        count += device.apply(order.learning_rate)
    if pull_every and step % pull_every:  # also of a round that is shorter than the rhythm
        device.rounds.pull(share * (step % pull_every) / pull_every)
    return Report(
        order.round,
        samples=len(samples),
        loss=loss / max(step, 1),
        correct=correct // max(order.local_epochs, 1),
        count=count if _counts(device) else 0,
    )


def _pull_rhythm(order: Order) -> tuple[int, float]:
    """Steps from one pull to the next, and its share: rate * mu a step, gathered until it shows."""
    each = order.learning_rate * order.proximal_mu
    if each <= 0.0:
        return 0, 0.0
    every = max(1, math.ceil(PULL_SHARE / each))
    return every, min(1.0, each * every)


def _keep(device: Device) -> int:
    """Saves residual, momentum and gradient scales in the board's flash.

    Returns:
        The checkpoint's number; 0 of a board that keeps none.
    """
    return device.save_checkpoint() if device.info.keeps_checkpoints else 0


def _restore(device: Device, checkpoint: int) -> bool:
    """Whether the board still had that checkpoint, and now is in its state."""
    if not device.info.keeps_checkpoints:
        return False
    try:
        device.load_checkpoint(checkpoint)
    except DeviceError as error:
        if error.code != Failure.CHECKPOINT:
            raise
        return False
    return True


def _counts(device: Device) -> bool:
    return bool(counter_unit(device.info))


def _bytes_of(device: Device) -> int:
    statistics = device.link_statistics
    return statistics.bytes_out + statistics.bytes_in
