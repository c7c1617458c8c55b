"""The schema in the file: created once, whoever comes; recognised; refused with a way out."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine

from durablejobs import (
    ConfigurationError,
    DatabaseError,
    DatabaseNotFoundError,
    DurableJobs,
    SchemaError,
)
from durablejobs.store import Store, schema
from durablejobs.store.sqlite.triggers import TRIGGERS, VIEWS
from durablejobs.store.tables import VERSION_TABLE, metadata
from durablejobs.version import __version__

from ..conftest import RunPython, Sql

Definitions = dict[tuple[str, str], list[str]]


def definitions(path: Path) -> Definitions:
    """What the file is made of: the SQL of each object as sorted lines, because Alembic reorders constraints."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE tbl_name <> ?", (VERSION_TABLE,))
        return {
            (kind, name): sorted(
                " ".join(line.split()).rstrip(",") for line in (text or "").splitlines() if line.strip()
            )
            for kind, name, text in rows
        }


def create_by_metadata(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        metadata.create_all(connection)
        for statement in (*TRIGGERS.values(), *VIEWS.values()):
            connection.exec_driver_sql(statement)
    engine.dispose()


# The sum of the migrations


def test_the_sum_of_the_migrations_is_the_metadata(store: Store, database_path: Path, tmp_path: Path) -> None:
    create_by_metadata(tmp_path / "metadata.db")
    migrated, written = definitions(database_path), definitions(tmp_path / "metadata.db")
    assert migrated.keys() == written.keys()
    for name, lines in written.items():
        assert migrated[name] == lines, name


def test_the_comparison_notices_a_check_that_was_forgotten_in_a_migration(database_path: Path, tmp_path: Path) -> None:
    """The checker above can fail."""
    for number, check in enumerate(("", ", CHECK (a > 0)")):
        with closing(sqlite3.connect(tmp_path / f"{number}.db")) as connection:
            connection.execute(f"CREATE TABLE t(a{check})")
    assert definitions(tmp_path / "0.db") != definitions(tmp_path / "1.db")


@pytest.mark.sqlite("tests/store/postgres compares the tables there")
def test_alembic_finds_nothing_to_migrate(store: Store) -> None:
    with store.database.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "target_metadata": metadata, "compare_type": True}
        )
        found = compare_metadata(context, metadata)
    # The version table is Alembic's own, and with our column in it no model of ours.
    assert [each for each in found if VERSION_TABLE not in str(each)] == []


def test_head_is_the_last_migration_and_all_of_them_are_known() -> None:
    scripts = ScriptDirectory(str(schema.migrations_directory()))
    assert scripts.get_current_head() == schema.HEAD
    assert {script.revision for script in scripts.walk_revisions()} == schema.KNOWN
    assert len(scripts.get_heads()) == 1


def test_each_migration_says_which_version_it_needs(sql: Sql, store: Store) -> None:
    assert sql(f"SELECT * FROM {VERSION_TABLE}") == [{"version_num": schema.HEAD, "needs": __version__}]


def test_the_script_for_people_makes_the_same_schema(store: Store, database_path: Path, tmp_path: Path) -> None:
    by_hand = tmp_path / "by hand.db"
    with closing(sqlite3.connect(by_hand)) as connection:
        connection.executescript(store.migration_script())
    assert definitions(by_hand) == definitions(database_path)
    opened = Store(by_hand)
    assert opened.open() is False
    opened.close()


# Opening


@pytest.fixture
def open_store() -> Iterator[Callable[..., Store]]:
    """Return a function that makes stores, which are closed in the end."""
    made: list[Store] = []

    def make(path: Path, create: bool = True) -> Store:
        made.append(Store(path, create=create))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_new_file_is_migrated_at_its_first_use(open_store: Callable[..., Store], database_path: Path) -> None:
    assert open_store(database_path).open() is True
    assert open_store(database_path).open() is False


def test_an_empty_file_is_migrated_at_its_first_use(open_store: Callable[..., Store], database_path: Path) -> None:
    database_path.touch()
    assert open_store(database_path).open() is True


def test_an_empty_file_is_refused_where_nothing_may_be_created(
    open_store: Callable[..., Store], database_path: Path
) -> None:
    database_path.touch()
    with pytest.raises(SchemaError, match=r"jobs\.db: is an empty file; `durablejobs migrate --db .*jobs\.db` or"):
        open_store(database_path, create=False).open()


