"""The testing kit for applications: what it finds, runs and kills, and what it prints when a test fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path
from unittest.mock import ANY

import pytest

from durablejobs import ConfigurationError, DurableJobs, Fail, Retry, Snooze, Status, current_job
from durablejobs.testing import JobsKit

from .conftest import RunPython

pytest_plugins = ["pytester"]

needs_plugin = pytest.mark.skipif(
    not entry_points(group="pytest11", name="durablejobs"),
    reason="this environment was installed before the plugin was there: pip install -e . again",
)

# At the top level, because another process has to find them: `crash_worker`.
app = DurableJobs("nowhere.db", create=False)
STORY = "DURABLEJOBS_TEST_STORY"


@app.handler("mail", queue="letters")
def mail(to: str, subject: str = "none", *tags: str, **headers: str) -> str:
    return f"sent to {to}"


@app.handler
def tell(what: str, mode: str = "") -> None:
    with open(os.environ[STORY], "a", encoding="utf-8") as story:
        story.write(f"{what} {current_job().attempt} {current_job().crashes}\n")
    if mode == "wait" and current_job().attempt == 1:
        while True:  # until it is killed
            pass


@app.handler
def follow(number: int) -> None:
    if number:
        follow.enqueue(number - 1)


@app.handler(max_attempts=2)
def stumble(how: str) -> None:
    if how == "snooze" and current_job().meta.get("slept") is None:
        raise Snooze(60)
    if how == "retry" and current_job().attempt == 1:
        raise Retry(delay=3600)
    if how == "fail":
        raise Fail("no use")
    if how == "raise":
        raise RuntimeError("the printer is on fire")


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[JobsKit]:
    with JobsKit(app, tmp_path) as opened:
        yield opened


# What was enqueued


def test_a_job_is_found_by_the_arguments_that_are_named(kit: JobsKit) -> None:
    job = mail.enqueue("a@b.c", subject="hi")
    assert kit.assert_enqueued(mail) == job
    assert kit.assert_enqueued(mail, "a@b.c") == job
    assert kit.assert_enqueued(mail, to="a@b.c", subject="hi") == job
    assert kit.assert_enqueued("mail", ANY, "hi") == job
    kit.refute_enqueued(mail, "x@y.z")
    kit.refute_enqueued(mail, subject="none")
    kit.refute_enqueued(tell)


def test_a_default_of_the_handler_counts_as_given(kit: JobsKit) -> None:
    mail.enqueue("a@b.c")
    kit.assert_enqueued(mail, subject="none")


def test_variable_arguments_are_compared_too(kit: JobsKit) -> None:
    mail.enqueue("a@b.c", "hi", "red", "blue", reply_to="x", sender="y")
    kit.assert_enqueued(mail, "a@b.c", "hi", "red", "blue")
    kit.assert_enqueued(mail, sender="y")
    kit.refute_enqueued(mail, "a@b.c", "hi", "red")
    kit.refute_enqueued(mail, sender="x")


def test_a_tuple_is_found_as_the_list_that_was_stored(kit: JobsKit) -> None:
    app.using(check=False).enqueue("unknown", (1, (2, 3)), point=(4, 5))
    kit.assert_enqueued("unknown", (1, (2, 3)), point=(4, 5))
    kit.refute_enqueued("unknown", (1, 2))
    kit.refute_enqueued("unknown", 1, 2)


def test_arguments_that_do_not_fit_the_handler_are_the_tests_mistake(kit: JobsKit) -> None:
    with pytest.raises(TypeError, match="what_else"):
        kit.refute_enqueued(tell, what_else=1)


def test_conditions_are_named_before_the_call(kit: JobsKit) -> None:
    job = mail.using(delay=60, priority=3, unique_key="k", meta={"trace": "x", "n": 1}).enqueue("a@b.c")
    assert kit.where(within=60).assert_enqueued(mail) == job
    assert kit.where(within=timedelta(minutes=1), after=59).assert_enqueued(mail) == job
    assert kit.where(queue="letters", priority=3, unique_key="k", status="scheduled").assert_enqueued(mail) == job
    assert kit.where(meta={"trace": "x"}, count=1).where(queue="letters").assert_enqueued(mail) == job
    for wrong in (
        {"within": 59},
        {"after": 61},
        {"queue": "default"},
        {"priority": 0},
        {"unique_key": "l"},
        {"status": Status.PENDING},
        {"meta": {"trace": "y"}},
        {"meta": {"other": 1}},
    ):
        kit.where(**wrong).refute_enqueued(mail)


def test_a_condition_that_nobody_knows_is_refused(kit: JobsKit) -> None:
    with pytest.raises(ValueError, match="did you mean within"):
        kit.where(withn=3)


def test_the_number_of_jobs_can_be_asked_for(kit: JobsKit) -> None:
    mail.enqueue_many([("a@b.c",), ("x@y.z",)])
    kit.where(count=2).assert_enqueued(mail)
    assert [job.args for job in kit.enqueued()] == [["a@b.c"], ["x@y.z"]]
    with pytest.raises(AssertionError, match=r"^1 jobs, not 2, mail\(.x@y.z.\) were enqueued; there are:"):
        kit.where(count=2).assert_enqueued(mail, "x@y.z")


def test_a_failure_shows_a_table_of_what_was_enqueued(kit: JobsKit) -> None:
    mail.using(delay=60).enqueue("a@b.c", subject="hi")
    app.using(queue="bulk", check=False).enqueue("import", {"rows": [1, None]})
    with pytest.raises(AssertionError) as raised:
        kit.where(within=5).assert_enqueued(mail, "a@b.c", subject=ANY)
    assert str(raised.value) == (
        'no job mail("a@b.c", subject=<ANY>) where within=5 was enqueued; there are:\n'
        "  id  status     queue    runs     call\n"
        '  1   scheduled  letters  in 60 s  mail("a@b.c", subject="hi")\n'
        '  2   pending    bulk     now      import({"rows": [1, null]})'
    )
    with pytest.raises(AssertionError, match=r"^job 1 mail\(\) was enqueued"):
        kit.refute_enqueued(mail)
    with pytest.raises(AssertionError, match=r"^job 1, 2 was enqueued"):
        kit.refute_enqueued()


def test_a_failure_on_an_empty_queue_says_so(kit: JobsKit) -> None:
    kit.refute_enqueued()
    with pytest.raises(AssertionError, match=r"no job mail\(\) was enqueued; there are:\n  \(no jobs\)"):
        kit.assert_enqueued(mail)


def test_the_table_is_cut_and_says_so(kit: JobsKit) -> None:
    mail.enqueue_many([("x" * 200,)] * 60)
    with pytest.raises(AssertionError, match=r"… and 10 more$") as raised:
        kit.refute_enqueued()
    assert max(map(len, str(raised.value).splitlines())) < 150


# The database and the clock


def test_each_kit_starts_with_an_empty_database_and_the_application_gets_its_own_back(tmp_path: Path) -> None:
    home = app.location
    for number in range(2):
        directory = tmp_path / str(number)
        directory.mkdir()
        with JobsKit(app, directory) as kit:
            assert app.location == str(kit.path)
            kit.refute_enqueued()
            mail.enqueue("a@b.c")
    assert app.location == home


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_a_kit_leaves_no_file_open(tmp_path: Path) -> None:
    def of_the_kit() -> list[str]:
        links = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _exists(name)]
        return [link for link in links if str(tmp_path) in link]

    def _exists(name: str) -> bool:
        return os.path.lexists(f"/proc/self/fd/{name}")

    with JobsKit(app, tmp_path) as kit:
        mail.enqueue("a@b.c")
        kit.drain()
        assert of_the_kit()
    assert of_the_kit() == []


def test_the_clock_stands_until_it_is_advanced(kit: JobsKit) -> None:
    job = mail.using(delay=60).enqueue("a@b.c")
    assert kit.drain() == []
    kit.clock.advance(59)
    assert kit.drain() == []
    kit.clock.advance(timedelta(seconds=1))
    assert [(ran.id, ran.status) for ran in kit.drain()] == [(job.id, Status.SUCCEEDED)]


# Running


def test_draining_runs_what_is_due_and_what_that_enqueues(kit: JobsKit) -> None:
    follow.enqueue(2)
    assert [(job.args, job.status) for job in kit.drain()] == [([number], Status.SUCCEEDED) for number in (2, 1, 0)]
    assert kit.drain() == []


def test_draining_goes_through_json(kit: JobsKit) -> None:
    @app.handler("kit-json")
    def keeps(value: object) -> str:
        return type(value).__name__

    keeps.enqueue((1, 2))
    assert kit.drain()[0].result == "list"


def test_draining_fails_the_test_when_a_job_fails(kit: JobsKit) -> None:
    mail.enqueue("a@b.c")
    stumble.enqueue("raise")
    with pytest.raises(AssertionError) as raised:
        kit.drain()
    message = str(raised.value)
    assert message.startswith("1 of 2 runs failed; pass check=False where that is meant:\n  id  status")
    assert 'stumble("raise")' in message
    assert "RuntimeError: the printer is on fire" in message
    assert "test_testing_kit.py" in message


def test_failures_that_are_meant_are_returned(kit: JobsKit) -> None:
    for how in ("raise", "fail", "snooze"):
        stumble.enqueue(how)
    assert [job.status for job in kit.drain(check=False)] == [Status.SCHEDULED, Status.FAILED, Status.SCHEDULED]


def test_draining_the_future_advances_the_clock_to_each_job(kit: JobsKit) -> None:
    begin = kit.clock.now()
    late = mail.using(delay=3600).enqueue("a@b.c")
    retried = stumble.enqueue("retry")
    kit.drain(future=True, check=False)
    assert [late.refresh().status, retried.refresh().status] == [Status.SUCCEEDED, Status.SUCCEEDED]
    assert kit.clock.now() - begin >= timedelta(seconds=3600)


def test_draining_keeps_what_has_ended_however_late_it_is(kit: JobsKit) -> None:
    mail.enqueue("a@b.c")
    kit.drain()
    kit.clock.advance(timedelta(days=1000))
    kit.drain()
    kit.assert_enqueued(mail)


def test_inline_runs_each_job_before_enqueue_returns(kit: JobsKit) -> None:
    with kit.inline():
        job = mail.enqueue("a@b.c")
        assert (job.status, job.result) == (Status.SUCCEEDED, "sent to a@b.c")
        assert app.using(delay=60).enqueue("mail", "a@b.c").status is Status.SCHEDULED
        mail.enqueue_many([("x@y.z",)])
        assert kit.where(status="succeeded", count=1).assert_enqueued(mail, "x@y.z")
    assert mail.enqueue("a@b.c").status is Status.PENDING


def test_inline_runs_what_a_job_enqueues_too(kit: JobsKit) -> None:
    with kit.inline():
        follow.enqueue(2)
    kit.where(status="succeeded", count=3).assert_enqueued(follow)


def test_inline_fails_the_test_when_a_job_fails(kit: JobsKit) -> None:
    with kit.inline(), pytest.raises(AssertionError, match="the printer is on fire"):
        stumble.enqueue("raise")


# Killing


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "story"
    path.touch()
    monkeypatch.setenv(STORY, str(path))
    return path


def test_a_worker_killed_at_the_end_has_run_the_handler_and_stored_nothing(kit: JobsKit, story: Path) -> None:
    job = tell.enqueue("once")
    in_hand = kit.crash_worker("end")
    assert (in_hand.id, in_hand.status) == (job.id, Status.RUNNING)
    assert len(story.read_text().splitlines()) == 1
    kit.drain()
    assert len(story.read_text().splitlines()) == 2
    assert job.refresh().status is Status.SUCCEEDED


def test_a_worker_killed_at_the_start_has_not_called_the_handler(kit: JobsKit, story: Path) -> None:
    tell.enqueue("once")
    kit.crash_worker("start")
    assert story.read_text() == ""
    kit.drain()
    assert story.read_text() == "once 1 0\n"


def test_a_worker_is_killed_when_the_test_says_so(kit: JobsKit, story: Path) -> None:
    tell.enqueue("slow", mode="wait")
    kit.crash_worker(when=lambda: story.read_text() != "")
    kit.drain()
    assert story.read_text() == "slow 1 0\nslow 2 1\n"


def test_the_handler_at_which_a_worker_is_killed_can_be_chosen(kit: JobsKit, story: Path) -> None:
    first, second = mail.enqueue("a@b.c"), tell.enqueue("x")
    assert kit.crash_worker(handler=tell).id == second.id
    assert first.refresh().status is Status.SUCCEEDED


def test_the_killed_worker_goes_by_the_clock_of_the_test(kit: JobsKit, story: Path) -> None:
    tell.using(delay=3600).enqueue("later")
    kit.clock.advance(3600)
    kit.crash_worker()
    assert story.read_text() == "later 1 0\n"


def test_a_worker_that_finds_nothing_to_die_of_is_a_failure(kit: JobsKit) -> None:
    with pytest.raises(AssertionError, match="was to be killed, but it ended with 0"):
        kit.crash_worker()


def test_an_application_that_no_process_can_import_is_a_clear_failure(tmp_path: Path) -> None:
    hidden = DurableJobs("nowhere.db")
    hidden.handler("mail")(lambda to: None)
    with JobsKit(hidden, tmp_path) as kit, pytest.raises(AssertionError, match="at the top level of a module"):
        kit.crash_worker()


# The plugin

TEST_FILE = """
from durablejobs import DurableJobs

