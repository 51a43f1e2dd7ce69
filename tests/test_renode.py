"""Boards in Renode, without Renode: their files, the command, the socket, and a whole run.

A program that stands in for `renode` serves the UART of a host program; what Renode itself makes of
the files is for `make test-renode`, where it is installed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from ondevice.boards import Board, BoardError, list_boards, load_board
from ondevice.errors import LinkError, UserError
from ondevice.link.device import Device
from ondevice.link.socket_transport import SocketTransport, free_port
from ondevice.renode import renode_command, start_renode
from ondevice.toolchain import definitions, driver_folders

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "firmware" / "renode"
BOARDS = [name for name in list_boards() if load_board(name).run == "renode"]
STAND_IN = Path(__file__).resolve().parent / "stand_in_renode.py"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path], Path]:
    """Puts the stand-in on PATH, with a host program as the board; gives its log."""

    def install(program: Path) -> Path:
        (tmp_path / "bin").mkdir()
        renode = tmp_path / "bin" / "renode"
        renode.write_text(f'#!/bin/sh\n"{sys.executable}" "{STAND_IN}" "$@"\n')  # not exec'd
        renode.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        monkeypatch.setenv("STAND_IN_BOARD", str(program))
        monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "arguments.json"))
        return tmp_path / "arguments.json"

    return install


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_there_are_two_boards_in_renode() -> None:
    assert BOARDS == ["renode_f446re", "renode_f767zi"]


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_in_renode_is_its_real_board_but_for_how_it_runs(name: str) -> None:
    board = load_board(name)
    real = load_board(board.like)
    assert real.run == "serial"
    own = {"name", "title", "run", "like"}
    mine, its = ({k: v for k, v in asdict(b).items() if k not in own} for b in (board, real))
    assert mine == its
    assert board.firmware_name == real.name
    assert definitions(board) == definitions(real)


def test_a_board_is_like_one_that_stands_for_itself(tmp_path: Path) -> None:
    for name, like in (("a", "b"), ("b", "a"), ("c", "none")):
        (tmp_path / f"{name}.ini").write_text(f"[board:{name}]\ntitle = x\nlike = {like}\n")
    with pytest.raises(BoardError, match=r"a.ini: like = 'b', which itself is like another"):
        load_board("a", tmp_path)
    with pytest.raises(BoardError, match="unknown board 'none'"):
        load_board("c", tmp_path)


def described(name: str) -> dict[str, tuple[str, int, int]]:
    """Model, address and size of every peripheral of a .repl file; size 0x400 if not said."""
    text = re.sub(r"//.*", "", (FOLDER / f"{name}.repl").read_text(encoding="utf-8"))
    found = {}
    for block in re.split(r"\n(?=\w+: )", text):
        head = re.match(r"\s*(\w+): ([\w.]+) @ sysbus(?: <?(0x\w+)(?:, \+(0x\w+)>)?)?", block)
        if head is None or head[3] is None:
            continue
        size = re.search(r"\bsize: (0x\w+)", block)
        length = int(head[4] or (size[1] if size else "0x400"), 16)
        found[head[1]] = (head[2], int(head[3], 16), length)
    return found


@pytest.mark.parametrize("name", BOARDS)
def test_the_memory_in_renode_is_the_chips(name: str) -> None:
    board, parts = load_board(name), described(name)
    assert parts["flash"][1:] == (board.flash_origin, board.flash_bytes)
    assert parts["sram"][1:] == (board.ram_origin, board.ram_bytes)
    assert parts["dwt"] == ("Miscellaneous.DWT", 0xE000_1000, 0x400)
    assert f"frequency: {board.clock_hz}\n" in (FOLDER / f"{name}.repl").read_text()


@pytest.mark.parametrize("name", BOARDS)
def test_every_register_that_the_driver_names_is_in_renodes_description(name: str) -> None:
    board = load_board(name)
    spans = [(start, start + size) for _, start, size in described(name).values()]
    used = registers_of_driver(board)
    assert len(used) > 5
    missing = [f"{a:#x}" for a in used if not any(low <= a < high for low, high in spans)]
    assert missing == []


def registers_of_driver(board: Board) -> set[int]:
    """Addresses of peripherals, of system memory and of DBGMCU in the preprocessed driver."""
    macros = {**definitions(board), "OD_BOARD_NAME": '"x"'}
    found: set[int] = set()
    for source in driver_sources(board):
        command = ["arm-none-eabi-gcc", "-E", "-P", f"-I{ROOT / 'runtime' / 'include'}"]
        command += [f"-I{ROOT / 'firmware' / 'src' / name}" for name in (".", board.driver)]
        command += [f"-D{key}={value}" for key, value in macros.items()]
        text = subprocess.run([*command, source], check=True, capture_output=True, text=True).stdout
        found |= {int(digits, 16) for digits in re.findall(r"\b(0x[0-9a-f]{8})u?\b", text, re.I)}
    # Not the core's own, and not the keys of flash and watchdog.
    return {a for a in found if a >> 24 == 0x40 or a >> 16 in (0x1FF0, 0x1FFF, 0xE004)}


def driver_sources(board: Board) -> list[Path]:
    folders = [ROOT / "firmware" / "src" / name for name in driver_folders(board)]
    return sorted(path for folder in folders for path in folder.glob("*.c"))


@pytest.mark.parametrize("name", BOARDS)
def test_the_uart_and_its_pins_are_where_the_board_says(name: str) -> None:
    board, parts = load_board(name), described(name)
    assert parts[board.uart][1] == board.uart_origin
    text = (FOLDER / f"{name}.repl").read_text(encoding="utf-8")
    block = re.split(r"\n(?=\w+: )", text[text.index(f"\n{board.uart}: ") + 1 :])[0]
    assert f"nvic@{board.uart_interrupt}\n" in block + "\n"
    assert parts["iwdg"][1] == board.watchdog_origin
    for pin in (board.uart_tx, board.uart_rx):
        port = 0x4002_0000 + 0x400 * (ord(pin[1]) - ord("A"))
        assert any(low <= port < low + size for _, low, size in parts.values()), pin


@pytest.mark.parametrize("name", BOARDS)
def test_the_script_uses_what_there_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       stand_in: Callable[[Path], Path]) -> None:  # fmt: skip
    script = (FOLDER / f"{name}.resc").read_text(encoding="utf-8")
    parts, board = described(name), load_board(name)
    uart = re.search(r"connector Connect sysbus\.(\w+) (\w+)", script)
    assert uart is not None
    assert uart[1] == board.uart
    assert uart[1] in parts
    assert f'CreateServerSocketTerminal $uart_port "{uart[2]}" false' in script
    stand_in(tmp_path)
    command = " ".join(renode_command(tmp_path / "x.elf", board, 1234))
    assert set(re.findall(r"\$(\w+)", script)) - {"reset"} <= set(re.findall(r"\$(\w+)=", command))
    for address in re.findall(r"WriteDoubleWord (0x\w+)", script):
        assert any(low <= int(address, 16) < low + size for _, low, size in parts.values()), address
    startup = (ROOT / "firmware" / "src" / "cortex_m" / "startup.c").read_text(encoding="utf-8")
    assert "od_vectors[" in startup
    assert 'GetSymbolAddress "od_vectors"' in script


@pytest.mark.parametrize("name", BOARDS)
def test_the_chip_says_which_it_is(name: str) -> None:
    board = load_board(name)
    script = (FOLDER / f"{name}.resc").read_text(encoding="utf-8")
    found = re.search(rf"WriteDoubleWord 0x{board.idcode_address:08X} (0x\w+)", script)
    assert found is not None
    assert int(found[1], 16) & 0xFFF == board.chip_id


class FakeFlash:
    """Stands for Renode's flash controller: the script of a .repl file, run by Python."""

    def __init__(self, name: str) -> None:
        text = (FOLDER / f"{name}.repl").read_text(encoding="utf-8")
        found = re.search(r"flash_controller: Python.*?script: '''\n(.*?)'''", text, re.S)
        assert found is not None
        self._code = compile(found[1], f"{name}.repl", "exec")
        self._request = SimpleNamespace(IsInit=True, IsRead=False, Offset=0, Value=0)
        self._names = {"request": self._request, "self": self}
        self.erased: list[tuple[int, int, int]] = []
        exec(self._code, self._names)
        self._request.IsInit = False

    def write(self, offset: int, value: int) -> None:
        self._request.IsRead, self._request.Offset, self._request.Value = False, offset, value
        exec(self._code, self._names)

    def read(self, offset: int) -> int:
        self._request.IsRead, self._request.Offset, self._request.Value = True, offset, 0
        exec(self._code, self._names)
        return int(self._request.Value)

    def GetMachine(self) -> dict[str, object]:  # noqa: N802 (Renode's name)
        return {"sysbus.flash": self}

    def SetRange(self, start: int, length: int, value: int) -> None:  # noqa: N802
        self.erased.append((start, length, value))


