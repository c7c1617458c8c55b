"""What the doctor says of a PostgreSQL server: each finding has its fault, planted or said by the server itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import make_url

from durablejobs import DurableJobs
from durablejobs.doctor.findings import Finding, Level
from durablejobs.doctor.server import findings
from durablejobs.store import Store
from durablejobs.store.server_state import ServerState

from .. import postgres
from ..postgres import admin

SOUND = ServerState("18.1", True, False, False, "on", True, True, True, 0, 0, 5, 100, 1.0, 0.0)


def only(found: Iterator[Finding]) -> Finding:
    [finding] = [each for each in found if each.level is not Level.OK]
    assert finding.why
    assert finding.remedy
    return finding


def test_a_sound_server_is_found_sound() -> None:
    found = list(findings(SOUND))
    assert {each.level for each in found} == {Level.OK}
    checks = "server, writable, durability, timeouts, connections, autovacuum, clock"
    assert [each.check for each in found] == checks.split(", ")


@pytest.mark.parametrize(
    ("change", "check", "level", "what"),
    [
        ({"is_supported": False, "version": "12.3"}, "server", Level.WRONG, "PostgreSQL 12.3"),
        ({"is_standby": True}, "writable", Level.WRONG, "standby"),
        ({"is_read_only": True}, "writable", Level.ADVICE, "default_transaction_read_only"),
        ({"fsync": False}, "durability", Level.WRONG, "fsync off"),
        ({"full_page_writes": False}, "durability", Level.WRONG, "full_page_writes off"),
        ({"synchronous_commit": "off"}, "durability", Level.ADVICE, "synchronous_commit is off"),
        ({"statement_timeout": 1.5}, "timeouts", Level.ADVICE, "statement_timeout is 1.5 s"),
        ({"connections": 95}, "connections", Level.ADVICE, "95 of 100"),
        ({"autovacuum": False}, "autovacuum", Level.WRONG, "autovacuum is off"),
        ({"oldest_transaction": 7200.0}, "autovacuum", Level.ADVICE, "open for 7,200 s"),
    ],
)
def test_what_is_not_as_it_should_be_is_named(change: dict[str, Any], check: str, level: Level, what: str) -> None:
    finding = only(findings(SOUND._replace(**change)))
    assert (finding.check, finding.level) == (check, level)
    assert what in finding.what


@pytest.mark.parametrize(("skew", "which"), [(60.0, "60 s behind"), (-90.0, "90 s ahead of")])
def test_a_clock_that_differs_from_the_servers_is_named(skew: float, which: str) -> None:
    assert which in only(findings(SOUND, skew)).what


def test_a_difference_that_the_way_to_the_server_explains_is_none() -> None:
    assert [each for each in findings(SOUND, 6.0, 2.0) if each.level is not Level.OK] == []


def test_the_servers_own_settings_are_asked_and_not_those_of_our_transactions(postgres_url: str) -> None:
    name = make_url(postgres_url).database
    planted = {
        "synchronous_commit": "off",
        "statement_timeout": "1500ms",
        "idle_in_transaction_session_timeout": "7s",
        "default_transaction_read_only": "on",
    }
    with admin(postgres_url) as connection:
        connection.execute("ALTER TABLE jobs SET (autovacuum_enabled = false)")
        for setting, value in planted.items():
            connection.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
        try:
            with closing(Store(postgres_url)) as store:
                state = store.checks.server_state()
        finally:
            connection.execute(f"ALTER DATABASE {name} RESET ALL")
            connection.execute("ALTER TABLE jobs RESET (autovacuum_enabled)")
    assert state is not None
    assert (state.synchronous_commit, state.statement_timeout, state.idle_in_transaction_timeout) == ("off", 1.5, 7.0)
    assert (state.is_read_only, state.autovacuum, state.is_standby, state.is_supported) == (True, False, False, True)
    assert 0 < state.connections < state.most_connections


def test_a_transaction_that_somebody_has_forgotten_is_seen(postgres_url: str) -> None:
    with closing(Store(postgres_url)) as store, admin(postgres_url) as forgetful:
        forgetful.execute("BEGIN")
        forgetful.execute("SELECT 1 FROM jobs")
        first, second = store.checks.server_state(), store.checks.server_state()
        assert first is not None
        assert second is not None
        assert 0 < first.oldest_transaction < second.oldest_transaction


@pytest.mark.skipif(bool(postgres.GIVEN), reason="whose server it is, and what it is for, nobody knows")
def test_the_command_says_it_too_of_a_server_for_tests(postgres_url: str) -> None:
    with closing(DurableJobs(postgres_url)) as jobs:
        jobs.enqueue("mail")
    command = [sys.executable, "-m", "durablejobs", "doctor", "--json", "--db", postgres_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4, done.stderr
    found = {each["check"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert found["durability"]["what"] == "fsync and full_page_writes off"
    assert found["schema"]["level"] == "ok"
    assert "no living worker serves" in found["queues"]["what"]
    assert found["orphans"]["level"] == "ok"


def test_looking_deep_does_not_pretend_to_have_checked_the_servers_pages(postgres_url: str) -> None:
    with closing(DurableJobs(postgres_url)) as jobs:
        finding = only(each for each in jobs.examine(deep=True) if each.check == "integrity")
        assert (finding.level, "were not checked" in finding.what) == (Level.ADVICE, True)
        assert "pg_amcheck" in finding.remedy
    command = [sys.executable, "-m", "durablejobs", "verify", "--db", postgres_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "all promises are kept" in done.stderr
    assert "pages and indexes were not checked; pg_amcheck does that" in done.stderr
    assert "SQLite" not in done.stdout + done.stderr
