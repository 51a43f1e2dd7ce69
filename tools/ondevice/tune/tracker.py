"""Measuring on other machines through TVM's RPC tracker.

A tracker (`python -m tvm.exec.rpc_tracker`) knows workers (`ondevice tune-worker`), each of which
compiles a kernel's C and counts its instructions in a QEMU of its own. TVM's RPC neither encrypts
nor authenticates: only in a network that is trusted.
"""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from queue import Queue
from tempfile import TemporaryDirectory
from typing import Any

from ondevice.errors import UserError
from ondevice.measure.bench import Measurement
from ondevice.measure.execute import MeasureError
from ondevice.measure.task import KernelSource, Task, measured_source
from ondevice.tune.simulators import Simulators

KEY = "ondevice-cortex-m4"
FUNCTION = "ondevice.measure"
CONNECT_TIMEOUT_S = 5


class TrackedWorkers:
    """All workers that are registered with a tracker as this is made.

    Args:
        tracker: "HOST:PORT".

    Raises:
        UserError: No tracker there, or no worker registered with it.
    """

    machine, unit = "cortex-m4", "instructions"

    def __init__(self, tracker: str) -> None:
        from tvm import rpc

        address = reachable(tracker)
        session = rpc.connect_tracker(*address)
        count = _free_workers(session.summary())
        if count == 0:
            raise UserError(
                f"the tracker at {tracker} has no free worker: start `ondevice tune-worker "
                f"--tracker {tracker}` on the machines that shall measure"
            )
        self._sessions: Queue[Any] = Queue()
        self.workers = count
        for _ in range(count):
            self._sessions.put(session.request(KEY, session_timeout=0))

    def measure_all(
        self, pairs: Sequence[tuple[Task, KernelSource]]
    ) -> Iterator[Measurement | UserError]:
        """Measures all, one a worker at a time; in order."""
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(self._measure, pairs)

    def _measure(self, pair: tuple[Task, KernelSource]) -> Measurement | UserError:
        task, kernel = pair
        operands = base64.b64encode(task.operands()).decode("ascii")
        source, size = measured_source(task, kernel), len(task.arena())
        request = json.dumps({"source": source, "operands": operands, "arena_bytes": size})
        session = self._sessions.get()
        try:
            answer = json.loads(str(session.get_function(FUNCTION)(request)))
        except Exception as error:  # TVM's RPC raises whatever broke.
            raise UserError(f"a worker of the tracker failed: {str(error)[:300]}") from error
        finally:
            self._sessions.put(session)
        return MeasureError(answer["refusal"]) if "refusal" in answer else Measurement(**answer)


@contextmanager
def worker(tracker: str, host: str) -> Iterator[int]:
    """A TVM RPC server, in a process of its own, that measures; see `TrackedWorkers`.

    Args:
        tracker: "HOST:PORT".
        host: Address that it listens on; the tracker's other clients must reach it.

    Yields:
        The port that it listens on.

    Raises:
        UserError: No tracker there.
    """
    from tvm import rpc

    address = reachable(tracker)
    with TemporaryDirectory(prefix="ondevice-worker-") as folder:
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = folder  # The server's processes are killed, and clean nothing up.
        try:
            server = rpc.Server(
                host=host, key=KEY, tracker_addr=address, server_init_callback=register
            )
        finally:
            os.environ.pop("TMPDIR")
            if before is not None:
                os.environ["TMPDIR"] = before
        try:
            yield server.port
        finally:
            server.terminate()


def register() -> None:
    """Offers `FUNCTION` in this process; the server's sessions are forks of it."""
    import tvm_ffi

    tvm_ffi.register_global_func(FUNCTION, answer, override=True)


def answer(request: str) -> str:
    """Measures what a client sent."""
    asked = json.loads(str(request))
    operands = base64.b64decode(asked["operands"])
    size = int(asked["arena_bytes"])
    try:
        found = _simulators().measure_source(asked["source"], operands, size)
        return json.dumps(asdict(found))
    except UserError as error:
        return json.dumps({"refusal": str(error)})


@cache
def _simulators() -> Simulators:
    """Of this session's process; the worker's temporary folder goes with the worker."""
    return Simulators(jobs=1)


def reachable(tracker: str) -> tuple[str, int]:
    """("host", port) of a tracker that answers.

    Raises:
        UserError: It is not HOST:PORT, or nothing listens there.
    """
    address = parse_address(tracker)
    try:
        socket.create_connection(address, timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise UserError(
            f"no tracker at {tracker} ({error}): start `python -m tvm.exec.rpc_tracker --host "
            f"0.0.0.0 --port {address[1]} --port-end {address[1] + 1}` there"
        ) from error
    return address


def parse_address(text: str) -> tuple[str, int]:
    """("host", port) of "HOST:PORT".

    Raises:
        UserError: It is something else.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"tracker {text!r}: expected HOST:PORT, as in 192.168.1.5:9190")
    return host, int(port)


def _free_workers(summary: dict[str, Any]) -> int:
    return int(summary["queue_info"].get(KEY, {}).get("free", 0))
