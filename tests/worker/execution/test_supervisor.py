"""`worker --processes N`: workers that are kept running, and ended cleanly."""

from __future__ import annotations

import os
import signal

import pytest

from ...conftest import RunPython
from ..harness import wait_until
from .conftest import PATIENCE, Site, is_alive


def workers(site: Site) -> set[int]:
    """The process ids of the registered workers."""
    return {row["pid"] for row in site.sql("SELECT pid FROM job_workers")}


def start(site: Site, count: int, *options: object) -> int:
    """Start a supervisor whose workers have all come up; return its process id."""
    supervisor = site.start("--processes", count, "--concurrency", 1, *options)
    wait_until(lambda: len(workers(site)) == count, f"{count} workers have come up", PATIENCE, every=0.02)
    return supervisor.pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "it is dead", PATIENCE)


def test_so_many_workers_run_jobs_and_end_together(site: Site) -> None:
    start(site, 3)
    gates = [site.enqueue("thread_gate", "gate") for _ in range(3)]
    for job_id in gates:
        site.wait_for_call(job_id)
    assert {call["pid"] for call in site.calls()} == workers(site)
    (supervisor,) = site.processes
    supervisor.terminate()
    site.wait_for_log("stopping: 1 running jobs", number=3)
    site.open_gate()
    assert supervisor.wait(PATIENCE) == 0
    assert site.statuses() == {"succeeded": 3}
    assert workers(site) == set()


def test_a_worker_that_falls_is_started_again(site: Site) -> None:
    start(site, 2)
    before = workers(site)
    kill(min(before))
    site.wait_for_log("has ended (exit code 137) and is started again in 0.5 s")
    wait_until(lambda: len(workers(site) - before) == 1, "a new one has come up", PATIENCE, every=0.02)
    (supervisor,) = site.processes
    supervisor.terminate()
    assert supervisor.wait(PATIENCE) == 0


def test_two_signals_give_the_running_jobs_back_and_the_worst_exit_code_counts(site: Site) -> None:
    start(site, 2)
    job_id = site.enqueue("thread_gate", "gate")
    site.wait_for_call(job_id)
    (supervisor,) = site.processes
    supervisor.send_signal(signal.SIGINT)
    site.wait_for_log("stopping: 1 running jobs")
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(PATIENCE) == 130
    assert site.statuses() == {"pending": 1}


def test_a_service_manager_that_signals_every_process_hurries_nobody(site: Site) -> None:
    start(site, 2)
    job_id = site.enqueue("thread_gate", "gate")
    site.wait_for_call(job_id)
    (supervisor,) = site.processes
    for pid in [*workers(site), supervisor.pid, *workers(site)]:
        os.kill(pid, signal.SIGTERM)
    site.wait_for_log("stopping: 1 running jobs")
    site.open_gate()
    assert supervisor.wait(PATIENCE) == 0
    assert site.statuses() == {"succeeded": 1}


def test_the_workers_of_a_supervisor_that_is_killed_finish_their_jobs_and_end(site: Site) -> None:
    supervisor = start(site, 2)
    job_id = site.enqueue("thread_gate", "gate")
    site.wait_for_call(job_id)
    pids = workers(site)
    kill(supervisor)
    site.wait_for_log("stopping: 1 running jobs")
    site.open_gate()
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "the workers have ended", PATIENCE)
    assert site.statuses() == {"succeeded": 1}
    assert workers(site) == set()


def test_handlers_that_cannot_be_imported_are_said_once(site: Site) -> None:
    with (site.directory / "handlers.py").open("a") as file:
        file.write("import nonsense\n")
    job_id = site.enqueue("thread_pid")
    assert site.start("--processes", 4, "--quiet").wait(PATIENCE) == 1
    assert len(site.log.splitlines()) == 1
    assert "ModuleNotFoundError: No module named 'nonsense'" in site.log
    assert site.job(job_id).attempt == 0


def test_a_burst_ends_when_all_workers_have_nothing_left(site: Site) -> None:
    site.jobs.enqueue_many("thread_pid", [()] * 100)
    assert site.start("--processes", 2, "--burst").wait(PATIENCE) == 0
    assert site.statuses() == {"succeeded": 100}


def test_a_worker_that_has_done_its_runs_is_replaced(site: Site) -> None:
    start(site, 2, "--max-jobs", 1, "--name", "w")
    names = {row["name"] for row in site.sql("SELECT name FROM job_workers")}
    assert names == {"w:1", "w:2"}
    ids = [site.enqueue("thread_pid") for _ in range(4)]
    site.wait_for("succeeded", *ids)
    assert len({site.job(job_id).result for job_id in ids}) == 4


@pytest.mark.parametrize("number", [0, -1, 1001])
def test_a_number_of_processes_out_of_bounds_is_refused(site: Site, number: int) -> None:
    assert site.start(f"--processes={number}").wait(PATIENCE) == 2
    assert site.log == f"durablejobs: processes: must be a whole number from 1 to 1000, not {number}\n"


def test_a_handlers_program_does_not_inherit_the_link_to_the_supervisor(site: Site) -> None:
    start(site, 2)
    for pid in workers(site):
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"


SUPERVISE = """
import logging, os, signal, sys
from durablejobs import supervisor

logging.basicConfig(format="%(message)s", stream=sys.stdout)
supervisor.FIRST_PAUSE = 0.01
PYTHON = [sys.executable, "-S", "-c"]
UNTIL_TOLD = [*PYTHON, "import os; os.write(0, b'+'); os.read(0, 1)"]
FALLS = [*PYTHON, "import os; os.write(0, b'+'); os._exit(3)"]
STOPS_ALL = [*PYTHON, "import os, signal; os.write(0, b'+'); os.kill(os.getppid(), signal.SIGTERM); os.read(0, 1)"]
CANNOT = ["/nonexistent/python"]
commands = [eval(name) for name in sys.argv[1:]]
files = len(os.listdir("/proc/self/fd"))
code = supervisor.Supervisor(lambda _number: commands.pop(0), 2).run()
print("code", code, "commands left", len(commands), "files left open", len(os.listdir("/proc/self/fd")) - files)
"""


def test_a_worker_that_cannot_be_started_is_tried_again_and_the_others_go_on(run_python: RunPython) -> None:
    ran = run_python(SUPERVISE, "UNTIL_TOLD", "FALLS", "CANNOT", "CANNOT", "STOPS_ALL")
    assert ran.stderr == ""
    *_, first, second, end = ran.stdout.splitlines()
    assert first == (
        "worker 2 could not be started ([Errno 2] No such file or directory: '/nonexistent/python') "
        "and is started again in 0.02 s"
    )
    assert second.endswith("and is started again in 0.04 s")
    assert end == "code 0 commands left 0 files left open 0"


def test_a_supervisor_whose_first_worker_cannot_be_started_says_so_and_ends(run_python: RunPython) -> None:
    ran = run_python(SUPERVISE, "CANNOT")
    assert ran.stderr == ""
    said, end = ran.stdout.splitlines()
    assert said.startswith("worker 1 could not be started: ")
    assert end == "code 1 commands left 0 files left open 0"
