"""Federations over Flower's deployment runtime: who is let in, who is not, and who goes away."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest

from ondevice.boards import load_board
from ondevice.config import Config, ModelSettings
from ondevice.errors import UserError
from ondevice.federate.flower import quiet_flower, use_flower
from ondevice.federate.keys import (
    NodeKeys,
    load_node_keys,
    load_server_keys,
    make_keys,
)
from ondevice.federate.run import SIMD
from ondevice.federate.server_address import server_answers
from ondevice.federate.server_state import load_state
from ondevice.input_settings import DataSettings
from ondevice.sources import compiled_model, load_sources
from ondevice.target import build_for
from recording_proxy import RecordingProxy

use_flower()
quiet_flower()

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.proto.fleet_pb2 import PullMessagesRequest  # noqa: E402
from flwr.proto.runtime_pb2 import AcquireTaskRequest  # noqa: E402
from flwr.serverapp import Grid  # noqa: E402
from flwr.supercore.runtime import RuntimeHttpClient  # noqa: E402
from flwr.supernode.fleet_http_client import FleetHttpClient  # noqa: E402

from ondevice.federate.deployed.superlink import SuperLink, open_superlink  # noqa: E402
from ondevice.federate.deployed.supernode import open_supernode  # noqa: E402
from ondevice.federate.deployed.tasks import answer_message, serve_run  # noqa: E402
from ondevice.federate.join import Node, join_federation  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "tests"
ANY = ("127.0.0.1", 0)
PATIENCE_S = 120.0  # an end for what hangs, not a measure


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("federation") / "keys"
    make_keys(folder, ["localhost"], 2)
    return folder


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of another federation."""
    folder = tmp_path_factory.mktemp("strangers") / "keys"
    make_keys(folder, ["localhost"], 1)
    return folder


@pytest.fixture(scope="module")
def link(keys: Path) -> Iterator[SuperLink]:
    with open_superlink(ANY, load_server_keys(keys)) as superlink:
        yield superlink


def until(found: Callable[[], Any], what: str) -> Any:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if result := found():
            return result
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {PATIENCE_S:g} s")


def overhear(superlink: SuperLink, keys: NodeKeys | None) -> tuple[bytes, bytes]:
    """Payloads go down and up by a wire that is tapped; what was seen on it, and the payloads."""
    down, up = secrets.token_bytes(64), secrets.token_bytes(64)
    app = ClientApp()

    @app.query()  # type: ignore[untyped-decorator]
    def answer(message: Message, context: Context) -> Message:
        assert message.content["order"]["weights"] == down
        return Message(RecordDict({"report": ConfigRecord({"delta": up})}), reply_to=message)

    replies: list[Message] = []

    def serve(grid: Grid) -> None:
        (node,) = until(lambda: list(grid.get_node_ids()), "the node comes")
        content = RecordDict({"order": ConfigRecord({"weights": down})})
        sent = list(
            grid.push_messages([Message(content, dst_node_id=node, message_type=MessageType.QUERY)])
        )
        until(lambda: answer_message(supernode.runtime, app), "the node answers")
        replies.extend(until(lambda: list(grid.pull_messages(sent)), "the answer arrives"))

    superlink.start_run()
    with (
        RecordingProxy(superlink.port) as proxy,
        open_supernode(f"localhost:{proxy.port}", keys) as supernode,
    ):
        serve_run(superlink.runtime, serve)
        assert replies[0].content["report"]["delta"] == up
        return bytes(proxy.seen), down + up


def test_an_eavesdropper_sees_nothing_of_what_goes_by_tls(link: SuperLink, keys: Path) -> None:
    seen, payload = overhear(link, load_node_keys(keys / "node-1"))
    assert len(seen) > len(payload)
    assert not any(payload[at : at + 8] in seen for at in range(0, len(payload), 8))


def test_an_eavesdropper_sees_all_of_what_goes_without_keys() -> None:
    with open_superlink(ANY, None) as superlink:
        seen, payload = overhear(superlink, None)
    assert payload[:64] in seen
    assert payload[64:] in seen


