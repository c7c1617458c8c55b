"""Links between the pages lead somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from .pages import ROOT, all_pages, anchors_of, links_of


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: page.name)
def test_each_link_into_the_repository_leads_to_a_file_and_a_heading(page: Path) -> None:
    dead = []
    for target in links_of(page):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        if not goal.exists() or (anchor and anchor not in anchors_of(goal)):
            dead.append(target)
    assert dead == []


def test_each_page_of_docs_is_linked_from_the_readme() -> None:
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in links_of(ROOT / "README.md")}
    assert [page.name for page in all_pages() if page.parent.name == "docs" and page not in linked] == []