def test_the_f767s_flash_controller_erases_the_sectors_that_checkpoints_lie_in() -> None:
    board, flash = load_board("renode_f767zi"), FakeFlash("renode_f767zi")
    keys, status, control = 0x04, 0x0C, 0x10  # RM0410 3.7
    lock, start, erase = 1 << 31, 1 << 16, 1 << 1
    assert flash.read(control) == lock
    flash.write(control, start | erase | 10 << 3)
    flash.write(keys, 0xCDEF89AB)
    assert (flash.erased, flash.read(control)) == ([], lock)
    offset = board.storage_origin - board.flash_origin
    for bank, sector in ((0, 10), (1, 11)):
        flash.write(keys, 0x45670123)
        flash.write(keys, 0xCDEF89AB)
        assert flash.read(control) & lock == 0
        flash.write(status, 0xF3)
        flash.write(control, start | erase | sector << 3)
        assert flash.erased[bank:] == [
            (offset + bank * board.storage_bank_bytes, board.storage_bank_bytes, 0xFF)
        ]
        assert flash.read(control) & start == 0
        assert flash.read(status) == 0
        flash.write(control, lock)
        assert flash.read(control) & lock == lock


def test_the_f446s_checkpoints_lie_in_sectors_that_renodes_controller_has_right() -> None:
    """The last two of 128 KB; Renode 1.16 takes the one before for 64 KB."""
    board = load_board("renode_f446re")
    assert "MTD.STM32F4_FlashController" in (FOLDER / "renode_f446re.repl").read_text()
    assert board.storage_origin - board.flash_origin >= 0x40000
    assert board.storage_bank_bytes == 0x20000