def test_a_node_whose_key_the_server_does_not_know_is_refused(
    link: SuperLink,
    keys: Path,
    strangers: Path,
    tmp_path: Path,
) -> None:
    mixed = NodeKeys(keys / "node-1" / "ca.pem", strangers / "node-1" / "node-key")
    node = Node("mallory", {}, [], [], tmp_path, lambda: pytest.fail("the board is not asked"))
    with pytest.raises(UserError, match="refuses mallory"):
        join_federation(node, f"localhost:{link.port}", mixed, lambda line: None)


def test_a_node_refuses_a_server_of_another_ca(link: SuperLink, strangers: Path) -> None:
    ca = strangers / "node-1" / "ca.pem"
    with pytest.raises(UserError, match="is not the server of these keys"):
        server_answers(("localhost", link.port), ca)
    assert_flower_refuses(f"localhost:{link.port}", str(ca), "CERTIFICATE_VERIFY_FAILED")


def test_a_node_refuses_a_server_whose_certificate_names_another_host(
    link: SuperLink, keys: Path
) -> None:
    # The loopback interface has more addresses than the certificate names.
    ca = keys / "node-1" / "ca.pem"
    with (
        socket.create_server(("127.0.0.2", 0)) as other,
        open_superlink_at(other, link),
        pytest.raises(UserError, match=r"127\.0\.0\.2"),
    ):
        server_answers(("127.0.0.2", other.getsockname()[1]), ca)


@contextmanager
def open_superlink_at(listener: socket.socket, link: SuperLink) -> Iterator[None]:
    """Forwards one connection of a listener to the server."""

    def forward() -> None:
        with suppress(OSError):
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", link.port))
            with near, far:
                far.sendall(near.recv(65536))
                while content := far.recv(65536):
                    near.sendall(content)

    threading.Thread(target=forward, daemon=True).start()
    yield


def test_a_node_without_keys_gets_nowhere_with_a_server_that_has_them(link: SuperLink) -> None:
    with pytest.raises(UserError, match="wants --keys"):
        server_answers(("localhost", link.port), None)
    assert_flower_refuses(f"localhost:{link.port}", None, "")


def assert_flower_refuses(server: str, ca: str | None, why: str) -> None:
    """Flower's own client, which a SuperNode connects by."""
    client = FleetHttpClient.from_server_address(server, ca is None, ca, [])
    with pytest.raises(httpx.TransportError, match=why):
        client.PullMessages(PullMessagesRequest())
    client.close()


@pytest.mark.parametrize(
    "path",
    ["control/start-run", "control/register-node", "runtime/acquire-task", "runtime/pull-messages"],
)
def test_the_network_reaches_nothing_but_the_nodes_interface(
    link: SuperLink, keys: Path, path: str
) -> None:
    ca = str(keys / "node-1" / "ca.pem")
    for way in (f"/v1/{path}", f"/v1/fleet/../{path}", f"//v1/{path}", "/docs"):
        url = httpx.URL(f"https://localhost:{link.port}").copy_with(raw_path=way.encode())
        with httpx.Client(verify=ca) as client:
            assert client.post(url, content=b"").status_code == 404


def test_other_programs_of_the_servers_computer_cannot_start_or_take_a_run(
    link: SuperLink,
) -> None:
    address = link.runtime.address
    headers = {"content-type": "application/x-protobuf"}
    for shown in ({}, {"x-ondevice-secret": "0" * 64}):
        answer = httpx.post(f"http://{address}/v1/control/start-run", headers=headers | shown)
        assert answer.status_code == 403
    client = RuntimeHttpClient.from_server_address(address, True, None, [])
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        client.AcquireTask(AcquireTaskRequest(supported_task_types=["flwr-serverapp"]))
    client.close()


