"""Who can write the file controls the arguments, never the code that runs; nobody else gets in, nothing gets out."""

from __future__ import annotations

import ast
import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import durablejobs
from durablejobs import DurableJobs, JobFailedError, JobFilter, Status

from ..worker.harness import Queue

PACKAGE = Path(durablejobs.__file__).parent
FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "jsonpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
MAY_IMPORT_BY_NAME = {
    "__init__.py",  # the public names, from a table
    "app.py",  # the modules of the handlers, in a child process
    "cli/commands.py",  # the commands, from a table
    "cli/loading.py",  # what --app names
    "testing/doomed.py",  # what a test names
}
"""Files with `import_module`. Nothing that comes from a row reaches it."""


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text())


def test_nothing_that_is_read_can_become_code() -> None:
    found = []
    for name, tree in sources():
        for node in ast.walk(tree):
            match node:
                case ast.Import(names=names):
                    found += [(name, each.name) for each in names if each.name.split(".")[0] in FORBIDDEN_MODULES]
                case ast.ImportFrom(module=str(module)) if module.split(".")[0] in FORBIDDEN_MODULES:
                    found.append((name, module))
                case ast.Call(func=ast.Name(id=called)) if called in FORBIDDEN_CALLS:
                    found.append((name, called))
                case ast.Call(func=ast.Attribute(attr="import_module")) if name not in MAY_IMPORT_BY_NAME:
                    found.append((name, "import_module"))
                case ast.Attribute(value=ast.Name(id="os"), attr="system" | "popen"):
                    found.append((name, "os.system"))
                case ast.keyword(arg="shell", value=ast.Constant(value=True)):
                    found.append((name, "shell=True"))
    assert found == []


@pytest.mark.parametrize(
    "name", ["os.system", "os:system", "antigravity", "tests.worker.handlers:echo", "builtins.eval"]
)
def test_a_name_in_a_row_is_a_key_and_never_an_import_path(queue: Queue, name: str) -> None:
    queue.sql("INSERT INTO jobs(handler, args, max_attempts) VALUES (?, '[\"touch proof\"]', 1)", name)
    queue.run()
    [row] = queue.sql("SELECT status, error FROM jobs")
    assert row["status"] == "failed"
    assert "no handler" in row["error"]
    assert not (queue.directory / "proof").exists()


def test_a_stored_error_stays_text(queue: Queue) -> None:
    job_id = queue.enqueue("echo")
    text = "os.system('touch proof')"
    queue.sql("UPDATE jobs SET status = 'failed', finished_at = created_at, error = ? WHERE id = ?", text, job_id)
    with pytest.raises(JobFailedError) as caught:
        queue.job(job_id).wait()
    assert caught.value.error == text
    assert caught.value.__cause__ is None


def test_every_file_beside_the_database_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        jobs = DurableJobs(tmp_path / "jobs.db")
        jobs.enqueue("mail")
        jobs.back_up(tmp_path / "copy.db")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        jobs.close()
    finally:
        os.umask(before)
    assert set(modes) == {"jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db-lock", "copy.db"}
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("text", ["' OR 1=1 --", "x'; DROP TABLE jobs; --", '"', "%", "_", "mail\\"])
def test_what_is_looked_for_is_a_value_and_never_sql(jobs: DurableJobs, text: str) -> None:
    jobs.enqueue("mail")
    assert jobs.list_jobs(JobFilter(handler=text)) == []
    assert jobs.list_jobs(JobFilter(queue=text)) == []
    assert len(jobs.list_jobs()) == 1


def formatted_into_sql(tree: ast.Module) -> Iterator[str]:
    """Yield what stands in the braces of f-strings that are executed."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=called), args=[ast.JoinedStr(values=parts), *_]) if "exec" in called:
                yield from (ast.unparse(part.value) for part in parts if isinstance(part, ast.FormattedValue))


def test_no_sql_of_ours_is_made_of_values() -> None:
    """f-strings in SQL hold constants of ours only; this finds a value that slips in."""
    found = {(name, each) for name, tree in sources() for each in formatted_into_sql(tree)}
    assert {(name, each) for name, each in found if not re.fullmatch("_?[A-Z_]+", each)} == NOT_CONSTANT


NOT_CONSTANT = {
    ("store/sqlite/database.py", "self.config.synchronous"),  # one of three words
    ("store/copying.py", "sequence"),  # a name that the database itself has told
    ("store/postgres/database.py", "self.schema"),  # a plain name, checked where the URL is read
    ("store/postgres/connections.py", "self._session"),  # made of constants
    ("store/postgres/listening.py", "self._channel"),  # made of that name
}


def test_a_foreign_schema_is_not_trusted(jobs: DurableJobs) -> None:
    """A view or trigger that somebody put into the file cannot call functions with side effects."""
    jobs.open()
    with closing(sqlite3.connect(":memory:")) as probe:
        probe.execute("PRAGMA trusted_schema = OFF")
        try:
            probe.execute("CREATE TABLE probe(a CHECK (json_valid(a)))")
        except sqlite3.OperationalError:
            pytest.skip("this SQLite calls no JSON function from a schema that is not trusted")
    with jobs._store.database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA trusted_schema").scalar() == 0


def test_args_are_neither_in_the_log_nor_in_the_process_list_nor_in_the_register(queue: Queue) -> None:
    secret = "hunter2-hunter2"
    worker = queue.start()
    job_id = queue.enqueue("pass_gate", "gate", secret, True)
    queue.wait_for_call(job_id)
    command_line = Path(f"/proc/{worker.pid}/cmdline")
    if command_line.exists():
        assert secret not in command_line.read_text()
    assert secret not in str(queue.registered())
    queue.jobs.using(max_attempts=1).enqueue("ecco", secret)
    queue.open_gate()
    queue.wait_for(Status.FAILED, job_id + 1)
    worker.stop()
    assert "the gate was a trap" in worker.log
    assert secret not in worker.log


def test_a_password_in_a_url_is_never_shown(tmp_path: Path) -> None:
    urls = ["postgresql://user:hunter2@nowhere.invalid/db", "mysql://user:hunter2@h/db", "sqlite+x://user:hunter2@h/y"]
    for url in urls:
        done = subprocess.run(
            [sys.executable, "-m", "durablejobs", "list", "--db", url],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in (2, 5), done.stderr
        assert "hunter2" not in done.stdout + done.stderr


def test_names_from_strangers_cannot_move_a_terminals_cursor(queue: Queue) -> None:
    queue.insert_unchecked("a\x1b[2J\u202eb", queue="q\x07\n")
    done = subprocess.run(
        [sys.executable, "-m", "durablejobs", "list", "--db", str(queue.path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", done.stdout)
    assert "\\x1b[2J\\u202eb" in done.stdout
    queue.sql("DELETE FROM jobs")  # the fixture wants a sound database