def test_migrate_says_whether_there_was_work(open_store: Callable[..., Store], database_path: Path) -> None:
    assert open_store(database_path).migrate() is True
    assert open_store(database_path).migrate() is False
    assert open_store(database_path, create=False).open() is False


def test_an_applications_own_file_gets_a_queue_only_when_it_is_asked_for(
    open_store: Callable[..., Store], database_path: Path, sql: Sql
) -> None:
    sql("CREATE TABLE orders(id INTEGER PRIMARY KEY, note TEXT)")
    sql("CREATE TABLE alembic_version(version_num TEXT)")
    sql("INSERT INTO orders(note) VALUES ('mine')")
    with pytest.raises(SchemaError, match=r"is a database without a job queue; `durablejobs migrate --db .*` adds"):
        open_store(database_path).open()
    assert "jobs" not in {row["name"] for row in sql("SELECT name FROM sqlite_master")}
    assert open_store(database_path).migrate() is True
    assert open_store(database_path).open() is False
    assert sql("SELECT note FROM orders") == [{"note": "mine"}]
    assert sql("SELECT count(*) AS n FROM alembic_version") == [{"n": 0}]


def test_a_migration_leaves_nothing_behind_when_it_fails(
    open_store: Callable[..., Store], database_path: Path, sql: Sql
) -> None:
    """A foreign index stands in the way of the last table but one; the first ones are not created either."""
    sql("CREATE TABLE orders(id)")
    sql("CREATE INDEX ix_job_errors_job_id ON orders(id)")
    before = definitions(database_path)
    with pytest.raises(SchemaError, match="ix_job_errors_job_id already exists"):
        open_store(database_path).migrate()
    assert definitions(database_path) == before
    assert sql("SELECT name FROM sqlite_master WHERE name = ?", VERSION_TABLE) == []


def test_a_table_jobs_of_another_program_is_not_touched(
    open_store: Callable[..., Store], database_path: Path, sql: Sql
) -> None:
    sql("CREATE TABLE jobs(title)")
    for act in (open_store(database_path).open, open_store(database_path).migrate):
        with pytest.raises(
            SchemaError,
            match="has a table `jobs` that is not durablejobs' own; give the queue a file or a schema of its own",
        ):
            act()
    assert list(definitions(database_path)) == [("table", "jobs")]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE job_logs(id)",
        "CREATE TABLE job_errors(id)",
        "CREATE VIEW jobs AS SELECT id FROM orders",
        "CREATE VIEW jobs_overview AS SELECT id FROM orders",
        "CREATE TABLE ix_jobs_pending(id)",
        "CREATE TRIGGER jobs_count_ended AFTER INSERT ON orders BEGIN SELECT 1; END",
        "CREATE TABLE job_schema(version_num, needs)",
    ],
)
def test_whatever_of_another_program_has_a_name_of_ours_is_named_and_not_touched(
    open_store: Callable[..., Store], database_path: Path, sql: Sql, statement: str
) -> None:
    sql("CREATE TABLE orders(id)")
    sql(statement)
    before = definitions(database_path)
    with pytest.raises(SchemaError) as caught:
        open_store(database_path).migrate()
    name = "needs" if "job_schema" in statement else statement.split()[2].partition("(")[0]
    assert name in caught.value.problem
    assert caught.value.problem.endswith("; give the queue a file or a schema of its own")
    assert "\n" not in caught.value.problem
    assert definitions(database_path) == before


def test_a_newer_schema_is_refused_with_the_version_that_is_needed(
    open_store: Callable[..., Store], store: Store, database_path: Path, sql: Sql
) -> None:
    sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999', needs = '7.3'")
    for act in (open_store(database_path).open, open_store(database_path).migrate):
        with pytest.raises(
            SchemaError, match=r"has the newer schema 9999, this version knows 0001; install durablejobs 7\.3 or newer$"
        ):
            act()


