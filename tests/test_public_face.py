"""What `from durablejobs import …` offers, what importing it costs, and what a type checker sees."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import durablejobs
from durablejobs import ConfigurationError, DurableJobs, WorkerConfig

from .conftest import RunPython


@pytest.mark.parametrize("name", durablejobs.__all__)
def test_each_public_name_can_be_imported(name: str) -> None:
    assert getattr(durablejobs, name) is not None


def test_the_public_names_are_the_same_for_the_type_checker_and_at_run_time() -> None:
    """The names are written down three times: for type checkers, for the lazy import, and in `__all__`."""
    source = ast.parse(Path(durablejobs.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.name
        for block in source.body
        if isinstance(block, ast.If)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    lazy = {name for names in durablejobs._HOMES.values() for name in names}
    assert typed == lazy == set(durablejobs.__all__) - {"__version__"}
    assert dir(durablejobs) == sorted(durablejobs.__all__)


def test_every_error_of_ours_is_public() -> None:
    from durablejobs import errors

    ours = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert ours <= set(durablejobs.__all__)


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    from durablejobs import errors

    assert errors.__doc__ is not None
    for name, value in vars(errors).items():
        if isinstance(value, type) and value.__module__ == errors.__name__:
            assert f" {name} " in f"{errors.__doc__}\n".replace("\n", " "), name


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'durablejobs' has no attribute 'Borker'"):
        durablejobs.Borker  # noqa: B018


def test_importing_the_package_does_not_import_what_it_does_not_need_yet(run_python: RunPython) -> None:
    ended = run_python(
        "import sys, durablejobs; print(sorted({'sqlalchemy', 'alembic', 'click', 'rich'} & set(sys.modules)))"
    )
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


def test_the_errors_and_signals_are_imported_without_sqlalchemy(run_python: RunPython) -> None:
    ended = run_python(
        "import sys\n"
        "from durablejobs import Retry, Snooze, Fail, Cancel, DurableJobsError, Backoff, WorkerConfig, Status\n"
        "print('sqlalchemy' in sys.modules)"
    )
    assert (ended.stdout, ended.stderr) == ("False\n", "")


def test_the_version_is_written_down_once() -> None:
    from durablejobs.version import __version__

    assert durablejobs.__version__ == __version__


TYPED = """
from durablejobs import DurableJobs, Job

jobs = DurableJobs("jobs.db")


@jobs.handler
def plain(number: int) -> str:
    return str(number)


@jobs.handler("mail", queue="mail", max_attempts=5)
def send_mail(to: str, subject: str, body: str = "") -> int:
    return len(to)


def fits() -> None:
    job: Job = plain.enqueue(1)
    plain.using(delay=60).enqueue(number=1)
    send_mail.enqueue("a@b.c", subject="hi")
    send_mail.using(priority=5).enqueue("a@b.c", "hi", body="x")
    length: int = send_mail("a@b.c", "hi")


async def fits_too() -> None:
    job: Job = await plain.aenqueue(1)
    await send_mail.using(priority=5).aenqueue("a@b.c", subject="hi")
    same: Job = await jobs.aget(job.id)


async def does_not_fit_either() -> None:
    await plain.aenqueue("x")  # wrong
    await send_mail.aenqueue("a@b.c", subjekt="hi")  # wrong
    text: str = await jobs.aget(1)  # wrong


def does_not_fit() -> None:
    plain.enqueue("x")  # wrong
    plain.enqueue(1, "x")  # wrong
    plain.enqueue()  # wrong
    plain.enqueue(nummer=1)  # wrong
    plain.using(delay=60).enqueue("x")  # wrong
    send_mail.enqueue("a@b.c")  # wrong
    send_mail.enqueue("a@b.c", subject=7)  # wrong
    send_mail("a@b.c", 7)  # wrong
    text: str = send_mail("a@b.c", "hi")  # wrong
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_a_type_checker_checks_the_arguments_of_enqueue(tmp_path: Path) -> None:
    """Exactly the lines marked as wrong are errors."""
    (tmp_path / "typed.py").write_text(TYPED, encoding="utf-8")
    root = Path(durablejobs.__file__).parent.parent
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", "typed.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(root), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    found = {
        int(line.split(":")[1])
        for line in ended.stdout.splitlines()
        if line.startswith("typed.py:") and "error" in line
    }
    wrong = {number for number, line in enumerate(TYPED.splitlines(), 1) if line.endswith("# wrong")}
    assert found == wrong, ended.stdout + ended.stderr


def test_options_beside_a_worker_config_are_refused_instead_of_ignored(jobs: DurableJobs) -> None:
    with pytest.raises(ConfigurationError, match="burst: cannot stand beside a WorkerConfig"):
        jobs.work(WorkerConfig(), burst=True)
