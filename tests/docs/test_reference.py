"""The pages that list things list all of them."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import durablejobs
from durablejobs import Backoff, DatabaseConfig, EnqueueOptions, JobDefaults, Retention, WorkerConfig
from durablejobs.cli.settings import KEYS
from durablejobs.statuses import LEGAL_CHANGES
from durablejobs.store.sqlite.triggers import VIEWS
from durablejobs.store.tables import VERSION_TABLE, metadata

from .pages import section, table_rows

DOCS = Path(__file__).parents[2] / "docs"


def test_the_command_line_page_is_up_to_date() -> None:
    # In a process of its own: click keeps the help option of a command that a test has run in this one.
    code = f"import runpy; print(runpy.run_path({str(DOCS / 'generate_cli.py')!r})['reference'](), end='')"
    reference = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == reference.stdout, "run python docs/generate_cli.py"


def test_the_drawing_of_the_statuses_shows_the_legal_changes_and_no_others() -> None:
    drawn = re.findall(r"^\s+(\w+) --> (\w+): .+$", (DOCS / "guarantees.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(drawn) == sorted(
        (before.value, after.value) for before in LEGAL_CHANGES for after in LEGAL_CHANGES[before]
    )


def test_the_table_of_outcomes_names_every_kind_of_error() -> None:
    package = DOCS.parent / "durablejobs"
    written = {kind for path in package.rglob("*.py") for kind in re.findall(r'Failure\(\s*"(\w+)"', path.read_text())}
    rows = table_rows(section(DOCS / "guarantees.md", "What a run comes to"))
    named = {kind for *_, cell in rows for kind in re.findall(r"^`(\w+)`$", cell)}
    assert named == written - {"cancel"}  # a cancelled run leaves its reason in the job's own row


def test_every_public_name_is_mentioned() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md"])
    missing = [name for name in durablejobs.__all__ if name != "__version__" and not re.search(rf"\b{name}\b", text)]
    assert missing == []


def test_every_table_and_column_of_jobs_is_explained() -> None:
    text = section(DOCS / "sqlite.md", "The tables")
    names = {column.name for column in metadata.tables["jobs"].columns}
    names |= {*metadata.tables, *VIEWS, VERSION_TABLE}
    assert sorted(name for name in names if f"`{name}`" not in text) == []


@pytest.mark.parametrize("settings", [WorkerConfig, Retention, JobDefaults, Backoff, DatabaseConfig, EnqueueOptions])
def test_every_setting_is_explained_with_its_default(settings: type[Any]) -> None:
    page = DOCS / "configuration.md"
    heading = re.search(rf"^#+ (`{settings.__name__}`.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert heading
    text = section(page, heading[1]).split("\n#")[0]
    rows = [(name.strip("`"), default) for name, default, *_ in table_rows(text)]
    assert [name for name, _ in rows] == [field.name for field in dataclasses.fields(settings)]
    for field, (_, shown) in zip(dataclasses.fields(settings), rows, strict=True):
        if field.default is not dataclasses.MISSING:
            assert shown == json_or_python(field.default), field.name


def json_or_python(default: object) -> str:
    return f'"{default}"' if isinstance(default, str) else repr(default)


def test_every_key_of_pyproject_is_explained() -> None:
    rows = table_rows(section(DOCS / "configuration.md", "The command line"))
    assert [key.strip("`") for _, _, key, _ in rows] == list(KEYS)


def test_every_error_is_explained() -> None:
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    errors = [name for name in durablejobs.__all__ if name.endswith("Error") and name != "JobError"]
    assert sorted(name for name in errors if f"`{name}`" not in text) == []