def test_an_older_schema_is_refused_with_the_command_that_upgrades_it(
    open_store: Callable[..., Store], store: Store, database_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is only one revision so far, so this version plays a newer one."""
    monkeypatch.setattr(schema, "HEAD", "0002")
    monkeypatch.setattr(schema, "KNOWN", frozenset({"0001", "0002"}))
    with pytest.raises(SchemaError) as caught:
        open_store(database_path).open()
    assert caught.value.problem == (
        "has the older schema 0001, this version needs 0002; stop the workers, "
        f"then run `durablejobs migrate --db {database_path}`"
    )


def test_the_report_tells_the_state_and_changes_nothing(
    open_store: Callable[..., Store], database_path: Path, sql: Sql
) -> None:
    with pytest.raises(DatabaseNotFoundError):
        open_store(database_path.with_name("missing.db")).schema_report()
    database_path.touch()
    looking = open_store(database_path)
    assert looking.schema_report() == (schema.SchemaState.EMPTY, None, None)
    sql("CREATE TABLE orders(id)")
    assert looking.schema_report() == (schema.SchemaState.MISSING, None, None)
    assert looking.migrate()
    assert looking.schema_report() == (schema.SchemaState.CURRENT, "0001", __version__)
    sql(f"DELETE FROM {VERSION_TABLE}")
    assert looking.schema_report().state is schema.SchemaState.MISSING


# Paths that lead nowhere: one line each, naming the path


def refusal(target: str | os.PathLike[str]) -> str:
    app = DurableJobs(target)
    with pytest.raises(DatabaseError) as caught:
        app.enqueue("mail")
    app.close()
    assert str(caught.value).count("\n") == 0
    assert str(caught.value) == f"{Path(target).absolute()}: {caught.value.problem}"
    return caught.value.problem


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "is a directory; name a file in it"


def test_what_is_no_regular_file_is_refused_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").startswith("is not a regular file")
    assert refusal("/dev/null").startswith("is not a regular file")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
    assert not Path("/dev/null-journal").exists()


def test_a_file_that_is_no_database_gets_no_lock_file_when_a_schema_is_put_into_it(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("This is a text, and longer than a header." * 10)
    with closing(Store(tmp_path / "t.txt")) as store, pytest.raises(DatabaseError, match="is not a SQLite database"):
        store.migrate()
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"]


def test_a_path_that_is_not_utf_8_is_as_good_as_any(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.db")
    with closing(DurableJobs(path)) as jobs:
        job = jobs.handler("mail")(lambda: 7).enqueue()
        assert jobs.work(burst=True, concurrency=1).succeeded == 1
        assert job.wait() == 7
        assert jobs.examine(deep=True)
        jobs.back_up(path + ".copy")
    names = {path.name for path in tmp_path.iterdir()}
    assert {"\udcff.db", "\udcff.db.copy"} <= names


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no" / "jobs.db") == f"the directory {tmp_path / 'no'} does not exist"


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file" / "jobs.db") == "cannot be created: Not a directory"


def test_a_name_too_long_for_the_file_system_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / ("x" * 300)) == "cannot be opened: File name too long"


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "nowhere.db")
    assert refusal(tmp_path / "link.db").startswith("cannot be opened")


def test_a_file_that_is_no_database_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database\n" * 100, encoding="utf-8")
    assert refusal(text) == "is not a SQLite database"
    assert text.read_text(encoding="utf-8") == "not a database\n" * 100


def test_a_damaged_database_is_refused(store: Store, database_path: Path, tmp_path: Path) -> None:
    store.close()
    damaged = tmp_path / "damaged.db"
    content = bytearray(database_path.read_bytes())
    content[100:4096] = bytes(len(content[100:4096]))
    damaged.write_bytes(content)
    assert refusal(damaged).startswith("the database is damaged; restore a backup")


@pytest.mark.parametrize("target", [":memory:", "sqlite://", "sqlite:///:memory:"])
def test_memory_is_refused_because_it_is_lost_with_its_process(target: str) -> None:
    with pytest.raises(ConfigurationError, match="database: :memory: is lost with its process and shared with none"):
        DurableJobs(target)


def test_a_url_of_an_unknown_kind_is_refused_without_showing_its_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        DurableJobs("mysql://ada:secret@host/jobs")
    assert (
        str(caught.value)
        == "database: 'mysql://' is not supported; use a path, sqlite:///path or postgresql+psycopg://"
    )


@pytest.mark.parametrize("target", ["", "a\0b"])
def test_a_path_that_is_none_is_refused(target: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^database: the path"):
        DurableJobs(target)


def test_paths_and_urls_of_sqlite_lead_to_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = str(tmp_path / "a b?.db")
    assert DurableJobs("a b?.db").location == expected
    assert DurableJobs(tmp_path / "a b?.db").location == expected
    assert DurableJobs(f"sqlite:///{tmp_path}/jobs.db").location == str(tmp_path / "jobs.db")
    assert DurableJobs("sqlite:///jobs.db").location == str(tmp_path / "jobs.db")
    assert DurableJobs("sqlite+pysqlite:///jobs.db?timeout=5").location == str(tmp_path / "jobs.db")


def test_odd_characters_in_a_path_are_nothing_special(tmp_path: Path) -> None:
    for name in ("a b?mode=memory.db", "100%.db", "#1.db", "grün 😀.db", "quote's.db"):
        app = DurableJobs(tmp_path / name)
        assert app.enqueue("mail").id == 1
        app.close()
        assert (tmp_path / name).exists()


# Rights

WITHOUT_RIGHTS_OF_ROOT = """
import ctypes, os
if os.getuid() == 0:
    class Header(ctypes.Structure):
        _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
    class Data(ctypes.Structure):
        _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]
    assert ctypes.CDLL(None, use_errno=True).capset(ctypes.byref(Header(0x20080522, 0)), (Data * 2)()) == 0
