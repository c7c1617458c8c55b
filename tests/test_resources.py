"""Resources: set up once for a worker, given to the handlers that want them, taken down at its end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Annotated, Any, NewType

import pytest

from durablejobs import INJECTED, ArgumentsError, DurableJobs, RegistrationError, ResourceError, event_loop

STEPS: list[str] = []


@pytest.fixture(autouse=True)
def _steps() -> None:
    STEPS.clear()


class Pool:
    """Something expensive."""

    def __init__(self, name: str = "pool") -> None:
        self.name = name


class Client:
    name = "client"


Other = NewType("Other", Pool)
Tagged = Annotated[Pool, "tagged"]


def pool() -> Iterator[Pool]:
    STEPS.append("pool up")
    yield Pool()
    STEPS.append("pool down")


async def client() -> AsyncIterator[Client]:
    await asyncio.sleep(0)
    STEPS.append("client up")
    yield Client()
    await asyncio.sleep(0)
    STEPS.append("client down")


def test_it_is_set_up_once_before_the_first_job_and_taken_down_after_the_last(jobs: DurableJobs) -> None:
    jobs.resource(pool)
    seen: set[int] = set()

    @jobs.handler
    def mail(to: str, pool: Pool) -> str:
        STEPS.append(to)
        seen.add(id(pool))
        return f"{to} by {pool.name}"

    job = jobs.enqueue("mail", "ann")
    jobs.enqueue("mail", "bob")
    assert jobs.work(burst=True, concurrency=1).succeeded == 2
    assert STEPS == ["pool up", "ann", "bob", "pool down"]
    assert len(seen) == 1
    assert job.wait() == "ann by pool"


def test_each_worker_sets_up_its_own(jobs: DurableJobs) -> None:
    jobs.resource(pool)

    @jobs.handler
    def mail(pool: Pool) -> None: ...

    jobs.work(burst=True, concurrency=1)
    jobs.work(burst=True, concurrency=1)
    assert STEPS == ["pool up", "pool down"] * 2


def shapes() -> dict[str, Callable[..., Any]]:
    def first(pool: Pool, to: str, subject: str = "-") -> list[str]:
        return [pool.name, to, subject]

    def middle(to: str, pool: Pool, subject: str = "-") -> list[str]:
        return [pool.name, to, subject]

    def last(to: str, subject: str = "-", pool: Pool = INJECTED) -> list[str]:
        return [pool.name, to, subject]

    def keyword(to: str, subject: str = "-", *, pool: Pool) -> list[str]:
        return [pool.name, to, subject]

    def positional(pool: Pool, to: str, subject: str = "-", /) -> list[str]:
        return [pool.name, to, subject]

    async def on_the_loop(to: str, subject: str = "-", *, pool: Pool) -> list[str]:
        return [pool.name, to, subject]

    return {f.__name__: f for f in (first, middle, last, keyword, positional, on_the_loop)}


@pytest.mark.parametrize("shape", shapes())
def test_the_parameter_may_stand_anywhere(jobs: DurableJobs, shape: str) -> None:
    jobs.resource(pool)
    handler = jobs.handler(shapes()[shape])
    calls: list[tuple[tuple[str, ...], dict[str, str]]] = [(("ann",), {}), (("ann", "hi"), {})]
    if shape != "positional":
        calls += [((), {"to": "ann"}), (("ann",), {"subject": "hi"}), ((), {"subject": "hi", "to": "ann"})]
    enqueued = [jobs.enqueue(handler.name, *args, **kwargs) for args, kwargs in calls]
    jobs.work(burst=True, concurrency=1)
    for job, (args, kwargs) in zip(enqueued, calls, strict=True):
        assert job.refresh().result == ["pool", "ann", "hi" if "hi" in (*args, *kwargs.values()) else "-"], job


def test_it_is_no_argument_of_the_job(jobs: DurableJobs) -> None:
    jobs.resource(pool)

    @jobs.handler
    def mail(to: str, pool: Pool) -> None: ...

    for args, kwargs in [(("ann", "pool"), {}), (("ann",), {"pool": "x"}), ((), {})]:
        with pytest.raises(ArgumentsError, match=r"handler 'mail' takes mail\(to: 'str'\)"):
            jobs.enqueue("mail", *args, **kwargs)


def test_it_may_be_registered_after_the_handler(jobs: DurableJobs) -> None:
    @jobs.handler
    def mail(to: str, pool: Pool) -> str:
        return pool.name

    jobs.resource(pool)
    job = jobs.enqueue("mail", "ann")
    jobs.work(burst=True, concurrency=1)
    assert job.wait() == "pool"


def test_a_plain_call_stays_a_plain_call(jobs: DurableJobs) -> None:
    jobs.resource(pool)

    @jobs.handler
    def mail(to: str, pool: Pool = INJECTED) -> str:
        return pool.name

    assert mail("ann", Pool("mine")) == "mine"


def test_one_that_nobody_uses_is_not_set_up(jobs: DurableJobs) -> None:
    jobs.resource(pool)
    jobs.handler("mail")(lambda to: to)
    jobs.work(burst=True, concurrency=1)
    assert STEPS == []


def test_an_async_one_lives_on_the_event_loop(jobs: DurableJobs) -> None:
    jobs.resource(pool)
    jobs.resource(client)

    @jobs.handler
    async def fetch(client: Client, pool: Pool) -> list[str]:
        STEPS.append("fetch")
        return [client.name, pool.name]

    job = jobs.enqueue("fetch")
    jobs.work(burst=True, concurrency=1)
    assert job.wait() == ["client", "pool"]
    assert STEPS == ["pool up", "client up", "fetch", "client down", "pool down"]


def test_a_type_of_its_own_tells_two_of_a_kind_apart(jobs: DurableJobs) -> None:
    @jobs.resource
    def one() -> Generator[Pool, None, None]:
        yield Pool("one")

    @jobs.resource
    def other() -> Iterator[Other]:
        yield Other(Pool("other"))

    @jobs.resource
    def tagged() -> Iterator[Tagged]:
        yield Pool("tagged")

    @jobs.handler
    def mail(a: Pool, b: Other, c: Tagged) -> list[str]:
        return [a.name, b.name, c.name]

    job = jobs.enqueue("mail")
    jobs.work(burst=True, concurrency=1)
    assert job.wait() == ["one", "other", "tagged"]


def test_two_that_yield_one_type_are_refused_naming_both_places(jobs: DurableJobs) -> None:
    jobs.resource(pool)
    with pytest.raises(RegistrationError, match=r"two resources yield Pool: .*test_resources\.py:\d+ and .*:\d+; give"):

        @jobs.resource
        def second() -> Iterator[Pool]:
            yield Pool()


def no_annotation():  # type: ignore[no-untyped-def]
    yield Pool()


def wrong_annotation() -> Pool:  # type: ignore[misc]
    yield Pool()


def no_generator() -> Pool:
    return Pool()


def with_parameters(settings: str) -> Iterator[Pool]:
    yield Pool()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_annotation, r"must say what it yields: `def no_annotation\(\) -> Iterator\[Pool\]:`"),
        (wrong_annotation, "must say what it yields"),
        (no_generator, "a resource is a generator function"),
        (7, "a resource is a generator function"),
        (with_parameters, "cannot take parameters"),
    ],
)
def test_what_is_no_resource_is_refused(jobs: DurableJobs, function: Any, message: str) -> None:
    with pytest.raises(RegistrationError, match=message):
        jobs.resource(function)


# Failures


@pytest.fixture
def broken(jobs: DurableJobs) -> None:
    """Two resources, the second of which cannot be set up, and a handler that wants both."""
    jobs.resource(pool)

    @jobs.resource
    def broken() -> Iterator[Client]:
        raise OSError("no route to host")
        yield Client()

    @jobs.handler
    def mail(pool: Pool, client: Client) -> None: ...


def test_a_failure_at_the_start_ends_the_worker_before_any_attempt(jobs: DurableJobs, broken: None) -> None:
    job = jobs.enqueue("mail")
    with pytest.raises(
        ResourceError, match=r"the resource Client \(.*test_resources\.py:\d+\) cannot be set up: OSError: no route"
    ):
        jobs.work(burst=True, concurrency=1)
    assert STEPS == ["pool up", "pool down"]
    assert (job.refresh().status, job.refresh().attempt) == ("pending", 0)


def test_a_worker_that_could_not_start_leaves_nothing_behind(jobs: DurableJobs, broken: None, sql: Any) -> None:
    jobs.enqueue("mail")
    with pytest.raises(ResourceError):
        jobs.work(burst=True, concurrency=1)
    assert sql("SELECT * FROM job_workers") == []


def test_an_async_one_that_fails_at_the_start_does_the_same(jobs: DurableJobs) -> None:
    @jobs.resource
    async def broken() -> AsyncIterator[Client]:
        raise OSError("no route to host")
        yield Client()

    @jobs.handler
    async def mail(client: Client) -> None: ...

    job = jobs.enqueue("mail")
    with pytest.raises(ResourceError, match="cannot be set up: OSError: no route to host"):
        jobs.work(burst=True, concurrency=1)
    assert job.refresh().attempt == 0


def test_one_that_ends_without_a_yield_is_named(jobs: DurableJobs) -> None:
    @jobs.resource
    def nothing() -> Iterator[Pool]:
        if not STEPS:
            return
        yield Pool()

    @jobs.handler
    def mail(pool: Pool) -> None: ...

    with pytest.raises(ResourceError, match="has ended without a yield"):
        jobs.work(burst=True, concurrency=1)


def test_a_failure_at_the_end_is_logged_and_the_others_are_taken_down(
    jobs: DurableJobs, caplog: pytest.LogCaptureFixture
) -> None:
    jobs.resource(pool)

    @jobs.resource
    def fails_late() -> Iterator[Client]:
        yield Client()
        raise OSError("cannot close")

    @jobs.resource
    def twice() -> Iterator[int]:
        yield 1
        yield 2

    @jobs.handler
    def mail(pool: Pool, client: Client, number: int) -> int:
        return number

    job = jobs.enqueue("mail")
    assert jobs.work(burst=True, concurrency=1).succeeded == 1
    assert job.wait() == 1
    assert STEPS == ["pool up", "pool down"]
    assert "was not taken down cleanly: OSError: cannot close" in caplog.text
    assert "yields more than once" in caplog.text


def test_a_handler_that_wants_what_nobody_yields_ends_the_worker(jobs: DurableJobs) -> None:
    @jobs.handler
    def mail(to: str, pool: Pool = INJECTED) -> None: ...

    job = jobs.enqueue("mail", "ann")
    with pytest.raises(ResourceError, match="handler 'mail' wants Pool for 'pool': no resource yields it"):
        jobs.work(burst=True, concurrency=1)
    assert job.refresh().attempt == 0


def test_a_plain_handler_cannot_have_what_lives_on_the_event_loop(jobs: DurableJobs) -> None:
    jobs.resource(client)

    @jobs.handler
    def mail(client: Client) -> None: ...

    with pytest.raises(ResourceError, match="handler 'mail' is not async, and Client for 'client' lives on the event"):
        jobs.work(burst=True, concurrency=1)


def test_an_annotation_that_cannot_be_resolved_is_no_resource(jobs: DurableJobs) -> None:
    jobs.resource(pool)

    def mail(to: Unknown) -> str:  # type: ignore[name-defined]  # noqa: F821
        return to

    job = jobs.handler(mail).enqueue("ann")
    jobs.work(burst=True, concurrency=1)
    assert job.wait() == "ann"


def test_an_annotation_for_type_checkers_only_keeps_no_resource_from_the_other_parameters(jobs: DurableJobs) -> None:
    jobs.resource(pool)

    @jobs.handler
    def label(text: str, price: Decimal | None = None, pool: Pool = INJECTED) -> str:  # type: ignore[name-defined]  # noqa: F821
        return f"{text} by {pool.name}"

    job = label.enqueue("a")
    jobs.work(burst=True, concurrency=1)
    assert job.wait() == "a by pool"


def test_a_wanted_resource_whose_annotation_cannot_be_resolved_is_named_with_the_reason(jobs: DurableJobs) -> None:
    jobs.resource(pool)

    @jobs.handler
    def label(text: str, printer: Printer = INJECTED) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    job = label.enqueue("a")
    with pytest.raises(
        ResourceError, match=r"'label' wants 'Printer' for 'printer', which cannot be resolved here \(NameError: name"
    ):
        jobs.work(burst=True, concurrency=1)
    assert job.refresh().attempt == 0


def test_a_resource_whose_own_annotation_cannot_be_resolved_is_refused_with_the_reason(jobs: DurableJobs) -> None:
    def printer() -> Iterator[Printer]:  # type: ignore[name-defined]  # noqa: F821
        yield None

    with pytest.raises(RegistrationError, match=r"yields 'Iterator\[Printer\]', which cannot be resolved .*Printer"):
        jobs.resource(printer)


# Child processes

CHILD_PROGRAM = """
import os
from collections.abc import Iterator
from durablejobs import INJECTED, DurableJobs, ResourceError, current_job
import sys

