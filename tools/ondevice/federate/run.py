"""A federated run from settings to results: what `ondevice federate run` does."""

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ondevice.boards import load_board
from ondevice.checkpoint import checkpoint_from_device, save_checkpoint
from ondevice.compiled_model import ModelDirectory
from ondevice.config import Config, load_config
from ondevice.connection import Connection
from ondevice.data import Dataset, check_dataset
from ondevice.errors import UserError
from ondevice.evaluation import evaluate, pack_samples
from ondevice.federate.fleet import DEFAULT_BOARD, boards_of_fleet, build_fleet, open_simulated
from ondevice.federate.flower import use_flower
from ondevice.federate.round_events import (
    FederationEvent,
    FederationStarted,
    GlobalEvaluated,
    record_of,
)
from ondevice.federate.server_state import ServerState, load_state, save_state
from ondevice.federate.splits import ClientData, clients_of_folder, pooled, split_data
from ondevice.federate.weights import weight_formats, weights_from_device, weights_to_device
from ondevice.link.device import Device
from ondevice.run_folder import create_folder
from ondevice.schedule import Schedule, ScheduleKind
from ondevice.sources import compiled_model, load_sources
from ondevice.target import build_for
from ondevice_compiler.atomic_file import write_text_atomically

if TYPE_CHECKING:
    from flwr.serverapp import Grid

OnEvent = Callable[[FederationEvent], None]
STATE_FILE = "server.npz"
SIMD = "dsp"  # One model for all kinds of boards: it runs on any, with the same integers.


@dataclass(frozen=True)
class FederatedResult:
    """What a federated run leaves.

    Attributes:
        folder: Of the run.
        summary: Figures.
    """

    folder: Path
    summary: dict[str, Any]


def federated_config(config: Config) -> Config:
    """The settings with what the strategy needs of the compiled model."""
    if config.federate.strategy == "fedprox":
        config = replace(config, model=replace(config.model, proximal=True))
    return config


def run_federation(
    config: Config,
    build_root: Path,
    on_event: OnEvent,
    say: Callable[[str], None],
    resume: Path | None = None,
) -> FederatedResult:
    """Federates a simulated fleet.

    Args:
        config: All settings; of a resumed run, its own.
        build_root: Where models and firmware are built.
        on_event: Display.
        say: Takes lines for the person.
        resume: Run folder to go on in.

    Raises:
        UserError: Settings or data are wrong, or too few clients answered; the run folder keeps
            the last round.
    """
    use_flower()
    from ondevice.federate.simulation import simulate

    config = federated_config(config)
    clients, model = prepare_federation(config, build_root, say)
    boards = boards_of_fleet(config.federate, config.device.board or DEFAULT_BOARD)
    if len(boards) != len(clients):
        raise UserError(
            f"federate.boards gives {len(boards)} boards for {len(clients)} clients; "
            "give as many, or leave one of the two out"
        )
    folder = resume if resume is not None else create_folder(config, model.manifest, datetime.now())
    fleet = build_fleet(clients, boards, model, folder / "fleet", build_root, say)
    with evaluation_board(model, build_root) as connection:
        server = FederationServer(config, model, folder, connection, pooled(clients), on_event)
        simulate(fleet, server.serve)
        return FederatedResult(folder, server.finish())


def prepare_federation(
    config: Config, build_root: Path, say: Callable[[str], None]
) -> tuple[list[ClientData], ModelDirectory]:
    """The clients' data, and the model that all run.

    Raises:
        UserError: Data or model are wrong.
    """
    if config.federate.client_data is not None:
        clients = clients_of_folder(config.federate.client_data, config)
        first = config.data.file or config.federate.client_data / clients[0].name
        if config.data.file is None:
            first = next(p for p in config.federate.client_data.iterdir() if p.stem == first.name)
        sources = load_sources(replace(config, data=replace(config.data, file=first)))
    else:
        sources = load_sources(config)
        clients = split_data(config, sources.data)
    model = compiled_model(config, sources, build_root, simd=SIMD)
    for client in clients:
        check_dataset(client.data, model.manifest)
    say(f"{len(clients)} clients with {sum(len(c.data.x) for c in clients)} samples")
    return clients, model


def evaluation_board(model: ModelDirectory, build_root: Path) -> Connection:
    """A host board of the server's own, which measures the global weights."""
    board = load_board("host")
    return Connection(*open_simulated(build_for(model, board, build_root), board, model))