def test_renode_is_started_without_windows_and_without_a_monitor_on_the_network(
    tmp_path: Path, stand_in: Callable[[Path], Path]
) -> None:
    stand_in(tmp_path)
    elf = tmp_path / "my firmware.elf"
    command = renode_command(elf, load_board("renode_f446re"), 4321)
    assert command[1:4] == ["--disable-xwt", "--plain", "--port=-1"]
    commands = [b for a, b in pairwise(command) if a == "-e"]
    assert f"$elf=@{str(elf.resolve()).replace(' ', chr(92) + ' ')}" in commands
    assert "$uart_port=4321" in commands
    assert commands[-2:] == [f"include @{FOLDER / 'renode_f446re.resc'}", "start"]
    with pytest.raises(UserError, match="semicolon"):
        renode_command(tmp_path / "a;b.elf", load_board("renode_f446re"), 4321)


def test_a_missing_renode_is_named_with_where_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"not installed: get it from renode\.io.*ondevice boards"):
        start_renode(tmp_path / "x.elf", load_board("renode_f446re"))


def test_a_board_behind_a_socket_trains_and_ends_with_the_run(
    tmp_path: Path, stand_in: Callable[[Path], Path], compile_c: Callable[[str], Path]
) -> None:
    log = stand_in(compile_c("fake_device"))
    transport = start_renode(tmp_path / "x.elf", load_board("renode_f446re"))
    with Device(transport) as device:
        device.write_input(bytes(range(256)) + bytes(344))  # every byte value passes
        device.train(0.5)
        assert device.counters().trained == 1
    started = json.loads(log.read_text())
    assert f"$elf=@{tmp_path / 'x.elf'}" in started["arguments"]
    # It is a child of the script that was started; both must go.
    deadline = time.monotonic() + 60.0
    while is_running(started["pid"]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(started["pid"])


def test_a_renode_that_ends_at_once_is_quoted(
    tmp_path: Path, stand_in: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path)
    script = tmp_path / "bin" / "renode"
    script.write_text("#!/bin/sh\necho There was an error executing command\nexit 3\n")
    with pytest.raises(
        LinkError, match=r"renode_f446re ended with exit code 3: There was an error"
    ):
        start_renode(tmp_path / "x.elf", load_board("renode_f446re"))


def test_a_renode_that_dies_in_the_middle_is_one_line(
    tmp_path: Path, stand_in: Callable[[Path], Path], compile_c: Callable[[str], Path]
) -> None:
    stand_in(compile_c("fake_device"))
    transport = start_renode(tmp_path / "x.elf", load_board("renode_f446re"))
    device = Device(transport)
    os.killpg(transport._child.process.pid, 9)
    with pytest.raises(LinkError, match=r"renode_f446re was ended by signal 9"):
        device.write_parameters([bytes(16), bytes(3000)])
    device.close()
    device.close()


def test_a_port_that_is_not_opened_is_given_up_with_the_last_words() -> None:
    command = ["sh", "-c", "echo [ERROR] cannot load; sleep 60"]
    with pytest.raises(LinkError, match=r"opened no UART on TCP port \d+ within 0.3 s: \[ERROR\]"):
        SocketTransport(command, free_port(), name="renode", start_s=0.3)


def test_the_robot_suites_send_what_the_protocol_says() -> None:
    text = (FOLDER / "uart.resource").read_text(encoding="utf-8")
    vectors = json.loads((ROOT / "tests" / "protocol_vectors.json").read_text(encoding="utf-8"))
    (hello,) = [frame for frame in vectors["frames"] if frame["name"] == "HELLO"]
    sent = re.search(r"\$\{HELLO\}\s+(.*)", text)
    assert sent is not None
    assert sent[1].replace(" ", "") == hello["wire"]


# Renode's keywords, as far as the suites use them, on a host program.
_KEYWORDS = """
import os, subprocess, time
from pathlib import Path


class keywords:
    ROBOT_LIBRARY_SCOPE = "SUITE"

    def __init__(self):
        self.commands, self.seen = [], b""

    def execute_command(self, command):
        assert command[0] == "$" or Path(command.partition("@")[2]).is_file(), command
        self.commands.append(command)

    def create_terminal_tester(self, uart, binaryMode=False, defaultPauseEmulation=False):
        script = next(c for c in self.commands if c.startswith("include")).partition("@")[2]
        assert "connector Connect " + uart + " " in Path(script).read_text(), uart

    def start_emulation(self):
        pipe = subprocess.PIPE
        self.board = subprocess.Popen([os.environ["STAND_IN_BOARD"]], stdin=pipe, stdout=pipe)

    def send_key_to_uart(self, key):
        self.board.stdin.write(bytes([key]))
        self.board.stdin.flush()

    def wait_for_bytes_on_uart(self, content, timeout):
        wanted = bytes.fromhex(content)
        while wanted not in self.seen:
            data = self.board.stdout.read1(4096)
            if not data:
                raise AssertionError(f"{wanted!r} never came")
            self.seen += data
        self.seen = self.seen.partition(wanted)[2]
"""


def run_robot(folder: Path, suite: Path) -> None:
    command = [sys.executable, "-m", "robot", "--outputdir", str(folder / "out")]
    done = subprocess.run(
        [*command, str(suite)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_keywords_of_the_uart_talk_to_a_board(
    tmp_path: Path, stand_in: Callable[[Path], Path], compile_c: Callable[[str], Path]
) -> None:
    stand_in(compile_c("fake_device"))
    (tmp_path / "keywords.py").write_text(_KEYWORDS)
    (tmp_path / "x.elf").write_text("")
    suite = tmp_path / "suite.robot"
    suite.write_text(
        "*** Settings ***\n"
        f"Resource    {FOLDER / 'uart.resource'}\nLibrary    {tmp_path / 'keywords.py'}\n"
        "*** Test Cases ***\nGreets\n"
        f"    Start Board    renode_f446re    sysbus.usart2    {tmp_path / 'x.elf'}\n"
        "    Board Should Announce Itself    fake_board\n"
        "    Board Should Answer Hello    fake_board\n"
    )
    run_robot(tmp_path, suite)


@pytest.mark.skipif(shutil.which("renode-test") is None, reason="Renode is not installed")
def test_the_suites_pass_in_renode() -> None:
    subprocess.run(["make", "test-renode"], cwd=ROOT, check=True)
