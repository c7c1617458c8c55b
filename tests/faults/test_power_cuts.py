"""The power goes out at any moment: what was acknowledged is there, nothing is there twice, and nothing is half.

Also not an effect and its job's ending, which are one commit (I6).

The real command line is recorded with strace (`story.sh`). Then, after each thing that it did to the disk, the files
are rebuilt as a cut might leave them (`disk`), opened, and checked.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from durablejobs import DurableJobs, JobFilter

from .disk import Disk, Image
from .promises import broken_promises
from .recording import HAS_STRACE, Event, record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not HAS_STRACE, reason="what happens to the disk is recorded with strace"),
    pytest.mark.xdist_group("power cuts"),  # one recording serves them all
]

DATABASES: Final = ("jobs.db", "app.db")
RECORDED: Final = [f"{name}{suffix}" for name in DATABASES for suffix in ("", "-wal", "-journal", "-lock")]
BATCH: Final = 40
OLD: Final = 250

HANDLERS: Final = """
import os

from sqlalchemy import create_engine, text

from durablejobs import DatabaseConfig, DurableJobs, current_job

jobs = DurableJobs("jobs.db", database_config=DatabaseConfig(synchronous=os.environ["SYNCHRONOUS"]))
notes = os.open("notes", os.O_WRONLY | os.O_APPEND)


@jobs.handler
def work(key, padding=""):
    os.write(notes, f"ran {key}\\n".encode())
    return key


@jobs.handler
def effect(key):
    with transaction() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS effects(key TEXT)"))
        connection.execute(text("INSERT INTO effects VALUES (:key)"), {"key": key})
        work.using(connection=connection).enqueue(f"after-{key}")
    return work(key)


def transaction():
    planted = os.environ["PLANTED"] == "effects alone"
    return create_engine("sqlite:///jobs.db").begin() if planted else current_job().transaction()
"""


@dataclass(frozen=True)
class Recording:
    """What happened, and what the disk held before."""

    before: Image
    events: Sequence[Event]


def prepare(directory: Path) -> Image:
    """Lay out what the story needs; return the files of its databases."""
    (directory / "handlers.py").write_text(HANDLERS)
    (directory / "notes").touch()
    batch = [{"handler": "work", "args": [f"batch{number}", "x" * 2000]} for number in range(BATCH)]
    old = [{"handler": "work", "args": [f"old{number}"], "queue": "old", "delay": 3600} for number in range(OLD)]
    for name, lines in (("batch", batch), ("old", old)):
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with closing(sqlite3.connect(directory / "app.db")) as application:
        application.execute("CREATE TABLE customers(name TEXT)")
        application.executemany("INSERT INTO customers VALUES (?)", [("ann",), ("bob",)])
        application.commit()
    return {"app.db": (directory / "app.db").read_bytes()}


STORY: Final = Path(__file__).with_name("story.sh").read_text()
SHORT_STORY: Final = STORY.partition("# Here ends the short story.")[0]


def recorded(directory: Path, story: str = STORY, synchronous: str = "FULL", planted: str = "") -> Recording:
    """Let the story happen, and watch the disk."""
    before = prepare(directory)
    script = directory / "story.sh"
    script.write_text(story)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DURABLEJOBS_")}
    environment |= {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "SYNCHRONOUS": synchronous,
        "PLANTED": planted,
        "DURABLEJOBS_DB": "jobs.db",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return Recording(before, record(["sh", str(script)], directory, [*RECORDED, "notes"], environment))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return recorded(tmp_path_factory.mktemp("story"))


class Expectation:
    """What the notes oblige the database to, at each moment."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def note(self, text: str) -> None:
        self.said |= set(text.splitlines())

    def broken_by(self, connection: sqlite3.Connection) -> list[str]:
        """Return what the queue in this file owes to those who were told otherwise."""
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'job_schema'").fetchone():
            stored = [text for text in self.said if text.startswith("stored ")]
            return [f"I1: {text}, but there are no tables" for text in stored]
        problems = broken_promises(connection)
        if problems:
            return problems
        rows = connection.execute("SELECT args ->> 0, status, result FROM jobs").fetchall()
        stored = Counter(key for key, _, _ in rows)
        return [
            *self._lost_or_twice(stored),
            *self._wrong_endings(rows),
            *wrong_effects(rows, effects_in(connection), stored),
        ]

    def _lost_or_twice(self, keys: Counter[str]) -> Iterator[str]:
        groups = {name: sum(keys[f"{name}{number}"] for number in range(most)) for name, most in GROUPS.items()}
        for name, count in groups.items():
            if count not in (0, GROUPS[name]) and not (name == "old" and "asked prune" in self.said):
                yield f"I1: {count} of the {GROUPS[name]} jobs of the batch {name!r} are there"
            if count and f"asked {name}" not in self.said:
                yield f"I2: the batch {name!r} is there, and nobody has asked for it"
            if not count and f"stored {name}" in self.said and not (name == "old" and "asked prune" in self.said):
                yield f"I1: the batch {name!r} was acknowledged and is lost"
        if groups["old"] and "done prune" in self.said:
            yield "I1: what was pruned is back"
        for key, count in keys.items():
            if count > 1:
                yield f"I2: {key} is there {count} times"
            if not key.startswith(tuple(GROUPS)) and f"asked {key.removeprefix(AFTER)}" not in self.said:
                yield f"I2: {key} is there, and nobody has asked for it"
        for text in self.said:
            what, _, key = text.partition(" ")
            if what == "stored" and key not in GROUPS and not keys[key]:
                yield f"I1: {key} was acknowledged and is lost"

    def _wrong_endings(self, rows: list[tuple[str, str, str]]) -> Iterator[str]:
        for key, status, result in rows:
            if status == "succeeded" and (f"ran {key}" not in self.said or json.loads(result) != key):
                yield f"I5: {key} succeeded without having run"
            if f"ended {key}" in self.said and status != "succeeded":
                yield f"I3: the end of {key} was seen, and now it is {status}"
            if key.startswith("old") and "cancelled old" in self.said and status != "cancelled":
                yield f"I3: {key} was cancelled, and now it is {status}"


