"""Child processes: each measurement runs a function of this package in a fresh interpreter.

The function is named by its module and name, gets keyword arguments as JSON, and returns JSON. Run as a program, this
file is the child's side.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""


class ChildError(RuntimeError):
    """A child process failed; carries the end of what it wrote."""


class Child:
    """A function that runs in a process of its own, which leads a process group of its own."""

    def __init__(self, function: Callable[..., Any], arguments: dict[str, Any], environment: dict[str, str]) -> None:
        self.name = f"{function.__module__}:{function.__name__}"
        self._directory = tempfile.TemporaryDirectory(prefix="benchmark-child-", ignore_cleanup_errors=True)
        self._place = Path(self._directory.name)
        self._answer = self._place / "answer.json"
        with (self._place / "output.txt").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.processes", self.name, json.dumps(arguments), str(self._answer)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def result(self, timeout: float = 1800) -> Any:
        """Wait for the end and return what the function returned. Raises `ChildError`."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            said = self.output()
            self.stop()
            raise ChildError(f"{self.name} took more than {timeout:g} s\n{said}") from None
        if not self._answer.exists():
            raise ChildError(f"{self.name} ended with code {self._process.returncode}\n{self.output()}")
        value = json.loads(self._answer.read_text())
        self._directory.cleanup()
        return value

    def is_running(self) -> bool:
        return self._process.poll() is None

    def output(self) -> str:
        """The end of what the child wrote."""
        return (self._place / "output.txt").read_text(errors="replace")[-2000:]

    def stop(self, patience: float = 5.0) -> None:
        """Ask the child to end, then end it and what it has started."""
        if self.is_running():
            self._signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        self._signal(signal.SIGKILL)  # also children of the child that have outlived it
        self._process.wait()
        self._directory.cleanup()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def start(function: Callable[..., Any], /, environment: dict[str, str] | None = None, **arguments: Any) -> Child:
    """Start the function in a child process."""
    return Child(function, arguments, environment or {})


def call(function: Callable[..., Any], /, **arguments: Any) -> Any:
    """Run the function in a child process and return its result."""
    return start(function, **arguments).result()


class StartingLine:
    """Lets several children begin at the same moment: each waits at a directory until all have come."""

    def __init__(self, place: str | Path) -> None:
        self._place = Path(place)
        self._place.mkdir(parents=True, exist_ok=True)

    def wait(self) -> float:
        """In a child: report, wait for the start, return its moment by `time.monotonic`."""
        (self._place / f"ready-{os.getpid()}").touch()
        go = self._place / "go"
        while not go.exists():
            time.sleep(0.002)
        begin = float(go.read_text())
        time.sleep(max(0.0, begin - time.monotonic()))
        return begin

    def open(self, count: int, timeout: float = 120) -> float:
        """In the parent: wait until so many have come, start them, return the moment."""
        give_up = time.monotonic() + timeout
        while len(list(self._place.glob("ready-*"))) < count:
            if time.monotonic() > give_up:
                raise ChildError(f"not all of {count} processes were ready within {timeout:g} s")
            time.sleep(0.01)
        begin = time.monotonic() + 0.1
        written = self._place / "go.written"
        written.write_text(repr(begin))
        written.rename(self._place / "go")
        return begin


def _main() -> None:
    name, arguments, answer = sys.argv[1:]
    module, _, function = name.partition(":")
    function_here = getattr(importlib.import_module(module), function)
    gc.collect()  # what the imports have left is looked through here, and not at a random moment of what is timed
    value = function_here(**json.loads(arguments))
    Path(answer).write_text(json.dumps(value))


if __name__ == "__main__":
    _main()
