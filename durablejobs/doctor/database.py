"""The database itself: how it keeps its journal, its schema, and with `--deep` every page and row of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..store import Store
from ..store.schema import SchemaState, way_out
from .findings import Finding, advice, ok, wrong

_MOST_SHOWN: Final = 10


def check_journal(store: Store) -> Finding:
    """The write-ahead log must be on: what is promised about power cuts was tried with it."""
    mode = store.checks.journal_mode()
    if mode == "wal":
        return ok("journal mode", "write-ahead log")
    return wrong(
        "journal mode",
        f"the journal mode is {mode}, not the write-ahead log (wal)",
        "Readers and writers block each other, and workers do not notice new jobs at once.",
        "Stop whatever sets it; the next enqueue, or the start of a worker, switches the write-ahead log on again.",
    )


def check_synchronous(synchronous: str) -> Finding:
    """What the user's app has chosen for the moment of a commit."""
    if synchronous in ("FULL", "EXTRA"):
        return ok("synchronous", f"{synchronous}: a commit that has returned survives a power cut")
    return wrong(
        "synchronous",
        f"the app writes with synchronous={synchronous}",
        "The last commits before a power cut may be lost: jobs that were just enqueued, and endings, whose jobs run "
        "again. A killed process still loses nothing.",
        "Leave DatabaseConfig(synchronous=…) at FULL, unless losing them is what you have chosen.",
    )


def check_schema(store: Store) -> Finding:
    """Compare the tables with those of this version."""
    report = store.schema_report()
    if report.state is SchemaState.CURRENT:
        return ok("schema", f"up to date ({report.revision})")
    return wrong("schema", way_out(report, store.location), "No job can be enqueued or run here.", "As it says.")


def _integrity(problems: list[str] | None) -> Finding:
    if problems is None:
        return advice(
            "integrity",
            "the server's own pages and indexes were not checked",
            "A disk or its memory can damage them unnoticed; only the rows were read here, as the server gives them.",
            "Let the server's administrator run pg_amcheck now and then, and keep data checksums on.",
        )
    if problems:
        more = f" … and {len(problems) - _MOST_SHOWN} more" if len(problems) > _MOST_SHOWN else ""
        return wrong(
            "integrity",
            "; ".join(problems[:_MOST_SHOWN]) + more,
            "The file is damaged, or rows were forced past its checks.",
            "Stop everything, keep the files, restore a backup. `sqlite3 FILE .recover` gets back what is readable.",
        )
    return ok("integrity", "SQLite's check of all pages, indexes, rows and references finds nothing")


def check_deep(store: Store) -> Iterator[Finding]:
    """Read every page of a file, and every row; takes long for a large one."""
    yield _integrity(store.checks.integrity_problems())
    broken = [each for each in store.checks.rules() if each.broken]
    for each in broken:
        yield wrong(
            f"promise {each.promise}",
            f"{each.text}: broken by {each.broken:,}, among them {', '.join(each.examples)}",
            "Only durablejobs and the documented SQL keep this promise; somebody else has written, or we have a bug.",
            "`durablejobs show ID`; if only durablejobs has written there, report it, please.",
        )
    if not broken:
        yield ok("promises", "all rows keep all promises that can be read from rows")