GROUPS: Final = {"batch": BATCH, "old": OLD}
AFTER: Final = "after-"
"""What the key of a job begins with that an effect has enqueued."""
EFFECTS: Final = "effect"
"""What the keys of the jobs begin with that have an effect."""


def effects_in(connection: sqlite3.Connection) -> Counter[str]:
    """Return how many effects each job has had."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'effects'").fetchone():
        return Counter()
    return Counter(key for (key,) in connection.execute("SELECT key FROM effects"))


def wrong_effects(rows: list[tuple[str, str, str]], effects: Counter[str], stored: Counter[str]) -> Iterator[str]:
    """Yield the effects, and the jobs that they enqueue, that are not there exactly with their job's success (I6)."""
    for key, status, _ in rows:
        due = 1 if status == "succeeded" and key.startswith(EFFECTS) else 0
        found = effects[key], stored[f"{AFTER}{key}"]
        if found != (due, due):
            yield f"I6: {key} is {status} with {found[0]} effects and {found[1]} successors"


class Laboratory:
    """Opens images; a file system in memory makes it fast."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.images = 0
        self._seen: set[int] = set()

    def lay_out(self, image: Image, name: str) -> None:
        """Write the files of one database of an image, and nothing else."""
        for file in self.directory.iterdir():
            file.unlink()
        for file_name, content in image.items():
            if file_name.startswith(name):
                (self.directory / file_name).write_bytes(content)

    def open(self, image: Image, name: str) -> sqlite3.Connection | None:
        """Return a connection to one database of an image, recovered; None where it is not there at all."""
        self.lay_out(image, name)
        if name not in image:
            return None
        connection = sqlite3.connect(self.directory / name, isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    def is_new(self, image: Image, name: str, said: int) -> bool:
        """Whether these files of one database were not yet checked against the same expectations."""
        files = tuple(sorted((file, hash(content)) for file, content in image.items() if file.startswith(name)))
        key = hash((said, files))
        if key in self._seen:
            return False
        self._seen.add(key)
        self.images += 1
        return True


@pytest.fixture
def laboratory(tmp_path: Path) -> Iterator[Laboratory]:
    memory = Path("/dev/shm")
    directory = (
        memory / f"durablejobs-{os.getpid()}-{tmp_path.name}" if os.access(memory, os.W_OK) else tmp_path / "lab"
    )
    directory.mkdir()
    yield Laboratory(directory)
    shutil.rmtree(directory)


def cuts(recording: Recording, torn: int, seed: int) -> Iterator[tuple[Image, Expectation]]:
    """Yield what each moment's cut might leave, with what had been said by then."""
    disk, expectation, chance = Disk(recording.before), Expectation(), random.Random(seed)
    for event in recording.events:
        if event.name == "notes":
            expectation.note(event.data.decode())
        else:
            disk.apply(event)
        for image in disk.cuts(chance, torn):
            yield image, expectation


