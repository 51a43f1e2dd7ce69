"""Ways to a board: a child process, and a serial port (here a pseudo-terminal)."""

import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import serial

from ondevice.errors import HandshakeError, LinkError
from ondevice.link.device import Device
from ondevice.link.timing import Timing
from ondevice.link.transport import ProcessTransport, SerialTransport

QUICK = Timing(retry_s=0.05, reply_s=2.0, command_s=2.0, connect_s=5.0, bye_s=0.2)


def python(code: str) -> ProcessTransport:
    return ProcessTransport([sys.executable, "-c", code], name="board")


def read_to_the_end(transport: ProcessTransport, received: bytearray) -> None:
    while True:
        received += transport.read(2, 5.0)


def is_running(pid: int) -> bool:
    """False also for one that has ended and was not collected."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def read_line(transport: ProcessTransport) -> bytes:
    received = b""
    while not received.endswith(b"\n"):
        received += transport.read(100, 5.0)
    return received


def test_bytes_go_through_a_process_both_ways() -> None:
    transport = ProcessTransport(["cat"])
    data = bytes(range(256)) * 4
    transport.write(data)
    received = b""
    while len(received) < len(data):
        received += transport.read(100, 5.0)
    assert received == data
    assert transport.read(100, 0.01) == b""
    transport.close()
    transport.close()


def test_a_process_that_sends_before_it_reads_causes_no_deadlock() -> None:
    # Both pipes hold 64 KB: each side would wait for the other for ever.
    transport = python(
        "import sys; n = 1 << 20; sys.stdout.buffer.write(b'y' * n); sys.stdout.flush();"
        "sys.stdout.buffer.write(str(len(sys.stdin.buffer.read(n))).encode())"
    )
    size = 1 << 20
    transport.write(b"x" * size)
    received = b""
    while not received.endswith(b"1048576"):
        data = transport.read(1 << 20, 5.0)
        assert data
        received += data
    assert len(received) == size + len(b"1048576")
    transport.close()


def test_a_process_that_ends_is_named_with_its_exit_code_and_last_words() -> None:
    transport = python("import sys; print('a\\nHardFault at 8', file=sys.stderr); sys.exit(7)")
    with pytest.raises(LinkError, match=r"^board ended with exit code 7: HardFault at 8$"):
        read_to_the_end(transport, bytearray())
    transport.close()


def test_what_a_process_sent_before_its_end_is_still_received() -> None:
    transport = python("print('last', end='')")
    received = bytearray()
    with pytest.raises(LinkError, match="exit code 0 and said nothing"):
        read_to_the_end(transport, received)
    assert received == b"last"
    transport.close()


def test_a_process_that_is_killed_is_named_with_the_signal() -> None:
    transport = python("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(LinkError, match="signal 9"):
        read_to_the_end(transport, bytearray())
    with pytest.raises(LinkError, match="signal 9"):
        transport.write(b"x")
    transport.close()


def test_a_program_that_does_not_exist_is_named() -> None:
    with pytest.raises(LinkError, match="no-such-qemu cannot be started: No such file"):
        ProcessTransport(["no-such-qemu"])


def test_a_device_that_dies_is_reported_in_one_line(compile_c: Callable[[str], Path]) -> None:
    program = compile_c("fake_device")
    with pytest.raises(LinkError, match=r"exit code 7: HardFault at 0x08001234$"):
        Device(ProcessTransport([str(program), "die"]), timing=QUICK)


def test_ctrl_c_in_the_terminal_does_not_reach_the_process() -> None:
    transport = python("import os; print(os.getsid(0) == os.getpid(), flush=True); input()")
    assert read_line(transport) == b"True\n"
    transport.close()


def test_closing_ends_a_process_that_does_not_end_by_itself() -> None:
    transport = python("import time; print('up', flush=True); time.sleep(60)")
    assert read_line(transport) == b"up\n"
    transport.close()
    assert transport._child.process.poll() == -15


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_tool_that_is_killed_takes_the_process_with_it() -> None:
    tool = (
        "import sys, os\n"
        "from ondevice.link.transport import ProcessTransport\n"
        "child = ProcessTransport([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child._child.process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", tool], capture_output=True, text=True)
    pid = int(done.stdout)
    deadline = time.monotonic() + 10.0
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(pid)


def test_a_board_on_a_serial_port_trains_and_is_greeted_a_second_time(
    compile_c: Callable[[str], Path],
) -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(
        [compile_c("fake_device")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        stdin, stdout = program.stdin.fileno(), program.stdout.fileno()

        def wire() -> None:
            while True:
                for source in select.select([master, stdout], [], [])[0]:
                    data = os.read(source, 4096)
                    if not data:
                        return
                    os.write(stdin if source == master else master, data)

        thread = threading.Thread(target=wire, daemon=True)
        port = SerialTransport(os.ttyname(slave), 1_000_000)
        thread.start()
        first = Device(port, timing=QUICK)
        first.write_input(bytes(range(256)) + bytes(344))  # every byte value passes a raw port
        first.train(0.5)
        weights = first.read_parameters()
        port.close()  # no BYE: the tool was killed
        with Device(SerialTransport(os.ttyname(slave), 1_000_000), timing=QUICK) as second:
            assert second.read_parameters() == weights
            assert second.counters().trained == 1
        thread.join(5.0)
        assert program.wait(5.0) == 0
    os.close(master)
    os.close(slave)


def test_a_silent_serial_port_is_given_up_with_advice() -> None:
    master, slave = pty.openpty()
    timing = Timing(retry_s=0.05, connect_s=0.2)
    with pytest.raises(HandshakeError, match=r"nothing came; is it flashed .* baud rate"):
        Device(SerialTransport(os.ttyname(slave)), timing=timing)
    os.close(master)
    os.close(slave)


def test_a_serial_port_that_is_not_there_is_named() -> None:
    with pytest.raises(LinkError, match=r"no serial port /dev/ttyNONE; .*ondevice ports"):
        SerialTransport("/dev/ttyNONE")


def test_a_serial_port_in_use_is_named() -> None:
    master, slave = pty.openpty()
    first = SerialTransport(os.ttyname(slave))
    with pytest.raises(LinkError, match="is in use by another program"):
        SerialTransport(os.ttyname(slave))
    first.close()
    SerialTransport(os.ttyname(slave)).close()
    os.close(master)
    os.close(slave)


def test_a_serial_port_without_permission_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: serial.Serial) -> None:
        raise serial.SerialException(13, "could not open port: [Errno 13] Permission denied")

    monkeypatch.setattr(serial.Serial, "open", refuse)
    with pytest.raises(LinkError, match="no permission to open /dev/ttyACM0; add yourself"):
        SerialTransport("/dev/ttyACM0")


def test_a_file_that_is_no_serial_port_and_a_wrong_rate_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LinkError, match="file cannot be opened"):
        SerialTransport(str(tmp_path / "file"))
    with pytest.raises(LinkError, match="at -3 baud cannot be opened"):
        SerialTransport(str(tmp_path / "file"), -3)


def test_a_board_that_is_unplugged_is_reported_in_one_line() -> None:
    master, slave = pty.openpty()
    transport = SerialTransport(os.ttyname(slave))
    os.close(slave)
    os.close(master)
    with pytest.raises(LinkError, match="went away in the middle"):
        transport.read(10, 1.0)
    with pytest.raises(LinkError, match="went away in the middle"):
        transport.write(b"x")
    transport.close()