class FederationServer:
    """The server's side of a run: state, files, evaluation.

    Args:
        config: All settings.
        model: Compiled; its parameters are the first global weights.
        folder: Run folder; where it holds a state, the run goes on from it.
        connection: A board of the server's own: gives the first weights, measures later ones.
        data: Pooled held-out samples for it; None: the clients measure on theirs.
        on_event: Display.
    """

    def __init__(
        self,
        config: Config,
        model: ModelDirectory,
        folder: Path,
        connection: Connection,
        data: Dataset | None,
        on_event: OnEvent,
    ) -> None:
        self._config, self._model, self._folder = config, model, folder
        self._connection, self._on_event = connection, on_event
        self._held_out = (
            pack_samples(model.manifest, data.x_test, data.y_test) if data is not None else []
        )
        self._dense_bytes = 1 + sum(f.size_bytes for f in weight_formats(model.manifest))

    def serve(self, grid: "Grid") -> None:
        """Runs the rounds that are left over Flower's nodes."""
        from ondevice.federate.roster import Roster
        from ondevice.federate.rounds import Federation, run_rounds
        from ondevice.federate.strategies import make_strategy

        settings, training = self._config.federate, self._config.training
        roster = Roster(self._model.manifest)
        roster.refresh(grid, settings)
        state = self._first_state()
        self._emit(
            FederationStarted(
                federation=state.federation,
                model=str(self._model.manifest["name"]),
                strategy=settings.strategy,
                compress=str(self._model.manifest["round"]["codec"]),
                clients=len(roster.clients),
                samples=sum(client.samples for client in roster.clients),
                round=state.round,
                rounds=settings.rounds,
                dense_bytes=self._dense_bytes,
            )
        )
        federation = Federation(
            grid=grid,
            roster=roster,
            manifest=self._model.manifest,
            settings=settings,
            strategy=make_strategy(settings),
            schedule=Schedule(
                kind=ScheduleKind[training.learning_rate_schedule.upper()],
                learning_rate=training.learning_rate,
                total_steps=settings.rounds,
                warmup_steps=training.warmup_steps,
                step_every=training.learning_rate_step_every or max(-(-settings.rounds // 3), 1),
                step_factor=training.learning_rate_step_factor,
            ),
            seed=training.seed,
            evaluate=self._evaluate if self._held_out else None,
            on_event=self._emit,
        )
        run_rounds(federation, state, self._save)

    def finish(self) -> dict[str, Any]:
        """Writes checkpoint.npz, summary.json and curves.png from what is in the folder.

        Returns:
            The summary.
        """
        from ondevice.federate.federation_plot import write_federation_curves

        state = load_state(self._folder / STATE_FILE)
        rounds, evaluations = read_rounds(self._folder)
        manifest = self._model.manifest
        formats = weight_formats(manifest)
        parameters = [bytes(entry["bytes"]) for entry in manifest["parameters"]]
        for form, content in zip(formats, weights_to_device(formats, state.weights), strict=True):
            parameters[form.index] = content
        checkpoint = checkpoint_from_device(manifest, state.round, parameters)
        save_checkpoint(self._folder / "checkpoint.npz", checkpoint)
        answered = sum(r["answered"] for r in rounds)
        summary = {
            "federation": state.federation,
            "model": manifest["name"],
            "model_id": manifest["model_id"],
            "strategy": self._config.federate.strategy,
            "compress": manifest["round"]["codec"],
            "rounds": state.round,
            "accuracy_before": evaluations[0]["accuracy"] if evaluations else None,
            "accuracy": evaluations[-1]["accuracy"] if evaluations else None,
            "loss": evaluations[-1]["loss"] if evaluations else None,
            "up_bytes": sum(r["up_bytes"] for r in rounds),
            "down_bytes": sum(r["down_bytes"] for r in rounds),
            "updates": answered,
            "update_bytes": sum(r["up_bytes"] for r in rounds) / max(answered, 1),
            "dense_update_bytes": self._dense_bytes,
            "instructions_or_cycles": sum(r["count"] for r in rounds),
            "failures": sum(r["asked"] - r["answered"] for r in rounds),
            "ram_bytes": manifest["memory"]["ram_bytes"],
        }
        write_text_atomically(self._folder / "summary.json", json.dumps(summary, indent=1) + "\n")
        write_federation_curves(self._folder / "curves.png", rounds, evaluations)
        return summary

    def _first_state(self) -> ServerState:
        path, manifest = self._folder / STATE_FILE, self._model.manifest
        if path.exists():
            state = load_state(path)
            if state.model_id != manifest["model_id"]:
                raise UserError(
                    f"{path}: of model {state.model_id}, these settings give "
                    f"{manifest['model_id']} now: the model file or the compiler has changed"
                )
            _forget_rounds_after(self._folder, state.round)
            return state
        device = self._connection.device
        device.reset_model()
        weights = weights_from_device(weight_formats(manifest), device.read_parameters())
        state = ServerState(secrets.token_hex(8), str(manifest["model_id"]), 0, weights)
        save_state(path, state)
        return state

    def _save(self, state: ServerState) -> None:
        save_state(self._folder / STATE_FILE, state)

    def _emit(self, event: FederationEvent) -> None:
        with (self._folder / "rounds.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record_of(event)) + "\n")
        self._on_event(event)

    def _evaluate(self, weights: Sequence[bytes], number: int) -> GlobalEvaluated:
        device, manifest = self._connection.device, self._model.manifest
        put_weights(device, manifest, weights)
        found = evaluate(device, manifest, self._held_out)
        assert found is not None  # nobody stops it
        return GlobalEvaluated(
            number, found.samples, found.correct, found.accuracy or 0.0, found.loss
        )


def put_weights(device: Device, manifest: dict[str, Any], weights: Sequence[bytes]) -> None:
    """Replaces the trained weights of a board that takes part in no round."""
    device.reset_model()
    parameters = device.read_parameters()
    for form, content in zip(weight_formats(manifest), weights, strict=True):
        parameters[form.index] = content
    device.write_parameters(parameters)


def read_rounds(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rounds and evaluations that a run folder records, whole lines only."""
    rounds, evaluations = [], []
    for line in (folder / "rounds.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record["event"] == "round":
            rounds.append(record)
        elif record["event"] == "evaluated":
            evaluations.append(record)
    return rounds, evaluations


def _forget_rounds_after(folder: Path, number: int) -> None:
    """Lines of a round that was not saved any more before the server ended."""
    path = folder / "rounds.jsonl"
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        # Of round 0 there is one measurement, which is made again.
        if 0 < number >= record["round"] and record["event"] != "started":
            kept.append(line)
    write_text_atomically(path, "".join(line + "\n" for line in kept))


def resumed_config(folder: Path) -> Config:
    """Settings of a run that goes on.

    Raises:
        UserError: It is no federated run.
    """
    if not (folder / STATE_FILE).exists():
        raise UserError(f"{folder}: holds no federated run ({STATE_FILE} is missing)")
    return load_config(folder / "config.toml")
