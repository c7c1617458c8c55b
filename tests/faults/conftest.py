"""Fixtures of the harnesses: the command line on both databases, real workers, programs whose system calls fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durablejobs import DurableJobs
from durablejobs.cli.root import root
from durablejobs.store import Store

from ..worker.conftest import empty_database, nursery, queue
from .victims import Victims

__all__ = ["empty_database", "nursery", "queue"]

HANDLERS = """
from durablejobs import DurableJobs

jobs = DurableJobs({database!r})


@jobs.handler("mail")
def mail(to, subject="none"):
    return to
"""

Answer = tuple[int, str, str]
Ask = Callable[..., Answer]
CountStored = Callable[[], int]


@pytest.fixture(scope="session")
def victims() -> Iterator[Victims]:
    """Where programs come from whose system calls are made to fail."""
    started = Victims()
    yield started
    started.close()


@pytest.fixture
def place(dialect: str, database: str, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with handlers, where commands find an empty queue: `jobs.db`, or a PostgreSQL database."""
    if dialect == "sqlite":
        shutil.copyfile(empty_database, database)
    (tmp_path / "handlers.py").write_text(HANDLERS.format(database=database))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DURABLEJOBS_DB", database)
    return tmp_path


@pytest.fixture
def ask(place: Path, capfd: Any) -> Ask:
    """Run the command line in this process, beside an empty queue; return the exit code, stdout and stderr."""

    def run(*arguments: str) -> Answer:
        with pytest.raises(SystemExit) as ended:
            root.main(list(arguments))
        said = capfd.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def count_stored(database: str, place: Path) -> CountStored:
    """Return a function that counts the jobs; all that can be read from the rows must be sound."""

    def count() -> int:
        with closing(Store(database)) as store:
            store.open()
            assert not store.checks.integrity_problems()
            assert [f"{each.promise}: {each.text}" for each in store.checks.rules() if each.broken] == []
            return store.checks.count_rows()["jobs"]

    return count


@pytest.fixture
def app(database: str, place: Path) -> Iterator[DurableJobs]:
    """The public object on the queue of `place`."""
    with closing(DurableJobs(database)) as jobs:
        yield jobs