jobs = DurableJobs("jobs.db")

def say(*words) -> None:
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # a line in one piece, whoever else writes


jobs.on("started", lambda event: say("started", event.job_id, os.getpid() == int(os.environ["WORKER"])))


class Pool:
    pid = 0


@jobs.resource
def pool() -> Iterator[Pool]:
    if "broken" in os.environ:
        raise OSError("no route to host")
    say("up")
    made = Pool()
    made.pid = os.getpid()
    yield made
    say("down")


@jobs.middleware
def around(job):
    say("before", job.id)
    result = yield
    say("after", result == os.getpid())


@jobs.handler(mode="process")
def fetch(url: str, pool: Pool = INJECTED) -> int:
    return pool.pid


if __name__ == "__main__":
    os.environ["WORKER"] = str(os.getpid())
    fetch.enqueue("a")
    fetch.enqueue("b")
    try:
        jobs.work(burst=True, process_concurrency=1)
    except Exception as error:
        say(type(error).__name__, error)
    say({job.status.value: job.attempt for job in jobs.list_jobs()})
"""


def run_children(directory: Path, **variables: str) -> list[str]:
    (directory / "program.py").write_text(CHILD_PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=directory,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def test_a_child_process_sets_up_its_own_once_and_middleware_is_there_too(tmp_path: Path) -> None:
    lines = run_children(tmp_path)
    child = [line for line in lines if not line.startswith("started")]
    assert child == ["up", "before 1", "after True", "before 2", "after True", "down", "{'succeeded': 1}"]
    assert [line for line in lines if line.startswith("started")] == ["started 1 True", "started 2 True"]


def test_what_a_child_cannot_set_up_ends_the_worker_before_any_attempt(tmp_path: Path) -> None:
    *_, error, jobs = run_children(tmp_path, broken="yes")
    assert "the resource Pool (" in error
    assert "cannot be set up: OSError: no route to host" in error
    assert jobs == "{'pending': 0}"


def test_an_async_one_that_takes_too_long_is_named(jobs: DurableJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_loop, "_RESOURCE_PATIENCE", 0.05)

    @jobs.resource
    async def slow_client() -> AsyncIterator[Client]:
        await asyncio.sleep(3600)
        yield Client()

    @jobs.handler
    async def mail(client: Client) -> None: ...

    jobs.enqueue("mail")
    with pytest.raises(ResourceError, match=r"the resource Client .*: it was not done after 0\.05 s"):
        jobs.work(burst=True)
