"""`worker --processes` hands the URL of a database on where not everybody can read it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence

import pytest

from durablejobs import WorkerConfig

URL = "postgresql://shop:secret@db.example/shop"


@pytest.mark.parametrize("given", [["--db", URL], [f"--db={URL}"]])
def test_no_argument_list_of_a_worker_holds_the_url(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("durablejobs.cli.worker")
    commands: list[Sequence[str]] = []

    class NoSupervisor:
        def __init__(self, command: Callable[[int], Sequence[str]], _count: int, _replaces: bool) -> None:
            commands.append(command(1))

        def run(self) -> int:
            return 0

    arguments = [*given, "--processes", "2", "--queues", "mail"]
    monkeypatch.setenv("DURABLEJOBS_DB", "")  # so that it is as before afterwards
    monkeypatch.setattr(module, "Supervisor", NoSupervisor)
    monkeypatch.setattr(sys, "argv", ["durablejobs", "worker", *arguments])
    module._supervise(2, WorkerConfig(), URL)
    [command] = commands
    assert command[3:] == ["worker", "--processes", "2", "--queues", "mail", "--supervised"]
    assert os.environ["DURABLEJOBS_DB"] == URL
