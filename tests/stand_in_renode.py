#!/usr/bin/env python3
"""Stands in for Renode: reads its command line, and serves the UART of a host program by TCP.

The program is named by the environment variable STAND_IN_BOARD; the command line is written to
STAND_IN_LOG, if that is set.
"""

import json
import os
import re
import select
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path


def main() -> None:
    arguments = sys.argv[1:]
    if log := os.environ.get("STAND_IN_LOG"):
        Path(log).write_text(json.dumps({"pid": os.getpid(), "arguments": arguments}))
    commands = "; ".join(b for a, b in pairwise(arguments) if a == "-e")
    found = re.search(r"\$uart_port=(\d+)", commands)
    if found is None:
        sys.exit("[ERROR] Variable $uart_port not found")
    with socket.create_server(("127.0.0.1", int(found[1]))) as server:
        line, _ = server.accept()
    board = subprocess.Popen(
        [os.environ["STAND_IN_BOARD"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    assert board.stdin is not None
    assert board.stdout is not None
    host, device = line.fileno(), board.stdout.fileno()
    while True:
        for source in select.select([host, device], [], [])[0]:
            data = os.read(source, 4096)
            os.write(board.stdin.fileno(), data) if source == host else line.sendall(data)
            if not data:
                board.stdin.close()
                sys.exit(board.wait())


if __name__ == "__main__":
    main()
