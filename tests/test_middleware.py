"""Middleware: what is around every run, and what it may do to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from durablejobs import Cancel, DurableJobs, Fail, Job, RegistrationError, Retry, Snooze, current_job

Run = Callable[..., Job]
STEPS: list[Any] = []


@pytest.fixture(autouse=True)
def _steps() -> None:
    STEPS.clear()


def plain() -> str:
    STEPS.append("handler")
    return "done"


async def asynchronous() -> str:
    await asyncio.sleep(0)
    STEPS.append("handler")
    return "done"


def failing() -> None:
    STEPS.append("handler")
    raise ValueError("no")


async def failing_async() -> None:
    STEPS.append("handler")
    raise ValueError("no")


@pytest.fixture
def run(jobs: DurableJobs) -> Run:
    """Run a function as a job with one attempt; return the job as it has become."""

    def run_job(handler: Callable[..., Any]) -> Job:
        job = jobs.handler("handler", max_attempts=1)(handler).enqueue()
        jobs.work(burst=True, concurrency=1)
        return job.refresh()

    return run_job


def noting(name: str) -> Callable[..., Iterator[None]]:
    def middleware(job: Any) -> Iterator[None]:
        STEPS.append(f"{name} before")
        try:
            STEPS.append(f"{name} got {(yield)}")
        except ValueError as error:
            STEPS.append(f"{name} got {error!r}")
            raise

    return middleware


both = pytest.mark.parametrize("handler", [plain, asynchronous])
both_failing = pytest.mark.parametrize("handler", [failing, failing_async])


@both
def test_the_first_registered_is_the_outermost_and_sees_the_result(
    jobs: DurableJobs, run: Run, handler: Callable[..., Any]
) -> None:
    jobs.middleware(noting("outer"))
    jobs.middleware(noting("inner"))
    assert run(handler).result == "done"
    assert STEPS == ["outer before", "inner before", "handler", "inner got done", "outer got done"]


@both_failing
def test_what_the_handler_raises_is_raised_at_the_yield(
    jobs: DurableJobs, run: Run, handler: Callable[..., Any]
) -> None:
    jobs.middleware(noting("outer"))
    jobs.middleware(noting("inner"))
    assert run(handler).error == "ValueError: no"
    error = "ValueError('no')"
    assert ["outer before", "inner before", "handler", f"inner got {error}", f"outer got {error}"] == STEPS


@both_failing
def test_an_error_that_a_middleware_swallows_is_the_runs_all_the_same(
    jobs: DurableJobs, run: Run, handler: Callable[..., Any]
) -> None:
    @jobs.middleware
    def swallow(job: Any) -> Iterator[None]:
        try:
            yield
        except ValueError:
            STEPS.append("swallowed")

    job = run(handler)
    assert (job.status, job.error) == ("failed", "ValueError: no")
    assert STEPS == ["handler", "swallowed"]


def test_it_is_given_the_current_job(jobs: DurableJobs, run: Run) -> None:
    @jobs.middleware
    def look(job: Any) -> Iterator[None]:
        STEPS.append((job is current_job(), job.id, job.handler))
        yield
        STEPS.append(current_job().id)

    run(plain)
    assert STEPS == [(True, 1, "handler"), "handler", 1]


@pytest.mark.parametrize("when", ["before", "after", "instead"])
@pytest.mark.parametrize("error", [RuntimeError("mine"), SystemExit(3), KeyboardInterrupt()])
@both
def test_an_error_of_its_own_is_logged_and_never_harms_the_job(
    jobs: DurableJobs,
    run: Run,
    handler: Callable[..., Any],
    when: str,
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(job: Any) -> Iterator[None]:
        if when == "before":
            raise error
        yield
        raise error

    jobs.middleware(noting("outer"))
    jobs.middleware(broken)
    assert run(handler).result == "done"
    assert STEPS == ["outer before", "handler", "outer got done"]
    lines = [record.getMessage() for record in caplog.records if record.name == "durablejobs.middleware"]
    assert [line.startswith("middleware broken around job 1: ") for line in lines] == [True]


@both_failing
def test_an_error_of_its_own_after_a_failure_leaves_the_failure_as_it_is(
    jobs: DurableJobs, run: Run, handler: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    @jobs.middleware
    def broken(job: Any) -> Iterator[None]:
        try:
            yield
        finally:
            raise RuntimeError("mine")

    assert run(handler).error == "ValueError: no"
    assert "RuntimeError: mine" in caplog.text


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("signal", "status"),
    [
        (Fail("no"), "failed"),
        (Retry("no", delay=60), "failed"),
        (Snooze(60), "scheduled"),
        (Cancel("no"), "cancelled"),
    ],
)
@both
def test_a_signal_decides_the_ending(
    jobs: DurableJobs, run: Run, handler: Callable[..., Any], when: str, signal: Exception, status: str
) -> None:
    def decide(job: Any) -> Iterator[None]:
        if when == "before":
            raise signal
        yield
        raise signal

    jobs.middleware(decide)
    assert run(handler).status == status
    assert ([] if when == "before" else ["handler"]) == STEPS


def test_the_outer_middleware_sees_the_signal_of_an_inner_one(jobs: DurableJobs, run: Run) -> None:
    @jobs.middleware
    def outer(job: Any) -> Iterator[None]:
        try:
            yield
        except Snooze as signal:
            STEPS.append(signal.delay)
            raise

    @jobs.middleware
    def inner(job: Any) -> Iterator[None]:
        raise Snooze(60)
        yield

    assert run(plain).status == "scheduled"
    assert STEPS == [60]


def test_a_middleware_may_turn_an_error_into_an_ending(jobs: DurableJobs, run: Run) -> None:
    @jobs.middleware
    def wait_for_the_printer(job: Any) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise Snooze(60) from error

    assert run(failing).status == "scheduled"


def test_an_async_middleware_is_around_async_handlers_only(jobs: DurableJobs, run: Run) -> None:
    @jobs.middleware
    async def wait(job: Any) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        STEPS.append(f"before {job.handler}")
        yield
        await asyncio.sleep(0)
        STEPS.append(f"after {job.handler}")

    jobs.handler("plain")(plain).enqueue()
    assert run(asynchronous).result == "done"
    assert sorted(STEPS) == ["after handler", "before handler", "handler", "handler"]


@both
def test_one_that_yields_twice_or_never_is_named(
    jobs: DurableJobs, run: Run, handler: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    @jobs.middleware
    def twice(job: Any) -> Iterator[None]:
        yield
        yield

    @jobs.middleware
    def never(job: Any) -> Iterator[None]:
        if job.id < 0:
            yield

    assert run(handler).result == "done"
    assert "middleware twice around job 1: yields more than once" in caplog.text
    assert "middleware never around job 1: did not yield" in caplog.text


def test_a_handler_that_raises_stop_iteration_is_no_fault_of_the_middleware(
    jobs: DurableJobs, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def handler() -> None:
        raise StopIteration(7)

    jobs.middleware(noting("outer"))
    assert run(handler).status == "failed"
    assert [record for record in caplog.records if record.name == "durablejobs.middleware"] == []


def stopping() -> None:
    raise StopIteration(7)


async def stopping_async() -> None:
    raise StopIteration(7)  # which Python itself makes a RuntimeError


async def stopping_later() -> None:
    raise StopAsyncIteration(7)


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, RuntimeError])
@pytest.mark.parametrize("handler", [stopping, stopping_async, stopping_later, failing, failing_async])
def test_what_a_handler_raises_comes_to_the_same_with_and_without_middleware(
    jobs: DurableJobs, handler: Callable[..., Any], kind: type[Exception]
) -> None:
    def run_as(name: str) -> tuple[Any, ...]:
        job = jobs.handler(name, retry_on=(kind,))(handler).enqueue()
        jobs.work(burst=True, concurrency=1)
        _, (error,) = jobs.reader.get_with_errors(job.id)
        return job.refresh().status, error.kind, error.message, error.traceback

    bare = run_as("bare")
    jobs.middleware(noting("outer"))
    jobs.middleware(noting("inner"))
    assert run_as("wrapped") == bare


def test_effects_are_undone_when_a_middleware_decides_otherwise(jobs: DurableJobs, run: Run) -> None:
    def enqueues() -> None:
        with current_job().transaction() as connection:
            jobs.using(connection=connection, check=False).enqueue("child")

    @jobs.middleware
    def refuse(job: Any) -> Iterator[None]:
        yield
        raise Fail("not today")

    assert run(enqueues).status == "failed"
    assert [job.handler for job in jobs.list_jobs()] == ["handler"]


@pytest.mark.parametrize("function", [lambda job: None, 7, plain])
def test_what_is_no_generator_function_is_refused(jobs: DurableJobs, function: Any) -> None:
    with pytest.raises(RegistrationError, match="a middleware is a generator function of the job"):
        jobs.middleware(function)