"""
"""Root's process gives up the right to ignore the modes of files."""

TRY = """
import sys
from durablejobs import DurableJobs, DurableJobsError
jobs = DurableJobs(sys.argv[1])
try:
    getattr(jobs, sys.argv[2])(*sys.argv[3:])
    print("done")
except DurableJobsError as error:
    print(type(error).__name__, error.problem)
"""

on_linux = pytest.mark.skipif(os.uname().sysname != "Linux", reason="capabilities are Linux's")


@on_linux
@pytest.mark.parametrize("act", ["enqueue", "list_jobs"])
def test_without_the_right_to_write_in_the_directory_no_file_is_created(
    run_python: RunPython, tmp_path: Path, act: str
) -> None:
    directory = tmp_path / "sealed"
    directory.mkdir(mode=0o500)
    ended = run_python(
        WITHOUT_RIGHTS_OF_ROOT + TRY, directory / "jobs.db", act, *(["mail"] if act == "enqueue" else [])
    )
    assert ended.stdout == f"DatabaseUnusableError no permission to create a file in {directory}\n", ended.stderr


@on_linux
def test_without_the_right_to_enter_the_directory_the_path_is_named(run_python: RunPython, tmp_path: Path) -> None:
    directory = tmp_path / "sealed"
    directory.mkdir()
    (directory / "jobs.db").touch()
    directory.chmod(0)
    ended = run_python(WITHOUT_RIGHTS_OF_ROOT + TRY, directory / "jobs.db", "enqueue", "mail")
    directory.chmod(0o700)
    assert ended.stdout == "DatabaseUnusableError cannot be opened: Permission denied\n", ended.stderr


@on_linux
@pytest.mark.parametrize(
    ("file_mode", "directory_mode"), [(0o000, 0o700), (0o400, 0o700), (0o400, 0o500), (0o600, 0o500)]
)
def test_without_the_right_to_write_one_line_says_so(
    run_python: RunPython, tmp_path: Path, file_mode: int, directory_mode: int
) -> None:
    directory = tmp_path / "sealed"
    directory.mkdir()
    app = DurableJobs(directory / "jobs.db")
    app.open()
    app.close()
    (directory / "jobs.db-lock").unlink(missing_ok=True)
    (directory / "jobs.db").chmod(file_mode)
    directory.chmod(directory_mode)
    ended = run_python(WITHOUT_RIGHTS_OF_ROOT + TRY, directory / "jobs.db", "enqueue", "mail")
    directory.chmod(0o700)
    assert ended.stderr == ""
    assert re.match(
        r"DatabaseUnusableError (cannot be written: check the owner and mode|cannot be opened|no permission to create)",
        ended.stdout,
    )


