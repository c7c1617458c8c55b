"""What the pages tell a reader to type works, and prints what they say."""

from __future__ import annotations

import shutil
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from .pages import Block, blocks_of, runnable_pages
from .running import FOREIGN, SHOWN_ONLY, Page, expect

PROGRAMS = frozenset({"python", "console", "bash", "sql", *FOREIGN})


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the pages look into the database with the sqlite3 shell")
@pytest.mark.parametrize("path", runnable_pages(), ids=lambda path: path.name)
def test_the_blocks_of_a_page_run_one_after_another(path: Path, tmp_path: Path) -> None:
    if path.name == "testing.md" and not entry_points(group="pytest11", name="durablejobs"):
        pytest.skip("this environment was installed before the pytest plugin was there: pip install -e . again")
    page = Page(tmp_path)
    printed: str | None = None
    try:
        for block in blocks_of(path):
            if block.is_output:
                if printed is not None:
                    expect(printed, block.text, block.place)
            else:
                printed = page.run(block)
    finally:
        page.close()
    if page.skipped:
        pytest.skip("; ".join(page.skipped))


@pytest.mark.parametrize("path", runnable_pages(), ids=lambda path: path.name)
def test_each_program_in_a_page_is_run_or_says_why_not(path: Path) -> None:
    def is_accounted_for(block: Block) -> bool:
        return block.not_tested is not None or block.language in PROGRAMS | SHOWN_ONLY

    assert [block.place for block in blocks_of(path) if not is_accounted_for(block)] == []
    assert [block.place for block in blocks_of(path) if block.is_output and block.language not in SHOWN_ONLY] == []


def test_an_output_is_compared_but_for_times_durations_and_padding() -> None:
    expect("id  took   at\n1   3 ms   2026-01-31 12:00:00.5\n", "id took at\n1 20 ms 2030-01-01 00:00:00\n", "")
    expect("one\ntwo\nthree\n", "one\n…\nthree", "")
    expect("job 17 (mail) ran", "job … (mail) ran", "")
    with pytest.raises(AssertionError, match="and not"):
        expect("1 failed", "1 succeeded", "")
    with pytest.raises(AssertionError, match="and not"):
        expect("one\ntwo\n", "one\n", "")
