"""The password in a URL appears nowhere: in no output, error, log, traceback or list of processes, right or wrong."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import make_url

from durablejobs import DatabaseError, DurableJobs

from .. import postgres
from ..worker.harness import wait_until
from .conftest import HANDLERS

RIGHT: Final = "c0rrect/h@rse"
WRONG: Final = "b4ttery%st@ple"

COMMANDS: Final = [
    ["enqueue", "mail", "a"],
    ["enqueue", "fails"],
    ["worker", "--burst"],
    ["worker", "--burst", "--processes", "2", "--verbose"],
    ["list"],
    ["show", "1"],
    ["show", "4711"],
    ["stats", "--json"],
    ["workers", "--json"],
    ["queues"],
    ["pause", "bulk"],
    ["doctor", "--json"],
    ["doctor", "--deep"],
    ["verify"],
    ["prune", "--yes"],
    ["migrate"],
    ["backup", "out.db"],
    ["retry", "1"],
    ["cancel", "1"],
    ["wait", "1"],
    ["no-such-command"],
]  # fmt: skip


@pytest.fixture
def guarded(postgres_url: str, worker_id: str) -> Iterator[str]:
    """The URL of a role that has to give the password RIGHT."""
    if postgres.GIVEN:
        pytest.skip("which passwords that server wants is its own business")
    role = f"locked_{worker_id}"
    with postgres.admin(postgres_url) as connection:
        connection.execute(f"DROP ROLE IF EXISTS {role}")
        connection.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{RIGHT}'")
        yield make_url(postgres_url).set(username=role, password=RIGHT).render_as_string(hide_password=False)
        connection.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def with_wrong_password(url: str) -> str:
    return make_url(url).set(password=WRONG).render_as_string(hide_password=False)


def forms(url: str) -> list[str]:
    """The password as it is, and as the URL has it."""
    password = make_url(url).password or ""
    return [password, url.split(":")[2].rpartition("@")[0]]


def run(directory: Path, arguments: list[str], url: str, by_option: bool) -> subprocess.CompletedProcess[str]:
    (directory / "handlers.py").write_text(HANDLERS)
    command = [sys.executable, "-m", "durablejobs", *arguments]
    environment = dict(os.environ) if by_option else os.environ | {"DURABLEJOBS_DB": url}
    return subprocess.run(
        [*command, "--db", url] if by_option else command,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("is_right", [True, False], ids=["right", "wrong"])
def test_no_command_prints_it(tmp_path: Path, guarded: str, is_right: bool) -> None:
    url = guarded if is_right else with_wrong_password(guarded)
    assert all(form and form not in "".join(map(str, COMMANDS)) for form in forms(url))
    codes = set()
    for arguments in COMMANDS:
        for by_option in (True, False):
            done = run(tmp_path, arguments, url, by_option)
            codes.add(done.returncode)
            printed = done.stdout + done.stderr
            assert not [form for form in forms(url) if form in printed], (arguments, printed)
            assert "Traceback" not in printed, (arguments, printed)
    assert (0 in codes) is is_right


@pytest.mark.parametrize("is_right", [True, False], ids=["right", "wrong"])
def test_doctor_and_enqueue_do_not_print_it(tmp_path: Path, guarded: str, is_right: bool) -> None:
    url = guarded if is_right else with_wrong_password(guarded)
    for arguments in (["enqueue", "mail", "a"], ["doctor", "--json"]):
        done = run(tmp_path, arguments, url, by_option=False)
        assert not [form for form in forms(url) if form in done.stdout + done.stderr]
        assert "locked_" in done.stdout + done.stderr or is_right  # whose password it is may be said


@pytest.mark.slow
@pytest.mark.parametrize("to_server", [True, False])
def test_a_copy_does_not_print_it_and_writes_it_nowhere(tmp_path: Path, guarded: str, to_server: bool) -> None:
    run(tmp_path, ["enqueue", "mail", "a"], str(tmp_path / "file.db"), by_option=True)
    copied = ["copy", "file.db", guarded] if to_server else ["copy", guarded, "new.db"]
    done = run(tmp_path, copied, "unused.db", by_option=False)
    assert done.returncode == 0, done.stderr
    refused = run(tmp_path, ["enqueue", "mail", "b"], "file.db" if to_server else guarded, by_option=False)
    assert "has moved" in refused.stderr
    for text in (done.stdout, done.stderr, refused.stderr):
        assert not [form for form in forms(guarded) if form in text]
    for file in tmp_path.glob("*.db*"):
        assert not [form for form in forms(guarded) if form.encode() in file.read_bytes()]


def test_no_repr_error_log_or_traceback_has_it(guarded: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said = []
    for url in (guarded, with_wrong_password(guarded)):
        with closing(DurableJobs(url)) as jobs:
            said += [repr(jobs), repr(jobs._store), repr(jobs._store.database), jobs.location, repr(vars(jobs))]
            try:
                jobs.enqueue("mail")
            except DatabaseError as error:
                said += [repr(error), str(error), repr(vars(error))]
                said += traceback.format_exception(error)
    text = "\n".join([*said, caplog.text])
    assert "password authentication failed" in text
    for url in (guarded, with_wrong_password(guarded)):
        assert not [form for form in forms(url) if form in text]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:s3cr3t@host:port/app",
        "postgresql+asyncpg://ann:s3cr3t@host/app",
        "postgresql://ann:s3cr3t@127.0.0.1:1/app?password=s3cr3t",
        "postgresql://127.0.0.1:1/app?user=ann&password=s3cr3t",
        "postgresql://ann:s3cr3t@127.0.0.1:1/app?schema=No!",
        "mysql://ann:s3cr3t@127.0.0.1/app",
    ],
)
def test_a_url_that_is_wrong_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    done = run(tmp_path, ["enqueue", "mail", "a"], url, by_option=True)
    assert done.returncode not in (0, None)
    assert "s3cr3t" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")
def test_the_list_of_processes_has_it_not_and_neither_has_the_servers(tmp_path: Path, guarded: str) -> None:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    command = [sys.executable, "-m", "durablejobs", "worker", "--processes", "2"]
    environment = os.environ | {"DURABLEJOBS_DB": guarded}
    worker = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    try:
        with postgres.admin(guarded) as connection:
            count = "SELECT count(*) FROM job_workers"
            wait_until(lambda: connection.execute(count).fetchone() == (2,), "both are there", every=0.05)  # type: ignore[misc]
            shown = connection.execute("SELECT * FROM pg_stat_activity WHERE usename = current_user").fetchall()
            titles = [path.read_bytes() for path in _processes_of(tmp_path)]
            assert len(titles) >= 3
            assert not [form for form in forms(guarded) if form in str(shown) or form.encode() in b"".join(titles)]
    finally:
        worker.terminate()
        worker.wait(60)


def _processes_of(directory: Path) -> Iterator[Path]:
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and (process / "cwd").readlink() == directory:
                yield process / "cmdline"