def test_only_the_owner_can_read_what_is_created(database_path: Path) -> None:
    before = os.umask(0)
    try:
        app = DurableJobs(database_path)
        app.enqueue("mail")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in database_path.parent.iterdir()}
        app.close()
    finally:
        os.umask(before)
    assert modes == {"jobs.db": 0o600, "jobs.db-wal": 0o600, "jobs.db-shm": 0o600, "jobs.db-lock": 0o600}


# What it costs


def test_a_database_that_is_up_to_date_is_opened_without_alembic(
    run_python: RunPython, store: Store, database_path: Path
) -> None:
    code = (
        "import sys; from durablejobs import DurableJobs\n"
        "DurableJobs(sys.argv[1]).enqueue('mail'); print('alembic' in sys.modules)"
    )
    assert run_python(code, database_path).stdout == "False\n"
    assert run_python(code, database_path.with_name("new.db")).stdout == "True\n"  # and a new one needs it


def test_who_enqueues_does_not_load_what_workers_ask(run_python: RunPython, store: Store, database_path: Path) -> None:
    code = (
        "import sys; from durablejobs import DurableJobs\n"
        "DurableJobs(sys.argv[1]).enqueue('mail')\n"
        "print([name for name in sys.modules if name.startswith('durablejobs.store.doors.')])"
    )
    loaded = run_python(code, database_path).stdout
    assert "new_jobs" in loaded
    for door in ("acts", "checks", "claims", "handlers", "reads", "upkeep", "workers"):
        assert f".{door}'" not in loaded


# Many at once

RACE = """
import os, signal, sys, time
import alembic.command, alembic.config, alembic.runtime.migration, alembic.script  # once for all children
import sqlalchemy
from durablejobs import DurableJobs

path, processes, killed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
start_read, start_write = os.pipe()

def die_in_the_middle(number):
    @sqlalchemy.event.listens_for(sqlalchemy.Engine, "before_cursor_execute")
    def count(connection, cursor, statement, *_):
        if f"CREATE {('TABLE jobs', 'INDEX', 'TRIGGER', 'VIEW')[number]}" in statement:
            os.write(start_write, bytes(processes))  # now the others come
            time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGKILL)

children = []
for number in range(processes):
    child = os.fork()
    if child == 0:
        if number < killed:
            die_in_the_middle(number)
        else:
            os.read(start_read, 1)
        code = 1
        try:
            os.write(1, b"%d\\n" % DurableJobs(path).enqueue("mail", number).id)  # a line is never torn
            code = 0
        finally:
            os._exit(code)
    children.append(child)
if not killed:
    os.write(start_write, bytes(processes))
statuses = [os.waitpid(child, 0)[1] for child in children]
print("killed", sum(os.WIFSIGNALED(status) for status in statuses))
print("failed", sum(os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0 for status in statuses))
"""


@pytest.mark.parametrize("killed", [0, 4])
def test_32_processes_that_start_at_once_on_an_empty_path_make_one_schema(
    run_python: RunPython, database_path: Path, tmp_path: Path, sql: Sql, killed: int
) -> None:
    """Up to four of them are killed in the middle of the migration, at least one is; it leaves nothing half."""
    ended = run_python(RACE, database_path, 32, killed)
    assert ended.stderr == ""
    lines = ended.stdout.splitlines()
    assert "failed 0" in lines
    died = int(re.findall(r"killed (\d+)", ended.stdout)[0])
    assert min(killed, 1) <= died <= killed
    assert sorted(int(line) for line in lines if line.isdigit()) == list(range(1, 32 - died + 1))
    assert sql("SELECT count(*) AS n FROM jobs") == [{"n": 32 - died}]
    create_by_metadata(tmp_path / "metadata.db")
    assert definitions(database_path) == definitions(tmp_path / "metadata.db")
    assert sql(f"SELECT version_num FROM {VERSION_TABLE}") == [{"version_num": schema.HEAD}]


def test_migrating_at_once_from_two_stores_is_done_once(database_path: Path) -> None:
    first, second = Store(database_path), Store(database_path)
    first.database.ensure_reachable(create=True)
    with first.database.migration() as connection:
        assert isinstance(connection, Connection)
        assert schema.inspect_schema(connection).state is schema.SchemaState.EMPTY
    assert [first.migrate(), second.migrate()] == [True, False]
    first.close()
    second.close()