jobs = DurableJobs("production.db", create=False)


@jobs.handler
def mail(to, subject=""):
    return to


def test_found(durablejobs_kit):
    mail.enqueue("a@b.c", subject="hi")
    durablejobs_kit.assert_enqueued(mail, "a@b.c")
    durablejobs_kit.drain()


def test_fresh(durablejobs_kit):
    durablejobs_kit.refute_enqueued()


def test_missing(durablejobs_kit):
    mail.enqueue("a@b.c", subject="hi")
    durablejobs_kit.assert_enqueued(mail, "x@y.z")
"""
PLAIN = ("-p", "no:randomly", "-p", "no:cacheprovider")


@needs_plugin
def test_the_fixture_gives_each_test_a_fresh_database_and_prints_the_table(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_shop=TEST_FILE)
    pytester.makeini("[pytest]\ndurablejobs_app = test_shop:jobs")
    result = pytester.runpytest_subprocess(*PLAIN)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            'E * AssertionError: no job mail("x@y.z") was enqueued; there are:',
            "E * id  status   queue    runs  call",
            'E * 1   pending  default  now   mail("a@b.c", subject="hi")',
        ]
    )
    assert "kit.py" not in result.stdout.str()  # the test's own line is where the trouble is
    assert not (pytester.path / "production.db").exists()


@needs_plugin
def test_the_application_comes_from_a_fixture_of_this_name(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_shop=TEST_FILE)
    pytester.makeconftest(
        "import pytest\n@pytest.fixture\ndef durablejobs_app():\n    import test_shop\n    return test_shop.jobs\n"
    )
    pytester.runpytest_subprocess(*PLAIN).assert_outcomes(passed=2, failed=1)


@needs_plugin
def test_without_an_application_there_is_a_new_one(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "def test_it(durablejobs_kit):\n"
        "    durablejobs_kit.jobs.enqueue('mail', 1)\n"
        "    durablejobs_kit.assert_enqueued('mail', 1)\n"
    )
    pytester.runpytest_subprocess(*PLAIN).assert_outcomes(passed=1)
    assert not list(pytester.path.glob("*.db"))


@needs_plugin
@pytest.mark.parametrize(
    ("named", "answer"),
    [
        ("nowhere:jobs", "*durablejobs_app: nowhere:jobs cannot be imported: No module named 'nowhere'*"),
        ("os:path", "*durablejobs_app: os:path is a module, not a DurableJobs*"),
    ],
)
def test_a_setting_that_leads_nowhere_is_a_clear_error(pytester: pytest.Pytester, named: str, answer: str) -> None:
    pytester.makepyfile("def test_it(durablejobs_kit): pass")
    pytester.makeini(f"[pytest]\ndurablejobs_app = {named}")
    pytester.runpytest_subprocess(*PLAIN).stdout.fnmatch_lines([answer])


def test_loading_the_plugin_imports_nothing_but_pytest(run_python: RunPython) -> None:
    ended = run_python(
        "import sys, pytest; before = set(sys.modules)\n"
        "import durablejobs.pytest_plugin\n"
        "print(sorted(set(sys.modules) - before))"
    )
    assert ended.stdout == "['durablejobs', 'durablejobs.pytest_plugin', 'durablejobs.version']\n", ended.stderr


@needs_plugin
def test_a_killed_worker_finds_the_handlers_of_a_test_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_shop="""
        from pathlib import Path

        from durablejobs import DurableJobs

        jobs = DurableJobs("production.db")


        @jobs.handler
        def append(path):
            with open(path, "a") as file:
                file.write("once\\n")


        def test_runs_twice(durablejobs_kit, tmp_path):
            append.enqueue(str(tmp_path / "story"))
            durablejobs_kit.crash_worker()
            durablejobs_kit.drain()
            assert (tmp_path / "story").read_text() == "once\\nonce\\n"
        """
    )
    pytester.makeini("[pytest]\ndurablejobs_app = test_shop:jobs")
    pytester.runpytest_subprocess(*PLAIN).assert_outcomes(passed=1)


def test_a_status_that_there_is_not_is_refused_with_those_that_there_are(kit: JobsKit) -> None:
    with pytest.raises(ConfigurationError, match=r"^status: must be one of scheduled, pending, .*, not 'nope'$"):
        kit.where(status="nope")
