"""A PostgreSQL server of one's own, which may be stopped, killed and started at will."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ... import postgres_server

FAST: Final = signal.SIGINT
"""Sessions are ended, then the server ends in good order."""
IMMEDIATE: Final = signal.SIGQUIT
"""Everybody ends at once; the next start recovers from the log."""


class Server:
    """Its files survive its ends."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        postgres_server.initialise(directory)
        self.up()

    @property
    def url(self) -> str:
        """The URL of its administrator."""
        return f"postgresql+psycopg://postgres@/postgres?host={self.directory / 'data'}"

    def up(self, **settings: str) -> None:
        """Start it, with these settings besides the usual ones; it takes connections when this returns."""
        self._process = postgres_server.launch(self.directory, **settings)
        postgres_server.wait_until_up(self._process, self.directory / "data")

    def down(self, how: signal.Signals = FAST) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(postgres_server.PATIENCE)
            self._process = None

    def restart(self, how: signal.Signals = FAST) -> None:
        """End it, and start it again."""
        self.down(how)
        self.up()

    def become_standby(self) -> None:
        """Start it again as one that only follows: it can be read and not written."""
        self.down()
        marker = self.directory / "data" / "standby.signal"
        marker.touch()
        with suppress(PermissionError):
            os.chown(marker, marker.parent.stat().st_uid, marker.parent.stat().st_gid)
        self.up()


@contextmanager
def own_server() -> Iterator[Server]:
    """Yield a new server, which is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="durablejobs-"))  # pytest's own paths are too long for a socket
    try:
        server = Server(directory)
        try:
            yield server
        finally:
            server.down(IMMEDIATE)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
