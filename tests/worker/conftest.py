"""Fixtures of the worker's tests: real processes on a real file, or on a real server.

Those that are marked `conformance` run on PostgreSQL as well: the file that is marked says something about both. What
is marked so with "and fast" is tried at each run of the tests there, the others with the slow ones.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from durablejobs import DurableJobs

from .harness import Nursery, Queue

_HERE: Final = Path(__file__).parent


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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Processes take their time, on one database for each test: what runs on the second one too is mostly slow."""
    for item in items:
        marks = [mark for mark in item.iter_markers("conformance") if item.path.is_relative_to(_HERE)]
        call = getattr(item, "callspec", None)
        is_for_postgres = call is not None and call.params.get("dialect") == "postgresql"
        if marks and is_for_postgres and not any("and fast" in mark.args for mark in marks):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def queue(
    tmp_path: Path, nursery: Nursery, empty_database: Path, dialect: str, request: pytest.FixtureRequest
) -> Iterator[Queue]:
    """An empty queue; its workers are killed afterwards, and the database must be sound then."""
    url = request.getfixturevalue("postgres_url") if dialect == "postgresql" else None
    if url is None:
        shutil.copyfile(empty_database, tmp_path / "jobs.db")
    with Queue(tmp_path, nursery, url=url) as queue:
        yield queue
        for worker in queue.workers:
            worker.kill()
        queue.check_integrity()
