"""A run's parts in this process: what Flower would start a process of unknown code for.

SuperLink and SuperNode hold tasks, which `flower-superexec` claims and runs as processes that
unpack the app of the run. Here the claimant is this process, and the app is what is installed: no
node ever runs code that it was sent, and nothing is started for a message.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx
from flwr.app import Message
from flwr.app.error import Error
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode, SubStatus
from flwr.common.serde import run_from_proto
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.serverapp import Grid
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message

from ondevice.errors import UserError
from ondevice.federate.deployed.child_process import Child

START_TIMEOUT_S = 60.0
POLL_S = 0.1
RETRY_S = 10.0  # of a call to the child on this computer
_ACQUIRE = frozenset({"/flwr.proto.Runtime/AcquireTask"})


@dataclass(frozen=True)
class RuntimeAddress:
    """Where tasks are claimed.

    Attributes:
        address: On the loopback interface, host:port.
        secret: That a claimant shows.
    """

    address: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What became of a message.

    Attributes:
        kind: Of the message: query, train or evaluate.
        failure: Why it failed; "": it did not.
    """

    kind: str
    failure: str


def wait_until_ready(runtime: RuntimeAddress, child: Child, name: str) -> None:
    """Until a child answers.

    Raises:
        UserError: It ended, or took too long.
    """
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not child.ended():
        try:
            if httpx.get(f"http://{runtime.address}/health", timeout=2.0).is_success:
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline_s:
            break
        time.sleep(POLL_S)
    raise UserError(f"Flower's {name} did not start: {child.last_lines()}")


def serve_run(runtime: RuntimeAddress, serve: Callable[[Grid], None]) -> None:
    """Claims the run that was started, and runs the server's part of it.

    Raises:
        BaseException: Whatever `serve` raised.
    """
    from flwr.superlink.grid import HttpGrid  # a second to import, and nodes need it not

    token = None
    while token is None:
        token = _claim(runtime, TaskType.SERVER_APP)
        time.sleep(0.0 if token else POLL_S)
    grid = HttpGrid(runtime.address, insecure=True, token=token)
    grid._retry_invoker.max_time = RETRY_S
    client = grid._runtime_client
    with _heartbeats(client):
        found = client.PullTaskInput(PullTaskInputRequest())
        grid.set_run(run_from_proto(found.run))
        TaskIdentity.task_id, TaskIdentity.run_id = found.task_id, found.run.run_id
        TaskIdentity.node_id = found.context.node_id  # Flower's messages are from it
        status, details = SubStatus.FAILED, "interrupted"
        try:
            serve(grid)
            status, details = SubStatus.COMPLETED, ""
        except Exception as error:
            details = str(error)
            raise
        finally:
            _finish(client, status, details)
            grid.close()


def answer_message(runtime: RuntimeAddress, app: ClientApp) -> Answer | None:
    """Runs the node's part of one message, if there is one.

    Args:
        runtime: Of the SuperNode.
        app: What is run, whatever the run's own app is.

    Returns:
        What became of it; None: there was no message.
    """
    token = _claim(runtime, TaskType.CLIENT_APP)
    if token is None:
        return None
    client = _client(runtime, RuntimeTokenHttpInterceptor(token))
    try:
        with _heartbeats(client):
            message, context, _run, _bundle = pull_task_input(client)
            details = ""
            try:
                reply = app(message=message, context=context)
            except Exception as error:  # a failed message is an answer, and the node goes on
                details = str(error) if isinstance(error, UserError) else repr(error)
                reason = Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=details)
                reply = Message(reason, reply_to=message)
            push_message(client, reply, context)
            _finish(client, SubStatus.FAILED if details else SubStatus.COMPLETED, details)
            return Answer(message.metadata.message_type, details)
    finally:
        client.close()


def _claim(runtime: RuntimeAddress, kind: TaskType) -> str | None:
    secret = SuperExecAuthHttpInterceptor(master_secret=runtime.secret, protected_methods=_ACQUIRE)
    client = _client(runtime, secret)
    try:
        answer = client.AcquireTask(AcquireTaskRequest(supported_task_types=[kind]))
    finally:
        client.close()
    return str(answer.token) if answer.HasField("task") and answer.token else None


def _client(runtime: RuntimeAddress, interceptor: object) -> RuntimeHttpClient:
    return RuntimeHttpClient.from_server_address(
        server_address=runtime.address,
        insecure=True,
        root_certificates=None,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="ondevice"), interceptor],
    )


@contextmanager
def _heartbeats(client: RuntimeHttpClient) -> Iterator[None]:
    """Keeps a task; Flower gives up on one whose claimant falls silent."""

    def beat() -> bool:
        try:
            return bool(client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success)
        except httpx.HTTPError:
            return False  # who works on the task finds out

    sender = HeartbeatSender(beat)
    sender.start()
    try:
        yield
    finally:
        if sender.is_running:
            sender.stop()


def _finish(client: RuntimeHttpClient, status: str, details: str) -> None:
    with suppress(httpx.HTTPError):  # the child has ended; what was learnt is saved here
        client.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=details))
