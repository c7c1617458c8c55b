"""The page on reliability is made from the tests, and names only tests that exist."""

from __future__ import annotations

import ast
import runpy
from functools import cache
from pathlib import Path

import pytest

from ..faults import catalogue

ROOT = Path(__file__).parents[2]
ALL = [*catalogue.SCENARIOS, *catalogue.POSTGRES, *catalogue.INPUTS, *catalogue.SECURITY]


def test_the_page_is_up_to_date() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "generate_reliability.py"))["page"]
    shown = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert shown == page(), "run python docs/generate_reliability.py"


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("fault", ALL, ids=lambda fault: fault.number)
def test_each_fault_has_tests_that_exist_or_says_why_not(fault: catalogue.Fault) -> None:
    assert fault.tests or fault.note
    for test in fault.tests:
        file, _, name = test.partition("::")
        assert name in functions_of(file), test


def test_faults_are_numbered_without_a_gap() -> None:
    lists = {"F": catalogue.SCENARIOS, "P": catalogue.POSTGRES, "B": catalogue.INPUTS, "S": catalogue.SECURITY}
    for letter, faults in lists.items():
        assert [fault.number for fault in faults] == [f"{letter}{number + 1:02}" for number in range(len(faults))]