class Program:
    """`ondevice federate ...` as a process."""

    def __init__(self, folder: Path, verb: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "ondevice", "federate", verb, *arguments]
        command += ["--build-dir", str(BUILD)]
        self._errors = folder / f"{verb}-{secrets.token_hex(4)}.log"
        self.events: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=self._errors.open("wb"), text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with suppress(ValueError):
                self.events.append(json.loads(line))

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The first such event.

        Raises:
            AssertionError: The program ended without it, or took too long.
        """

        def found() -> list[dict[str, Any]]:
            matching = [event for event in self.events if wanted(event)]
            assert matching or self.process.poll() is None, self._errors.read_text()
            return matching

        return dict(until(found, what)[0])

    def children(self) -> list[int]:
        lines = subprocess.check_output(["ps", "-A", "-o", "pid=,ppid="], text=True).splitlines()
        pairs = [tuple(map(int, line.split())) for line in lines]
        return [pid for pid, parent in pairs if parent == self.process.pid]

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)


def running(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")


def save_network(path: Path, generator: np.random.Generator) -> None:
    """6 features, 16 hidden units, 3 classes."""
    weights = {
        "w1": generator.normal(size=(16, 6)) / 2,
        "b1": np.zeros(16),
        "w2": generator.normal(size=(3, 16)) / 4,
        "b2": np.zeros(3),
    }
    make = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [
            make("Gemm", ["x", "w1", "b1"], ["h"], transB=1),
            make("Relu", ["h"], ["a"]),
            make("Gemm", ["a", "w2", "b2"], ["y"], transB=1),
        ],
        "tiny",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 6])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])],
        [onnx.numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network, compiled and built for the host board; data of two nodes and the server."""
    folder = tmp_path_factory.mktemp("tiny")
    generator = np.random.default_rng(0)
    save_network(folder / "net.onnx", generator)
    centres = 2 * generator.normal(size=(3, 6))
    for name, shares in (
        ("alice", (0.9, 0.1, 0)),
        ("bob", (0, 0.1, 0.9)),
        ("pool", (0.3, 0.4, 0.3)),
    ):
        y = generator.choice(3, size=60, p=shares)
        x = (centres[y] + generator.normal(size=(60, 6))).astype(np.float32)
        np.savez(folder / name, x=x[:30], y=y[:30], x_test=x[30:], y_test=y[30:])
    config = Config(
        model=ModelSettings(file=folder / "net.onnx"), data=DataSettings(file=folder / "pool.npz")
    )
    compiled = compiled_model(config, load_sources(config), BUILD, simd=SIMD)
    build_for(compiled, load_board("host"), BUILD)
    (folder / "model").symlink_to(compiled.path.resolve())
    return folder


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_a_node_killed_in_a_round_loses_none_and_comes_back(
    model: Path, keys: Path, tmp_path: Path
) -> None:
    port = free_port()
    programs: list[Program] = []

    def start(verb: str, *arguments: str) -> Program:
        programs.append(Program(tmp_path, verb, *arguments, "--model", str(model / "model")))
        return programs[-1]

    def join(name: str, node: str) -> Program:
        given = ("--keys", str(keys / node), "--name", name, "--board", "host")
        return start("join", f"localhost:{port}", *given, "--data", str(model / f"{name}.npz"))

    try:
        server = start(
            *("serve", "--keys", str(keys), "--address", f"127.0.0.1:{port}", "--nodes", "2"),
            *("--json", "--rounds", "40", "--evaluate-every", "40", "--round-timeout-s", "6"),
            *("--data", str(model / "pool.npz"), "--lr", "0.05"),
        )
        join("alice", "node-1")
        bob = join("bob", "node-2")
        whole = server.wait_for(lambda e: e["event"] == "round", "the first round")
        assert (whole["round"], whole["asked"], whole["answered"]) == (1, 2, 2)

        (supernode,) = bob.children()
        os.kill(supernode, signal.SIGKILL)  # the next round has begun already
        bob.end()
        until(lambda: not running(supernode), "the SuperNode ends with the one that started it")
        lost = server.wait_for(lambda e: e["event"] == "client_failed", "bob is missed")
        assert lost["client"] == "bob"
        alone = server.wait_for(
            lambda e: e["event"] == "round" and e["answered"] == 1, "a round without bob"
        )
        assert alone["round"] == lost["round"]

        join("bob", "node-2")
        both = server.wait_for(
            lambda e: e["event"] == "round" and e["answered"] == 2 and e["round"] > alone["round"],
            "bob takes part again",
        )
        rounds = [event["round"] for event in server.events if event["event"] == "round"]
        assert rounds == list(range(1, len(rounds) + 1))  # none was lost

        (superlink, *others) = server.children()
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 130
        assert not any(map(running, (superlink, *others)))
        (folder,) = (tmp_path / "runs").iterdir()
        assert load_state(folder / "server.npz").round >= both["round"]
    finally:
        for program in programs:
            program.end()


def test_serving_without_keys_has_to_be_asked_for(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ondevice", "federate", "serve"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=dict(os.environ)
    )
    assert done.returncode == 1
    assert "--insecure goes without encryption" in done.stderr
