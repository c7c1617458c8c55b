"""The pytest plugin: fixtures for tests of applications that use durablejobs.

pytest loads it at every start, so it imports nothing but pytest before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .app import DurableJobs
    from .testing import JobsKit


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting that names the application."""
    parser.addini("durablejobs_app", "The DurableJobs under test: module:name; see the fixture of this name.")


@pytest.fixture
def durablejobs_app(request: pytest.FixtureRequest) -> DurableJobs:
    """The `DurableJobs` under test: the setting `durablejobs_app`, else a new one; override it in conftest.py."""
    from .app import DurableJobs

    named: str = request.config.getini("durablejobs_app")
    if not named:
        return DurableJobs("durablejobs-test.db", create=False)
    found = _resolved(named)
    if not isinstance(found, DurableJobs):
        raise pytest.UsageError(f"durablejobs_app: {named} is a {type(found).__name__}, not a DurableJobs")
    return found


def _resolved(named: str) -> object:
    """Return the object behind `module:name`."""
    import pkgutil

    try:
        return pkgutil.resolve_name(named)
    except (ImportError, AttributeError, ValueError) as error:
        raise pytest.UsageError(f"durablejobs_app: {named} cannot be imported: {error}") from None


@pytest.fixture
def durablejobs_kit(durablejobs_app: DurableJobs, tmp_path: Path) -> Iterator[JobsKit]:
    """The application's jobs on a fresh database of this test, by a clock that the test advances: see `JobsKit`."""
    from .testing import JobsKit

    with JobsKit(durablejobs_app, tmp_path) as kit:
        yield kit
