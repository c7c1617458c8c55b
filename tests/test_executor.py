"""One run: whatever a handler does, an outcome comes back and nothing escapes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from durablejobs import Backoff, Cancel, Fail, JobDefaults, Retry, Snooze, current_job
from durablejobs.executor import Executor
from durablejobs.failures import LONGEST_MESSAGE, LONGEST_TRACEBACK
from durablejobs.handler_options import HandlerOptions
from durablejobs.jobs import ClaimedJob
from durablejobs.outcomes import Errored, GaveUp, HandlerSignal, Outcome, Snoozed, Stopped, Succeeded
from durablejobs.registry import Registry

DEFAULTS = JobDefaults(backoff=Backoff(base=10, jitter=0), result_limit=1000)

Run = Callable[..., Outcome]


def claimed(**columns: Any) -> ClaimedJob:
    defaults: dict[str, Any] = {
        "id": 7,
        "claim_token": 1,
        "handler": "handler",
        "queue": "default",
        "args": "[]",
        "kwargs": "{}",
        "priority": 0,
        "run_at": "2030-01-01 12:00:00.000000",
        "attempt": 1,
        "max_attempts": 20,
        "crashes": 0,
        "timeout": None,
        "meta": "{}",
    }
    return ClaimedJob(**(defaults | columns))


def run(function: Callable[..., Any], options: HandlerOptions | None = None, **columns: Any) -> Outcome:
    """Run a job of this handler."""
    registry = Registry()
    registry.register("handler", function, options or HandlerOptions())
    return Executor(registry, DEFAULTS).run(claimed(**columns))


def raising(error: Callable[[], BaseException]) -> Callable[[], None]:
    def handler() -> None:
        raise error()

    return handler


class Silent(Exception):
    pass


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Nameless:
    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


# Success


@pytest.mark.parametrize("result", [True, 0, "", [], {}, 1.5, "grün", {"a": [1, None]}])
def test_what_a_handler_returns_is_kept_as_json(result: Any) -> None:
    outcome = run(lambda: result)
    assert isinstance(outcome, Succeeded)
    assert outcome.result is not None
    assert json.loads(outcome.result) == result


def test_a_handler_that_returns_nothing_leaves_no_result() -> None:
    assert run(lambda: None) == Succeeded(None)


def test_args_and_kwargs_arrive_as_they_stand_in_the_row() -> None:
    outcome = run(lambda *args, **kwargs: [args, kwargs], args='[1, "ü", null]', kwargs='{"a": {"b": [2]}}')
    assert outcome == Succeeded('[[1, "ü", null], {"a": {"b": [2]}}]')


# A result that cannot be stored: the handler has run, so it is never run again for that.


class EvilList(list[int]):
    def __iter__(self) -> Any:
        raise RuntimeError("not today")


def endless() -> list[Any]:
    result: list[Any] = []
    result.append(result)
    return result


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"when": {1, 2}}, "result.when: set is not JSON: pass a list"),
        (float("nan"), "result: nan is not JSON"),
        ("x" * 1000, "1,002 bytes of JSON are over the limit of 1,000"),
        ("\udc80", "lone surrogate"),
        ("a\0b", "NUL"),
        (endless(), "nested deeper than 100"),
        (10**5000, "4,300 digits"),
        ({"x" * 100_000: {1}}, "set is not JSON"),
        ({"ü" * 100_000: {1}}, "set is not JSON"),
        (EvilList([1]), "RuntimeError: not today"),
        ({Nameless(): 1}, "ValueError: no words"),
    ],
    ids=[
        "set",
        "NaN",
        "large",
        "surrogate",
        "NUL",
        "endless",
        "digits",
        "long path",
        "long wide path",
        "evil",
        "evil key",
    ],
)
def test_a_result_that_cannot_be_stored_is_replaced_by_a_marker_and_the_job_stays_succeeded(
    result: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "durablejobs.executor"):
        outcome = run(lambda: result)
    assert isinstance(outcome, Succeeded)
    assert outcome.result is not None
    marker = json.loads(outcome.result)
    assert marker["durablejobs"] == "the result could not be stored"
    assert reason in marker["reason"]
    assert len(outcome.result) < 2 * LONGEST_MESSAGE
    (record,) = caplog.records
    assert record.message.startswith("job 7 (handler) succeeded, but its result is not stored: ")


# Failure


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (lambda: ValueError("boom"), "ValueError: boom"),
        (lambda: Silent(), "Silent"),
        (lambda: KeyError("k"), "KeyError: 'k'"),
        (lambda: SystemExit(3), "SystemExit: 3"),
        (lambda: KeyboardInterrupt(), "KeyboardInterrupt"),
        (lambda: GeneratorExit(), "GeneratorExit"),
        (lambda: Unspeakable(), "Unspeakable: (its __str__ raised)"),
        (lambda: ValueError("a\0b"), "ValueError: a\\x00b"),
        (lambda: ValueError("\udc80"), "ValueError: \\udc80"),
        (lambda: ExceptionGroup("several", [ValueError("boom")]), "ExceptionGroup: several (1 sub-exception)"),
    ],
)
def test_whatever_a_handler_raises_is_a_failed_attempt_with_a_safe_text(
    error: Callable[[], BaseException], message: str
) -> None:
    outcome = run(raising(error))
    assert isinstance(outcome, Errored)
    assert (outcome.failure.kind, outcome.failure.message) == ("exception", message)
    assert outcome.delay == 10


def test_the_traceback_begins_in_the_handler_and_not_in_the_executor() -> None:
    def handler() -> None:
        raise ValueError("boom")

    outcome = run(handler)
    assert isinstance(outcome, Errored)
    traceback = outcome.failure.traceback
    assert traceback is not None
    assert traceback.startswith("Traceback")
    assert 'raise ValueError("boom")' in traceback
    assert "durablejobs/executor.py" not in traceback
    assert traceback.rstrip().endswith("ValueError: boom")


def test_a_message_of_a_megabyte_is_cut_and_says_how_much_is_left_out() -> None:
    outcome = run(raising(lambda: ValueError("a" * 500_000 + "z" * 500_000)))
    assert isinstance(outcome, Errored)
    message = outcome.failure.message
    assert len(message) < LONGEST_MESSAGE + 100
    assert message.startswith("ValueError: aaa")
    assert "\n… 990,012 characters left out …\n" in message
    assert message.endswith("zzz")
    assert outcome.failure.traceback is not None
    assert len(outcome.failure.traceback) < LONGEST_TRACEBACK + 100


def test_endless_recursion_is_a_failed_attempt() -> None:
    def handler() -> None:
        handler()

    outcome = run(handler)
    assert isinstance(outcome, Errored)
    assert outcome.failure.message.startswith("RecursionError: ")
    assert outcome.failure.traceback is not None
    assert len(outcome.failure.traceback) < LONGEST_TRACEBACK + 100


def test_the_wait_grows_with_the_attempts_spent_and_crashes_are_not_counted() -> None:
    assert run(raising(Silent), attempt=3).delay == 40  # type: ignore[union-attr]
    assert run(raising(Silent), attempt=3, crashes=2).delay == 10  # type: ignore[union-attr]


def test_a_handlers_own_backoff_comes_before_the_default() -> None:
    outcome = run(raising(Silent), HandlerOptions(backoff=lambda attempt: attempt * 7), attempt=3)
    assert outcome.delay == 21  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_broken_backoff_does_not_cost_the_worker(error: type[BaseException]) -> None:
    def backoff(_attempt: int) -> float:
        raise error("no idea")

    outcome = run(raising(Silent), HandlerOptions(backoff=backoff))
    assert isinstance(outcome, Errored)
    assert outcome.delay > 0


# Signals


def test_retry_chooses_the_delay_of_the_next_attempt() -> None:
    outcome = run(raising(lambda: Retry("busy", delay=3)))
    assert isinstance(outcome, Errored)
    assert (outcome.failure.kind, outcome.failure.message, outcome.delay) == ("retry", "busy", 3)


def test_retry_without_a_delay_waits_as_the_backoff_says() -> None:
    outcome = run(raising(Retry), attempt=2)
    assert isinstance(outcome, Errored)
    assert outcome.delay == 20
    assert outcome.failure.message == "the handler asked for another attempt"


def test_snooze_comes_back_after_its_delay() -> None:
    assert run(raising(lambda: Snooze(60))) == Snoozed(60.0)


def test_fail_gives_up() -> None:
    outcome = run(raising(lambda: Fail("no such user")))
    assert isinstance(outcome, GaveUp)
    assert (outcome.failure.kind, outcome.failure.message) == ("fail", "no such user")


def test_cancel_stops_the_job() -> None:
    outcome = run(raising(lambda: Cancel("not needed any more")))
    assert isinstance(outcome, Stopped)
    assert (outcome.failure.kind, outcome.failure.message) == ("cancel", "not needed any more")


@pytest.mark.parametrize("signal", [Fail, Cancel, Retry])
def test_the_reason_of_a_signal_is_made_safe_too(signal: Any) -> None:
    outcome = run(raising(lambda: signal("\0\udc80" + "x" * 1_000_000)))
    assert isinstance(outcome, GaveUp | Stopped | Errored)
    assert outcome.failure.message.startswith("\\x00\\udc80xxx")
    assert len(outcome.failure.message) < LONGEST_MESSAGE + 100


@pytest.mark.parametrize("signal", [Fail, Cancel, Retry])
def test_a_reason_that_cannot_be_read_costs_nothing_but_itself(signal: Any) -> None:
    outcome = run(raising(lambda: signal(Nameless())))
    assert isinstance(outcome, {Fail: GaveUp, Cancel: Stopped, Retry: Errored}[signal])
    assert "raised" in outcome.failure.message  # type: ignore[union-attr]


class HalfMadeFail(Fail):
    def __init__(self) -> None:
        pass


class HalfMadeSnooze(Snooze):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize("signal", [HalfMadeFail, HalfMadeSnooze])
def test_a_signal_whose_author_forgot_half_of_it_is_a_failed_attempt(signal: type[HandlerSignal]) -> None:
    outcome = run(raising(signal))
    assert isinstance(outcome, Errored)
    assert outcome.failure.message.startswith("AttributeError: ")


def test_a_signal_of_unknown_kind_is_a_failed_attempt() -> None:
    outcome = run(raising(lambda: HandlerSignal("hm")))
    assert isinstance(outcome, Errored)
    assert outcome.failure.message == "HandlerSignal: hm"


# What cannot be run


def test_an_unknown_handler_fails_this_attempt_with_the_names_that_are_known() -> None:
    outcome = run(lambda: None, handler="handlr", attempt=2)
    assert isinstance(outcome, Errored)
    assert outcome.failure.kind == "unknown_handler"
    assert outcome.failure.message == "no handler 'handlr'; did you mean 'handler'?"
    assert outcome.delay == 20


def test_a_call_that_does_not_fit_the_handler_fails_at_once() -> None:
    outcome = run(lambda name: name, args="[1, 2]")
    assert isinstance(outcome, GaveUp)
    assert outcome.failure.kind == "bad_arguments"
    assert outcome.failure.message.startswith("handler 'handler' takes handler(name): too many positional arguments")


def test_a_type_error_from_inside_the_handler_is_an_ordinary_failure() -> None:
    outcome = run(lambda name: len(name), args="[1]")
    assert isinstance(outcome, Errored)
    assert outcome.failure.message == "TypeError: object of type 'int' has no len()"


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("args", "[1"),
        ("args", "7"),
        ("args", "[" * 100_000 + "]" * 100_000),
        ("args", "[" + "1" * 5000 + "]"),
        ("args", b"\xff"),
        ("args", None),
        ("kwargs", "[1]"),
        ("kwargs", "nonsense"),
    ],
    ids=["cut", "number", "deep", "digits", "bytes", "null", "list", "nonsense"],
)
def test_a_row_that_cannot_be_decoded_fails_at_once_with_the_reason(column: str, text: Any) -> None:
    outcome = run(lambda *args, **kwargs: None, **{column: text})
    assert isinstance(outcome, GaveUp)
    assert outcome.failure.kind == "bad_arguments"
    assert outcome.failure.message.startswith("args or kwargs in the row cannot be read: ")


@pytest.mark.parametrize("args", ["[1,2]", " [1, 2]", "[1, 2]\n", b"[1, 2]"])
def test_args_are_read_however_another_program_has_written_them(args: Any) -> None:
    assert run(lambda *args: list(args), args=args) == Succeeded("[1, 2]")


def test_a_handler_name_that_is_no_text_is_just_unknown() -> None:
    outcome = run(lambda: None, handler=b"handler")
    assert isinstance(outcome, Errored)
    assert outcome.failure.kind == "unknown_handler"


# The job that runs


def test_a_handler_can_ask_which_job_it_runs_for() -> None:
    seen: list[Any] = []

    def handler(*args: Any, **kwargs: Any) -> None:
        job = current_job()
        seen.append(
            (
                job.id,
                job.handler,
                job.queue,
                job.priority,
                job.attempt,
                job.max_attempts,
                job.crashes,
                job.args,
                job.kwargs,
            )
        )
        seen.append((job.meta, job.is_last_attempt, repr(job)))

    run(handler, args="[1]", kwargs='{"a": 2}', meta='{"tag": "x"}', attempt=4, max_attempts=3, crashes=1, priority=5)
    assert seen == [
        (7, "handler", "default", 5, 4, 3, 1, [1], {"a": 2}),
        ({"tag": "x"}, True, "<CurrentJob 7 handler attempt 4>"),
    ]


def test_outside_of_a_handler_there_is_no_current_job() -> None:
    with pytest.raises(LookupError, match="for use inside a handler"):
        current_job()
    run(raising(Silent))
    with pytest.raises(LookupError):
        current_job()


def test_is_last_attempt_is_false_while_another_one_is_allowed() -> None:
    assert run(lambda: current_job().is_last_attempt, attempt=2, max_attempts=3) == Succeeded("false")
    assert run(lambda: current_job().is_last_attempt, attempt=3, max_attempts=3) == Succeeded("true")
    assert run(lambda: current_job().is_last_attempt, attempt=3, max_attempts=3, crashes=1) == Succeeded("false")
