"""Fixtures of the worker's tests: real processes on a real file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from durablejobs import DurableJobs

from .harness import Nursery, Queue


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where worker processes come from."""
    started = Nursery()
    yield started
    started.close()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without jobs; a copy of it is ready at once."""
    path = tmp_path_factory.mktemp("template") / "jobs.db"
    jobs = DurableJobs(path)
    jobs.migrate()
    jobs.close()
    return path


@pytest.fixture
def queue(tmp_path: Path, nursery: Nursery, empty_database: Path) -> Iterator[Queue]:
    """An empty queue; its workers are killed afterwards, and the file must be sound then."""
    shutil.copyfile(empty_database, tmp_path / "jobs.db")
    with Queue(tmp_path, nursery) as queue:
        yield queue
        for worker in queue.workers:
            worker.kill()
        queue.check_integrity()