def problems_of(laboratory: Laboratory, recording: Recording, torn: int, seed: int = 0) -> Iterator[str]:
    """Yield what is wrong with all that the cuts of a recording might leave."""
    checks = {"jobs.db": problems_of_jobs, "app.db": problems_of_application}
    for image, expectation in cuts(recording, torn, seed):
        for name, check in checks.items():
            if laboratory.is_new(image, name, len(expectation.said)):
                try:
                    yield from check(laboratory, image, expectation)
                except sqlite3.DatabaseError as error:
                    yield f"I10: {name}: {error}"


def problems_of_jobs(laboratory: Laboratory, image: Image, expectation: Expectation) -> list[str]:
    connection = laboratory.open(image, "jobs.db")
    if connection is None:
        return [f"I1: {text}, but there is no file" for text in expectation.said if text.startswith("stored ")]
    with closing(connection):
        return expectation.broken_by(connection)


def problems_of_application(laboratory: Laboratory, image: Image, expectation: Expectation) -> list[str]:
    """A migration is there as a whole or not at all, and the application's own rows are untouched."""
    connection = laboratory.open(image, "app.db")
    assert connection is not None
    with closing(connection):
        problems = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
        if connection.execute("SELECT name FROM customers ORDER BY name").fetchall() != [("ann",), ("bob",)]:
            problems.append("the application's rows are gone")
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        tables = {"jobs", "job_errors", "job_workers", "job_counts", "job_schema", "jobs_overview", "ix_jobs_pending"}
        if tables & names not in (set(), tables):
            problems.append(f"the migration is half: {sorted(tables & names)}")
        if "done migration" in expectation.said and not tables <= names:
            problems.append("the migration was acknowledged and is lost")
        return problems


def test_no_cut_breaks_a_promise(
    recording: Recording, laboratory: Laboratory, record_property: Callable[[str, object], None]
) -> None:
    said = "".join(event.data.decode() for event in recording.events if event.name == "notes")
    assert "done prune" in said
    assert said.count("ended ") == 6
    problems = Counter(problems_of(laboratory, recording, torn=3))
    record_property("images", laboratory.images)
    assert problems == Counter()
    assert laboratory.images > 2000


def some_images(recording: Recording, count: int) -> list[tuple[Image, set[str]]]:
    """Return images of torn moments, each with what had been said by then."""
    chance = random.Random(7)
    torn = [
        (image, set(expectation.said))
        for image, expectation in cuts(recording, torn=1, seed=7)
        if "stored first" in expectation.said and "jobs.db-wal" in image and chance.random() < 0.2
    ]
    return chance.sample(torn, count)


RECOVERY: Final = """
import os, sqlite3, sys
for number in range(int(sys.argv[1])):
    connection = sqlite3.connect(f"{number}.db", isolation_level=None)
    connection.execute("SELECT count(*) FROM jobs").fetchall()
    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    connection.execute("UPDATE jobs SET meta = '{}' WHERE id = 1")
    connection.close()
"""


