"""The pages under test, and what is in them: fenced blocks, links, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

RUN_ELSEWHERE: Final = frozenset({"performance.md", "cli.md"})
"""Pages whose blocks are not run here: one tells of benchmarks, the other is generated from the commands."""

_FENCE: Final = re.compile(r"^(?P<indent> *)```(?P<language>[\w#+-]*) *$")
_NOT_TESTED: Final = re.compile(r"<!-- not tested: (?P<reason>.+) -->")
_OUTPUT: Final = "<!-- output -->"
_HEADING: Final = re.compile(r"^#+ (?P<text>.+)$")
_LINK: Final = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\[\]]*\])*\]\((?P<target>[^()\s]+)\)")
_HTML_ANCHOR: Final = re.compile(r'<a id="(?P<name>[^"]+)">')


def all_pages() -> list[Path]:
    """README, CHANGELOG and every page of docs."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def runnable_pages() -> list[Path]:
    """The pages whose blocks are run."""
    return [page for page in all_pages() if page.name not in RUN_ELSEWHERE]


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is where its text begins."""

    page: Path
    line: int
    language: str
    text: str
    not_tested: str | None = None
    """Why it is not run."""
    is_output: bool = False
    """What the block before it prints."""

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, with the marks that stand in the lines before them."""
    return list(_blocks(page, page.read_text(encoding="utf-8").splitlines()))


def _blocks(page: Path, lines: list[str]) -> Iterator[Block]:
    numbered = iter(enumerate(lines, 1))
    mark = ""
    for number, line in numbered:
        fence = _FENCE.match(line)
        if fence is None:
            if line.strip():
                mark = line.strip()
            continue
        indent = len(fence["indent"])
        text = []
        for _number, inner in numbered:
            if inner.strip() == "```":
                break
            text.append(inner[indent:])
        else:
            raise AssertionError(f"{page}:{number}: this block is never closed")
        reason = _NOT_TESTED.fullmatch(mark)
        yield Block(
            page,
            number + 1,
            fence["language"],
            "\n".join(text) + "\n",
            reason["reason"] if reason else None,
            mark == _OUTPUT,
        )
        mark = ""


def prose_of(page: Path) -> str:
    """Return the page without its fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links_of(page: Path) -> list[str]:
    """Return the targets of the links in a page's prose."""
    without_code = re.sub(r"`[^`]*`", "", prose_of(page))
    return [match["target"] for match in _LINK.finditer(without_code)]


def anchors_of(page: Path) -> set[str]:
    """Return the names that links can lead to, as GitHub makes them from headings."""
    text = prose_of(page)
    headings = (_HEADING.match(line) for line in text.splitlines())
    anchors = {_anchor(heading["text"]) for heading in headings if heading}
    return anchors | {match["name"] for match in _HTML_ANCHOR.finditer(text)}


def _anchor(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def section(page: Path, heading: str) -> str:
    """Return the text below a heading, up to the next heading of its level or above."""
    text = page.read_text(encoding="utf-8")
    start = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert start, f"{page.name} has no section {heading!r}"
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of the tables in a text, without their headings."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    rulers = [index for index, row in enumerate(cells) if all(re.fullmatch(r":?-+:?", cell) for cell in row)]
    headings = {index - 1 for index in rulers}
    return [row for index, row in enumerate(cells) if index not in headings and index not in rulers]
