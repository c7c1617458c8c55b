"""Runs the blocks of one page in one directory, as a reader would who types them one after another.

- `python`: runs in one Python process per page, so that later blocks know the names of earlier ones. A block that
  begins with a comment that is a file name, `# handlers.py`, is written to that file instead.
- `console`: lines after `$` are commands for the shell; what stands below them is the output that they must have.
- `bash`: runs in the shell, and must succeed.
- `sql`: runs in the `sqlite3` shell on `jobs.db`.
- `perl`, `php`, `ruby`, `tcl`, `js`: run by their interpreter, where it and its SQLite client are there.
- A block after `<!-- output -->` is what the block before it printed.

Outputs are compared but for times, durations and the width of columns; `…` stands for any text, and in a line of its
own for any lines.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .pages import Block

SHOWN_ONLY: Final = frozenset({"", "text", "json", "toml", "ini", "mermaid"})
"""Languages that are not programs."""

FOREIGN: Final = {
    "perl": (["perl"], ["perl", "-MDBD::SQLite", "-e", "1"]),
    "php": (["php"], ["php", "-r", "new SQLite3(':memory:');"]),
    "ruby": (["ruby"], ["ruby", "-rsqlite3", "-e", "1"]),
    "tcl": (["tclsh"], ["sh", "-c", "echo 'package require sqlite3' | tclsh /dev/stdin"]),
    "js": (["node", "--no-warnings"], ["node", "-e", "require('node:sqlite')"]),
}
"""How to run a file in another language, and how to see whether that is possible here."""

_TIMEOUT: Final = 60
_FILE_NAME: Final = re.compile(r"(?:#|//) (?P<name>[\w./-]+\.\w+)$", re.MULTILINE)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)?")
_DURATION: Final = re.compile(r"\b\d+(\.\d+)? (ms|s|min|h|d)\b")
_PADDING: Final = re.compile(r"[ \t]+")
_RULE: Final = re.compile(r"─+|-{3,}")


class Page:
    """A page while its blocks are run, in order."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.skipped: list[str] = []
        """What could not be run here, and why."""
        self._python: subprocess.Popen[str] | None = None
        self._environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "PYTHONPATH")}
        self._environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._environment["LC_ALL"] = "C.UTF-8"

    def run(self, block: Block) -> str | None:
        """Run a block; return what it printed, or None when it was not run."""
        if block.not_tested is not None or block.language in SHOWN_ONLY:
            return None
        runners: dict[str, Callable[[Block], str | None]] = {
            "python": self._run_python,
            "console": self._run_console,
            "bash": self._run_bash,
            "sql": self._run_sql,
        }
        return runners.get(block.language, self._run_foreign)(block)

    def close(self) -> None:
        """End the Python process."""
        if self._python is not None:
            assert self._python.stdin is not None
            assert self._python.stdout is not None
            self._python.stdin.close()
            self._python.wait(_TIMEOUT)
            self._python.stdout.close()

    def _run_python(self, block: Block) -> str | None:
        name = _FILE_NAME.match(block.text)
        if name:
            (self.directory / name["name"]).write_text(block.text, encoding="utf-8")
            return None
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("python_session.py"))],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        request = {"code": block.text, "file": str(block.page), "line": block.line}
        self._python.stdin.write(json.dumps(request) + "\n")
        self._python.stdin.flush()
        answer = json.loads(self._python.stdout.readline())
        assert answer["error"] is None, f"{block.place}:\n{answer['error']}"
        return str(answer["output"])

    def _run_console(self, block: Block) -> None:
        for command, expected in _commands(block):
            output = self._shell(command, block)
            if expected:
                expect(output, expected, f"{block.place}: $ {command}")

    def _run_bash(self, block: Block) -> str:
        return self._shell(block.text, block)

    def _run_sql(self, block: Block) -> str:
        return self._checked(["sqlite3", "-bail", "-box", "jobs.db"], block, stdin=block.text)

    def _run_foreign(self, block: Block) -> str | None:
        assert block.language in FOREIGN, f"{block.place}: nobody knows how to run {block.language!r}: mark it"
        command, probe = FOREIGN[block.language]
        if not _works(probe):
            self.skipped.append(f"{block.place}: no {block.language} with SQLite here")
            return None
        script = self.directory / f"block.{block.language}"
        script.write_text(block.text, encoding="utf-8")
        return self._checked([*command, script.name], block)

    def _shell(self, command: str, block: Block) -> str:
        return self._checked(["bash", "-e", "-o", "pipefail", "-c", command], block)

    def _checked(self, command: list[str], block: Block, stdin: str = "") -> str:
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self._environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=_TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{block.place}: exit code {done.returncode}:\n{done.stdout}"
        return done.stdout


def _works(probe: list[str]) -> bool:
    if shutil.which(probe[0]) is None:
        return False
    return subprocess.run(probe, capture_output=True, check=False, timeout=_TIMEOUT).returncode == 0


def _commands(block: Block) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with the output that stands below it.

    A command whose exit code is meant ends with `; echo $?` or stands with `||`, as it would for a reader.
    """
    commands: list[list[str]] = []
    outputs: list[list[str]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            commands.append([line[2:]])
            outputs.append([])
        elif line.startswith("> ") and commands and not outputs[-1]:
            commands[-1].append(line[2:])
        else:
            assert outputs, f"{block.place}: a console block begins with '$ '"
            outputs[-1].append(line)
    return [("\n".join(command), "\n".join(output)) for command, output in zip(commands, outputs, strict=True)]


def expect(output: str, expected: str, place: str) -> None:
    """Compare, but for times, durations and padding; `…` stands for anything."""
    lines = ["(?:.*\n)*?" if line == "…" else _pattern(line) + "\n" for line in _comparable(expected)]
    shown = "".join(f"{line}\n" for line in _comparable(output))
    assert re.fullmatch("".join(lines), shown), f"{place}\nprinted:\n{output}\nand not:\n{expected}"


def _pattern(line: str) -> str:
    return ".*".join(map(re.escape, line.split("…")))


def _comparable(text: str) -> list[str]:
    """Return the lines without what differs from run to run."""
    text = _DURATION.sub("<duration>", _TIME.sub("<time>", text))
    lines = (_PADDING.sub(" ", _RULE.sub("---", line)).strip() for line in text.splitlines())
    return [line for line in lines if line]
