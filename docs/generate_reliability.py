"""Write docs/reliability.md: `python docs/generate_reliability.py [REPORT.xml …]`.

The tables are made of `tests/faults/catalogue.py` and of the tests that it names. Reports of pytest
(`pytest -m slow tests/faults -o junit_family=xunit1 --junitxml=REPORT.xml`) bring what was counted in a run; it is kept
in docs/reliability.json until the next ones. The soaks are those whose results are in docs/benchmarks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "reliability.md"
COUNTS: Final = ROOT / "docs" / "reliability.json"
FRAME: Final = ROOT / "docs" / "reliability_frame.txt"
SOAKS: Final = ROOT / "docs" / "benchmarks"

sys.path.insert(0, str(ROOT))

from tests.faults import catalogue  # noqa: E402 - the path first

TABLES: Final = {
    "scenarios": catalogue.SCENARIOS,
    "postgres": catalogue.POSTGRES,
    "inputs": catalogue.INPUTS,
    "security": catalogue.SECURITY,
}
SHOWN: Final = (
    "images",
    "faults",
    "kills",
    "invoked",
    "pauses",
    "workers killed",
    "clients killed",
    "command lines",
    "rows by SQL",
)


def page() -> str:
    """Return the page: the frame with the tables in place of their names."""
    counts = json.loads(COUNTS.read_text(encoding="utf-8"))
    text = FRAME.read_text(encoding="utf-8")
    for name, faults in TABLES.items():
        text = text.replace(f"<!-- table: {name} -->", table(faults, counts))
    return text.replace("<!-- table: totals -->", totals(counts)).replace("<!-- soaks -->", soaks())


def table(faults: Iterable[catalogue.Fault], counts: dict[str, dict[str, int]]) -> str:
    rows = ["| | fault | what must hold | how it is tried | result |", "|---|---|---|---|---|"]
    for fault in faults:
        tried = "<br>".join(_linked(test) for test in fault.tests) or "not by a test"
        rows.append(f"| {fault.number} | {fault.what} | {fault.must_hold} | {tried} | {_result(fault, counts)} |")
    return "\n".join(rows)


def _linked(test: str) -> str:
    file, _, name = test.partition("::")
    return f"[{name.removeprefix('test_').replace('_', ' ')}](../tests/{file})"


def _result(fault: catalogue.Fault, counts: dict[str, dict[str, int]]) -> str:
    parts = ["holds" if fault.tests else ""]
    tried = [
        f"{number:,} {what}" for test in fault.tests for what, number in counts.get(test, {}).items() if what in SHOWN
    ]
    parts += [", ".join(tried), fault.note]
    return ". ".join(part for part in parts if part)


def totals(counts: dict[str, dict[str, int]]) -> str:
    """What was counted in the last run, test by test."""
    rows = ["| test | counted |", "|---|---|"]
    for test, numbers in sorted(counts.items()):
        rows.append(f"| {_linked(test)} | {', '.join(f'{number:,} {what}' for what, number in numbers.items())} |")
    return "\n".join(rows)


def soaks() -> str:
    """What came of the soaks that were published, the shortest name first."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(SOAKS.glob("soak-*.json"))]
    return "\n\n".join(map(_soak, found)) or "None has been published yet."


def _soak(results: dict[str, Any]) -> str:
    name = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[results["database"]]
    machine = results["machine"]
    jobs = sum(number for of_handler in results["ends"].values() for number in of_handler.values())
    told = ", ".join(f"{number:,} {what}" for what, number in results["told"].items() if what != "invoked")
    done = ", ".join(f"{number:,} {what}" for what, number in results["done"].items())
    broken = sum(not each["holds"] for each in results["criteria"])
    word = f"{broken} of {len(results['criteria'])} criteria are broken" if broken else "every criterion holds"
    where = f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['filesystem']}"
    story = (
        f"{jobs:,} jobs in {results['runs']:,} runs. The clients called {results['told']['invoked']:,} times and were "
        f"told: {told}. Meanwhile: {done}. The lease was {results['lease']:g} s, the soak used {machine['cores used']} "
        f"cores ({where})."
    )
    lines = [
        f"### {results['minutes']:g} minutes on {name}: {word}",
        "",
        story,
        "",
        *(f"![what was measured](benchmarks/{picture}.svg)\n" for picture in results["pictures"]),
        "| promise | what | measured | allowed | |",
        "|---|---|---|---|---|",
    ]
    for each in results["criteria"]:
        measured = f"{each['measured']:,g} {each['unit']}".strip()
        verdict = "ok" if each["holds"] else "**BROKEN**"
        lines.append(f"| {each['promise']} | {each['what']} | {measured} | {each['bound']} | {verdict} |")
    return "\n".join(lines)


def counted(report: Path) -> dict[str, dict[str, int]]:
    """Return the whole numbers that the tests of a report have recorded; those of one function are added up."""
    found: dict[str, dict[str, int]] = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - a report of our own tests
        name = (case.get("name") or "").partition("[")[0]
        file = (case.get("classname") or "").removeprefix("tests.").replace(".", "/")
        numbers: dict[str, Any] = {each.get("name") or "": each.get("value") for each in case.iter("property")}
        for what, value in numbers.items():
            if str(value).isdigit():
                mine = found.setdefault(f"{file}.py::{name}", {})
                mine[what] = mine.get(what, 0) + int(str(value))
    return found


def main(reports: list[str]) -> None:
    if reports:
        counts = json.loads(COUNTS.read_text(encoding="utf-8"))
        for report in reports:
            counts |= counted(Path(report))
        COUNTS.write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