def test_a_cut_while_the_last_one_is_recovered_breaks_no_promise(
    recording: Recording, laboratory: Laboratory, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The first program after a cut opens the database, folds the log in, writes; and the power goes out again."""
    chosen = some_images(recording, 15)
    directory = tmp_path / "again"
    directory.mkdir()
    names = [f"{number}.db{suffix}" for number in range(len(chosen)) for suffix in ("", "-wal")]
    for number, (image, _) in enumerate(chosen):
        for suffix in ("", "-wal"):
            (directory / f"{number}.db{suffix}").write_bytes(image[f"jobs.db{suffix}"])
    events = record([sys.executable, "-c", RECOVERY, str(len(chosen))], directory, names, os.environ)
    problems: Counter[str] = Counter()
    for number, (image, said) in enumerate(chosen):
        prefix = f"{number}.db"
        own = [
            dataclasses.replace(event, name=event.name.replace(prefix, "jobs.db", 1))
            for event in events
            if event.name in (prefix, f"{prefix}-wal", ".")
        ]
        again = Recording(image, [Event("append", "notes", data="\n".join(said).encode()), *own])
        problems.update(problems_of_recovery(laboratory, again))
    record_property("images", laboratory.images)
    assert problems == Counter()
    assert laboratory.images > 500


def problems_of_recovery(laboratory: Laboratory, recording: Recording) -> Iterator[str]:
    for image, expectation in cuts(recording, torn=3, seed=1):
        if expectation.said and laboratory.is_new(image, "jobs.db", len(expectation.said)):
            try:
                yield from problems_of_jobs(laboratory, image, expectation)
            except sqlite3.DatabaseError as error:
                yield f"I10: {error}"


def test_after_a_cut_a_worker_brings_every_job_to_its_end(recording: Recording, laboratory: Laboratory) -> None:
    for image, _said in some_images(recording, 8):
        laboratory.lay_out(image, "jobs.db")
        jobs = DurableJobs(laboratory.directory / "jobs.db", create=False)
        for name in ("work", "effect"):
            jobs.handler(name)(lambda key, padding="": key)
        worker = jobs.worker(concurrency=4, lease=1, heartbeat=0.3, queues="default")
        working = threading.Thread(target=worker.run)
        working.start()
        for job in jobs.list_jobs(JobFilter(queue="default"), limit=1000):
            job.wait(timeout=30)
        worker.stop()
        working.join()
        with closing(sqlite3.connect(jobs.location)) as connection:
            assert broken_promises(connection) == []
        jobs.close()


# Planted bugs: the harness must find them.


def test_the_harness_finds_commits_that_do_not_wait_for_the_disk(tmp_path: Path, laboratory: Laboratory) -> None:
    directory = tmp_path / "story"
    directory.mkdir()
    recording = recorded(directory, SHORT_STORY, synchronous="NORMAL")
    problems = Counter(problems_of(laboratory, recording, torn=3))
    assert problems["I1: third was acknowledged and is lost"] > 0


def test_the_harness_finds_an_effect_that_does_not_commit_with_the_ending(
    tmp_path: Path, laboratory: Laboratory
) -> None:
    directory = tmp_path / "story"
    directory.mkdir()
    recording = recorded(directory, SHORT_STORY, planted="effects alone")
    problems = Counter(problems_of(laboratory, recording, torn=3))
    assert problems["I6: effect1 is running with 1 effects and 1 successors"] > 0


def test_the_harness_finds_an_acknowledgement_before_the_commit(tmp_path: Path, laboratory: Laboratory) -> None:
    directory = tmp_path / "story"
    directory.mkdir()
    hasty = SHORT_STORY.replace('note "asked $1"', 'note "asked $1"; note "stored $1"', 1)
    problems = Counter(problems_of(laboratory, recorded(directory, hasty), torn=3))
    assert problems["I1: third was acknowledged and is lost"] > 0


def test_the_harness_finds_a_disk_that_syncs_nothing_before_a_checkpoint(
    recording: Recording, laboratory: Laboratory
) -> None:
    """Without the syncs of the log a checkpoint overwrites pages that are nowhere else: the file is damaged."""
    reckless = [event for event in recording.events if not (event.kind == "sync" and event.name.startswith("jobs.db"))]
    problems = problems_of(laboratory, Recording(recording.before, reckless), torn=3)
    assert any(problem.startswith("I10: ") for problem in problems)


def test_the_harness_finds_jobs_that_are_there_twice_and_ends_that_come_back() -> None:
    expectation = Expectation()
    expectation.note("asked a\nstored a\nended a\nran a\nasked b")
    assert list(expectation._lost_or_twice(Counter({"a": 2, "c": 1}))) == [
        "I2: a is there 2 times",
        "I2: c is there, and nobody has asked for it",
    ]
    assert list(expectation._wrong_endings([("a", "pending", "null"), ("b", "succeeded", '"b"')])) == [
        "I3: the end of a was seen, and now it is pending",
        "I5: b succeeded without having run",
    ]
