"""Watching, waiting and reading logs on the command line: on terminals, in pipes, and when somebody has enough."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from durablejobs import DurableJobs

HANDLERS = """
import logging
import time
from pathlib import Path

from durablejobs import DurableJobs, current_job

jobs = DurableJobs("jobs.db")
log = logging.getLogger("app")


@jobs.handler(keep_log=True)
def resize(count):
    for number in range(1, count + 1):
        current_job().progress(number, count, "photo \\x1b[31m")
        log.info("resized %d", number)
    while not Path("go").exists():
        time.sleep(0.01)
    current_job().log("done \\x1b[31m \\u202e", level="warning")
    return count


@jobs.handler(max_attempts=1)
def fails():
    current_job().progress(1, 2)
    raise ValueError("no")
"""
PATIENCE: Final = 60.0


class Command:
    """The command line in a directory with a handlers.py and a jobs.db."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "handlers.py").write_text(HANDLERS)
        self.jobs = DurableJobs(directory / "jobs.db")
        self.jobs.migrate()
        outside = {key: value for key, value in os.environ.items() if not key.startswith("DURABLEJOBS_")}
        self.environment = outside | {"DURABLEJOBS_DB": "jobs.db", "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}

    def start(self, *arguments: str, **options: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "durablejobs", *arguments],
            cwd=self.directory,
            env=self.environment,
            text=True,
            **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options),
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def go(self) -> None:
        """Let the handlers end."""
        (self.directory / "go").touch()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Run a worker meanwhile, in this process."""
        program = "import handlers; handlers.jobs.work(interval=0.1)"
        worker = subprocess.Popen([sys.executable, "-c", program], cwd=self.directory, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            self.go()
            worker.terminate()
            assert worker.wait(PATIENCE) == 0

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        give_up = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < give_up, f"in vain until {what}"
            time.sleep(0.02)


class Terminal:
    """What a person would see: a command on a terminal of its own."""

    def __init__(self, command: Command, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = command.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.seen = ""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                text = os.read(self._ours, 65536)
            except OSError:  # the other end is closed
                return
            self.seen += text.decode(errors="replace")

    def wait(self) -> int:
        code = self.process.wait(PATIENCE)
        self._thread.join(PATIENCE)
        os.close(self._ours)
        return code


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path)
    yield command
    command.jobs.close()


def enqueue(command: Command, handler: str = "resize", *args: object) -> int:
    return command.jobs.using(max_attempts=1).enqueue(handler, *args).id


# In pipes: a line for each change, and no more


def test_show_watch_in_a_pipe_is_a_line_for_each_change_and_ends_with_the_job(command: Command) -> None:
    enqueue(command, "resize", 3)
    watcher = command.start("show", "1", "--watch")
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "1  pending  resize\n"
    with command.working():
        lines = [watcher.stdout.readline()]
        while "3/3" not in lines[-1]:
            lines.append(watcher.stdout.readline())
        assert lines[-1] == "1  running  resize  3/3 photo \\x1b[31m\n"
        command.go()
        stdout, stderr = watcher.communicate(timeout=PATIENCE)
    assert stdout == "1  succeeded  resize  3/3 photo \\x1b[31m\n"
    assert (watcher.returncode, stderr) == (0, "")


def test_list_watch_with_json_is_an_object_for_each_change(command: Command) -> None:
    enqueue(command, "fails")
    watcher = command.start("list", "--watch", "--json")
    assert watcher.stdout is not None
    assert json.loads(watcher.stdout.readline())["status"] == "pending"
    with command.working():
        while (job := json.loads(watcher.stdout.readline()))["status"] != "failed":
            pass
    assert job["progress"] == {"done": 1, "total": 2, "message": ""}
    watcher.send_signal(signal.SIGINT)
    watcher.communicate(timeout=PATIENCE)
    assert watcher.returncode == 130


def test_a_reader_that_has_enough_ends_the_watch_although_nothing_changes(command: Command) -> None:
    enqueue(command)
    watcher = command.start("list", "--watch")
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "1  pending  resize\n"
    watcher.stdout.close()
    assert watcher.stderr is not None
    with watcher.stderr:
        assert watcher.stderr.read() == ""
    assert watcher.wait(PATIENCE) == 1


@pytest.mark.parametrize(
    "arguments", [("show", "1", "--watch"), ("list", "--watch"), ("wait", "1"), ("enqueue", "resize", "--wait")]
)
def test_control_c_ends_with_130_and_one_line(command: Command, arguments: tuple[str, ...]) -> None:
    enqueue(command)
    watcher = command.start(*arguments)
    assert watcher.stdout is not None
    assert watcher.stderr is not None
    if arguments[0] == "wait":  # says nothing before the end
        command.wait_until(lambda: select.select([watcher.stdout], [], [], 1.5), "it waits")
    else:
        (watcher.stderr if arguments[0] == "enqueue" else watcher.stdout).readline()
    watcher.send_signal(signal.SIGINT)
    _, stderr = watcher.communicate(timeout=PATIENCE)
    assert watcher.returncode == 130
    assert stderr.strip() == "durablejobs: interrupted"  # behind the ^C that a terminal shows


def test_watching_a_job_that_is_deleted_meanwhile_says_so(command: Command) -> None:
    enqueue(command)
    watcher = command.start("show", "1", "--watch")
    assert watcher.stdout is not None
    watcher.stdout.readline()
    command.jobs.delete(1)
    _, stderr = watcher.communicate(timeout=PATIENCE)
    assert (watcher.returncode, stderr) == (3, "durablejobs: no job 1\n")


def test_waiting_for_a_job_that_is_deleted_meanwhile_says_so(command: Command) -> None:
    waiter = command.start("enqueue", "resize", "--wait")
    assert waiter.stderr is not None
    assert waiter.stderr.readline() == "job 1 is enqueued; waiting for its end\n"
    command.jobs.delete(1)
    _, stderr = waiter.communicate(timeout=PATIENCE)
    assert (waiter.returncode, stderr) == (3, "durablejobs: no job 1\n")


def test_waiting_for_a_job_that_fails_is_exit_code_4(command: Command) -> None:
    with command.working():
        done = command.run("enqueue", "fails", "--max-attempts", "1", "--wait")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.splitlines()[1:] == ["durablejobs: job 1 failed: ValueError: no"]


# On terminals


def test_show_watch_on_a_terminal_draws_a_bar_and_leaves_the_last_drawing(command: Command) -> None:
    enqueue(command, "resize", 4)
    terminal = Terminal(command, "show", "1", "--watch")
    with command.working():
        command.wait_until(lambda: "██████████ 4/4" in terminal.seen, "the bar is full")
        command.go()
        assert terminal.wait() == 0
    assert "photo \\x1b[31m" in terminal.seen
    assert terminal.seen.rstrip().endswith("\x1b[?25h")  # the cursor is there again
    assert "succeeded" in terminal.seen


def test_list_watch_on_a_terminal_is_drawn_over_until_control_c(command: Command) -> None:
    enqueue(command, "resize", 4)
    terminal = Terminal(command, "list", "--watch")
    with command.working():
        command.wait_until(lambda: "██████████ 4/4" in terminal.seen, "the bar is full")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == 130
    assert "\x1b[?25h" in terminal.seen
    assert terminal.seen.rstrip().endswith("durablejobs: interrupted")
    assert "Traceback" not in terminal.seen


def test_enqueue_wait_on_a_terminal_shows_progress_and_leaves_only_the_result(command: Command) -> None:
    with command.working():
        terminal = Terminal(command, "enqueue", "resize", ":=4", "--wait")
        command.wait_until(lambda: "running 4/4" in terminal.seen, "the progress is seen")
        command.go()
        assert terminal.wait() == 0
    assert terminal.seen.rstrip().splitlines()[-1].endswith("4")


def test_a_dumb_terminal_gets_lines(command: Command) -> None:
    command.environment["TERM"] = "dumb"
    enqueue(command, "fails")
    terminal = Terminal(command, "show", "1", "--watch")
    with command.working():
        assert terminal.wait() == 0
    assert "\x1b" not in terminal.seen
    assert terminal.seen.splitlines()[-1] == "1  failed  fails  1/2  ValueError: no"


# Logs


def test_show_log_has_all_of_it_with_control_characters_escaped(command: Command) -> None:
    command.go()
    enqueue(command, "resize", 2)
    worker = command.run("worker", "--burst")
    assert "resized" not in worker.stderr  # kept, but not printed without --verbose
    lines = command.run("show", "1", "--log").stdout.partition("  log\n")[2].splitlines()
    assert lines[0] == "  attempt 1"
    assert [line[28:] for line in lines[1:]] == [
        "info    resized 1",
        "info    resized 2",
        "warning done \\x1b[31m \\u202e",
    ]


def test_show_log_as_json_is_a_list(command: Command) -> None:
    command.go()
    enqueue(command, "resize", 1)
    command.run("worker", "--burst", "--quiet")
    log = json.loads(command.run("show", "1", "--log", "--json").stdout)["log"]
    assert [(line["attempt"], line["level"], line["message"]) for line in log] == [
        (1, "info", "resized 1"),
        (1, "warning", "done \x1b[31m \u202e"),
    ]


def test_a_job_without_a_log_says_so(command: Command) -> None:
    enqueue(command)
    assert command.run("show", "1", "--log").stdout.splitlines()[-1] == "  log: nothing was kept"


def test_verbose_prints_what_is_logged(command: Command) -> None:
    command.go()
    enqueue(command, "resize", 1)
    assert "resized 1" in command.run("worker", "--burst", "--verbose").stderr
