"""Machines on a network of their own: Linux network namespaces, whose cable to the server can be pulled."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

PATIENCE: Final = 60.0
NETWORK: Final = f"10.{os.getpid() % 200 + 20}"
"""Another one for each process, so that two of them are not in each other's way."""
_numbers: Final = itertools.count(1)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)


class Machine:
    """A network namespace with one cable to this machine; `server` is this machine's address on it."""

    def __init__(self) -> None:
        number = next(_numbers)
        self.name = f"dj{os.getpid() % 100_000}m{number}"
        self._cable = f"{self.name}h"
        self.server = f"{NETWORK}.{number}.1"
        self.processes: list[subprocess.Popen[bytes]] = []
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "address", "add", f"{self.server}/30", "dev", self._cable)
        run("ip", "link", "set", self._cable, "up")
        for command in (f"address add {NETWORK}.{number}.2/30 dev eth0", "link set eth0 up", "link set lo up"):
            run("ip", "-n", self.name, *command.split())

    def start(self, log: Path, script: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Run a Python script there, under a host name of its own."""
        inside = f'hostname {self.name}; exec "$0" "$@"'
        command = ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c", inside]
        with log.open("ab") as output:
            process = subprocess.Popen([*command, sys.executable, "-c", script, *arguments], stderr=output)
        self.processes.append(process)
        return process

    def pull_the_plug(self) -> None:
        """Nothing comes through any more, and nobody is told."""
        run("ip", "link", "set", self._cable, "down")

    def plug_in(self) -> None:
        """Everything comes through again."""
        run("ip", "link", "set", self._cable, "up")

    def remove(self) -> None:
        """End what runs there, and take it down."""
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)
        for command in (["ip", "link", "delete", self._cable], ["ip", "netns", "delete", self.name]):
            with suppress(subprocess.CalledProcessError):
                run(*command)


@contextmanager
def machines(how_many: int) -> Iterator[list[Machine]]:
    """Yield so many machines; skips the test where namespaces are not allowed."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("network namespaces need root, ip and unshare")
    with ExitStack() as stack:
        made = []
        for _ in range(how_many):
            try:
                machine = Machine()
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no network namespaces here: {error.stderr}")
            stack.callback(machine.remove)
            made.append(machine)
        yield made
