"""Handlers in child processes: what kills a child costs its own job a run, and nothing else anything."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ..harness import wait_until
from .conftest import PATIENCE, Site, is_alive


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("exit", "exit code 7"),
        ("segfault", "SIGSEGV"),
        ("kill", "SIGKILL, out of memory?"),
        ("overflow", "SIGSEGV"),
    ],
)
def test_a_job_that_kills_its_child_is_stopped_after_some_crashes(site: Site, how: str, cause: str) -> None:
    poison = site.enqueue("die", how)
    innocent = [site.enqueue("process_pid") for _ in range(20)] + [site.enqueue("thread_pid") for _ in range(20)]
    site.run("--process-concurrency", 2, "--max-crashes", 3)
    job, errors = site.job(poison), site.errors(poison)
    assert (job.status, job.crashes) == ("failed", 3)
    assert job.error == f"its child process died ({cause}) while it ran this job; stopped after 3 crashes"
    assert [error["kind"] for error in errors] == ["crash"] * 3
    assert [site.job(job_id).status for job_id in innocent] == ["succeeded"] * 40
    assert [site.job(job_id).crashes for job_id in innocent] == [0] * 40


def test_the_traceback_of_a_crashed_interpreter_is_kept(site: Site) -> None:
    job_id = site.enqueue("die", "segfault")
    site.run("--max-crashes", 1)
    traceback = site.errors(job_id)[0]["traceback"]
    assert "Segmentation fault" in traceback
    assert "in die" in traceback


def test_a_child_that_somebody_kills_as_the_kernel_does_without_memory_costs_a_crash_and_no_attempt(site: Site) -> None:
    job_id = site.enqueue("process_gate", "gate")
    worker = site.start("--process-concurrency", 1)
    os.kill(site.wait_for_call(job_id)["pid"], signal.SIGKILL)
    second = site.wait_for_call(job_id, number=2)
    assert second["pid"] != worker.pid
    site.open_gate()
    site.wait_for("succeeded", job_id)
    job = site.job(job_id)
    assert (job.attempt, job.crashes, job.spent_attempts) == (2, 1, 1)
    assert worker.poll() is None


@pytest.mark.parametrize("lane", ["thread", "process"])
def test_what_a_handler_forks_and_forgets_to_end_runs_no_jobs_and_ends_none(site: Site, lane: str) -> None:
    ids = [site.enqueue(f"{lane}_fork", n) for n in range(1, 20)]
    site.run("--concurrency", 1, "--process-concurrency", 1)
    assert [site.job(job_id).result for job_id in ids] == list(range(1, 20))
    assert sorted(call["job"] for call in site.calls()) == ids
    assert "came back from the handler, and is ended" in site.log


def test_a_handler_that_runs_out_of_memory_fails_its_attempt(site: Site) -> None:
    job_id = site.enqueue("eat_memory")
    site.run()
    assert site.job(job_id).error == "MemoryError"


@pytest.mark.parametrize("handler", ["process_endless", "hold_the_interpreter"])
def test_a_child_ends_with_its_worker_whatever_it_runs(site: Site, handler: str) -> None:
    job_id = site.enqueue(handler)
    worker = site.start()
    child = site.wait_for_call(job_id)["pid"]
    worker.kill()
    worker.wait(PATIENCE)
    wait_until(lambda: not is_alive(child), "the child has ended", PATIENCE)


def test_a_child_that_was_killed_between_two_jobs_is_nobodys_crash(site: Site) -> None:
    first = site.enqueue("process_pid")
    site.start("--process-concurrency", 1)
    site.wait_for("succeeded", first)
    child = site.job(first).result
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not is_alive(child), "the child is dead", PATIENCE)
    second = site.enqueue("process_pid")
    site.wait_for("succeeded", second)
    assert site.job(second).result != child
    assert (site.job(second).attempt, site.job(second).crashes) == (1, 0)


def test_nothing_is_left_behind_by_a_worker_that_ends(site: Site) -> None:
    for _ in range(4):
        site.enqueue("process_pid")
    worker = site.start("--burst", "--process-concurrency", 2)
    assert worker.wait(PATIENCE) == 0

    def left() -> list[str]:
        return [
            entry.name
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _directory_of(entry) == str(site.directory)
        ]

    wait_until(lambda: not left(), "no process works in the directory any more", PATIENCE)


def _directory_of(process: Path) -> str:
    try:
        return os.readlink(process / "cwd")
    except OSError:
        return ""


# Mistakes


def test_modules_that_children_cannot_import_end_the_worker_and_burn_no_attempt(site: Site) -> None:
    handlers = site.directory / "handlers.py"
    with handlers.open("a") as file:
        file.write("import multiprocessing\nassert multiprocessing.parent_process() is None, 'not in a child'\n")
    job_id = site.enqueue("process_pid")
    thread = site.enqueue("thread_gate", "gate")
    site.open_gate()
    assert site.start().wait(PATIENCE) == 1
    assert "child processes cannot start: AssertionError: not in a child" in site.log
    assert (site.job(job_id).status, site.job(job_id).attempt) == ("pending", 0)
    assert site.job(thread).status in ("pending", "succeeded")
    assert site.sql("SELECT * FROM job_workers") == []


def test_a_script_without_a_guard_is_told_what_is_wrong(site: Site) -> None:
    handlers = site.directory / "handlers.py"
    handlers.write_text(handlers.read_text().replace('if __name__ == "__main__":', "if True:"))
    job_id = site.enqueue("process_pid")
    assert site.start_python("handlers.py").wait(PATIENCE) == 1
    assert "the script calls work() on import; put that under if __name__ == '__main__':" in site.log
    assert site.job(job_id).status == "pending"


def test_a_handler_that_is_registered_only_in_the_worker_is_named(site: Site) -> None:
    script = site.directory / "script.py"
    script.write_text(
        "from handlers import jobs\n"
        "def extra(): pass\n"
        "if __name__ == '__main__':\n"
        "    jobs.handler('extra', mode='process')(extra)\n"
        "    jobs.work(burst=True)\n"
    )
    job_id = site.enqueue("process_pid")
    assert site.start_python("script.py").wait(PATIENCE) == 1
    assert "importing handlers and __main__ in a child process does not register extra; do that at" in site.log
    assert site.job(job_id).status == "pending"
