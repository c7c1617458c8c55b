"""The table on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MARKS = {"met": "met", "missed": "MISSED", "shown": "–", "skipped": "skipped"}


def figure(record: dict[str, Any]) -> str:
    """Return a row's figure with its unit."""
    if record["value"] is None:
        return "–"
    return f"{number(record['value'])} {record['unit']}"


def spread(record: dict[str, Any]) -> str:
    """Return a row's lowest and highest figure."""
    if record["low"] is None:
        return ""
    return f"{number(record['low'])}–{number(record['high'])}"


def number(value: float) -> str:
    """Return three digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(records: Iterable[dict[str, Any]]) -> str:
    """Return the rows as aligned text."""
    rows = [("what", "target", "measured", "lowest–highest", "")]
    rows += [(each["title"], each["promise"], figure(each), spread(each), MARKS[each["verdict"]]) for each in records]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]) for row in rows
    ]
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(line.rstrip() for line in lines)


def verdicts(records: list[dict[str, Any]]) -> str:
    """Return how many targets were met and missed, and which were missed."""
    missed = [each["name"] for each in records if each["verdict"] == "missed"]
    counts = {verdict: sum(each["verdict"] == verdict for each in records) for verdict in MARKS}
    text = f"{counts['met']} targets met, {counts['missed']} missed"
    if counts["skipped"]:
        text += f", {counts['skipped']} not measured"
    return text + (f". Missed: {', '.join(missed)}" if missed else "")
