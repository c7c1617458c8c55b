"""Registering handlers: what is taken, what is refused, and what the refusal says."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from durablejobs import ArgumentsError, Backoff, ConfigurationError, DurableJobs, RegistrationError, UnknownHandlerError
from durablejobs.handler_options import HandlerOptions, Mode
from durablejobs.registry import Registry


def greet(name: str, *, loudly: bool = False) -> str:
    """Say hello."""
    return f"hello {name}"


class Greeter:
    def greet(self, name: str) -> str:
        return f"hello {name}"

    def __call__(self, name: str) -> str:
        return f"hello {name}"


async def greet_later(name: str) -> None:
    pass


async def greet_again_and_again() -> Any:
    yield "hello"


def greet_all() -> Iterator[str]:
    yield "hello"


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_without_a_name_a_handler_has_its_functions_own(registry: Registry) -> None:
    assert registry.register(None, greet, HandlerOptions()).name == "greet"
    assert registry.names == ["greet"]
    assert len(registry) == 1
    assert registry.find("greet") is registry.get("greet")


def test_one_function_may_have_two_names(registry: Registry) -> None:
    registry.register("a", greet, HandlerOptions())
    registry.register("b", greet, HandlerOptions())
    assert registry.names == ["a", "b"]


def test_two_handlers_under_one_name_are_refused_naming_both_places(registry: Registry) -> None:
    registry.register("mail", greet, HandlerOptions())
    with pytest.raises(RegistrationError) as caught:
        registry.register("mail", Greeter.greet, HandlerOptions())
    places = re.findall(r"test_registry\.py:(\d+)", str(caught.value))
    assert [int(place) for place in places] == [
        greet.__code__.co_firstlineno,
        Greeter.greet.__code__.co_firstlineno,
    ]
    assert "two handlers are named 'mail'" in str(caught.value)
    assert registry.get("mail").function is greet


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (greet_again_and_again, "is a generator, its body would never run"),
        (greet_all, "is a generator, its body would never run"),
        (Greeter, "is a class; register a function"),
        ("greet", "is not a function but str"),
        (None, "is not a function but NoneType"),
    ],
)
def test_what_would_never_run_is_refused(registry: Registry, function: Any, problem: str) -> None:
    with pytest.raises(RegistrationError, match=f"handler 'x' {problem}"):
        registry.register("x", function, HandlerOptions())
    assert len(registry) == 0


class LateGreeter:
    async def __call__(self, name: str) -> None:
        pass


def test_a_function_runs_in_a_thread_or_as_it_says_and_an_async_def_on_the_event_loop(registry: Registry) -> None:
    assert registry.register("a", greet, HandlerOptions()).mode is Mode.THREAD
    assert registry.register("b", greet, HandlerOptions(mode="thread")).mode is Mode.THREAD
    assert registry.register("c", greet, HandlerOptions(mode="process"), "shop.tasks").mode is Mode.PROCESS
    for number, function in enumerate([greet_later, functools.partial(greet_later, "a"), LateGreeter()]):
        assert registry.register(f"d{number}", function, HandlerOptions()).mode is Mode.ASYNC
    assert [definition.name for definition in registry.of_mode(Mode.PROCESS)] == ["c"]


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_an_async_def_takes_no_mode(registry: Registry, mode: str) -> None:
    with pytest.raises(RegistrationError, match=f"for mode='{mode}' write a plain function that calls asyncio.run"):
        registry.register("x", greet_later, HandlerOptions(mode=mode))


def test_what_a_child_process_cannot_find_is_refused(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def local() -> None:
        pass

    process = HandlerOptions(mode="process")
    with pytest.raises(RegistrationError, match="'x' is defined inside of a function, where a child process cannot"):
        registry.register("x", local, process)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with pytest.raises(RegistrationError, match="'x' is typed in, a child process cannot import it"):
        registry.register("x", greet, process, module="__main__")
    assert registry.register("x", greet, process, module="shop.tasks").module == "shop.tasks"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"mode": "fork"}, "mode: must be 'thread' or 'process', not 'fork'"),
        ({"mode": "async"}, "mode: must be 'thread' or 'process', not 'async'"),
        ({"timeout": 0}, "timeout: must be a number from 0.001"),
        ({"timeout": -1}, "timeout: must be a number"),
        ({"timeout": float("nan")}, "timeout: must be a number"),
        ({"timeout": 1e300}, "timeout: must be a number"),
        ({"timeout": "1"}, "timeout: must be a number"),
        ({"fresh": True}, "fresh: is for mode='process' only"),
        ({"fresh": 1, "mode": "process"}, "fresh: must be True or False"),
    ],
)
def test_options_out_of_their_bounds_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(problem)):
        HandlerOptions(**options)


@pytest.mark.parametrize("function", [lambda name: name, functools.partial(greet, loudly=True), Greeter()])
def test_what_has_no_name_of_its_own_needs_one(registry: Registry, function: Any) -> None:
    with pytest.raises(RegistrationError, match="has no name of its own: name the handler"):
        registry.register(None, function, HandlerOptions())
    assert registry.register("named", function, HandlerOptions()).function is function


@pytest.mark.parametrize("function", [Greeter().greet, Greeter(), len, lambda name: name])
def test_bound_methods_callable_objects_builtins_and_lambdas_are_handlers(registry: Registry, function: Any) -> None:
    definition = registry.register("x", function, HandlerOptions())
    definition.check_arguments(["a"], {})
    assert definition.place


@pytest.mark.parametrize("name", ["", "two words", "tab\t", "x" * 201])
def test_a_bad_name_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(RegistrationError, match="handler name: must be 1-200 of"):
        registry.register(name, greet, HandlerOptions())


def test_an_unknown_name_is_answered_with_the_nearest(registry: Registry) -> None:
    with pytest.raises(UnknownHandlerError, match=r"^no handler 'mail'; no handler is registered$"):
        registry.get("mail")
    registry.register("mail", greet, HandlerOptions())
    registry.register("thumbnail", Greeter.greet, HandlerOptions())
    with pytest.raises(UnknownHandlerError, match=r"^no handler 'emial'; did you mean 'mail'\?$") as caught:
        registry.get("emial")
    assert caught.value.known == ["mail", "thumbnail"]
    with pytest.raises(UnknownHandlerError, match=r"^no handler 'q'; known handlers: mail, thumbnail$"):
        registry.get("q")
    assert registry.find("q") is None


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [([], {}), (["a", "b"], {}), (["a"], {"name": "b"}), (["a"], {"quietly": True}), ([], {"loudly": True})],
)
def test_arguments_that_do_not_fit_are_refused_with_the_signature(
    registry: Registry, args: list[Any], kwargs: dict[str, Any]
) -> None:
    definition = registry.register("greet", greet, HandlerOptions())
    with pytest.raises(ArgumentsError) as caught:
        definition.check_arguments(args, kwargs)
    assert str(caught.value).startswith("handler 'greet' takes greet(name: 'str', *, loudly: 'bool' = False)")


def test_arguments_that_fit_pass(registry: Registry) -> None:
    definition = registry.register("greet", greet, HandlerOptions())
    definition.check_arguments(["a"], {"loudly": True})
    definition.check_arguments([], {"name": "a"})


def test_a_function_without_a_known_signature_takes_anything(registry: Registry) -> None:
    definition = registry.register("max", max, HandlerOptions())
    assert definition.signature is None
    definition.check_arguments([1, 2, 3], {"whatever": 1})


@pytest.mark.parametrize(
    ("option", "value"),
    [("queue", "a b"), ("priority", "high"), ("priority", 1.5), ("max_attempts", 0), ("backoff", 5)],
)
def test_a_bad_option_is_refused_at_registration(jobs: DurableJobs, option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        jobs.handler("mail", **{option: value})
    assert caught.value.setting == option
    assert jobs.handler_names == []


def test_an_unknown_option_is_refused_at_registration(jobs: DurableJobs) -> None:
    with pytest.raises(ConfigurationError, match=r"max_atempts: is not a known option; did you mean max_attempts\?"):
        jobs.handler("mail", max_atempts=3)  # type: ignore[call-overload]


def test_a_decorated_function_stays_a_plain_call(jobs: DurableJobs) -> None:
    handler = jobs.handler(greet)
    assert handler("Ada") == "hello Ada"
    assert handler.__doc__ == "Say hello."
    assert handler.__wrapped__ is greet
    assert repr(handler) == "<Handler greet>"


def test_all_ways_to_decorate_register(jobs: DurableJobs) -> None:
    def unnamed() -> None:
        pass

    jobs.handler(greet)
    jobs.handler()(unnamed)
    jobs.handler("second")(greet)
    jobs.handler("third", queue="mail", priority=5, max_attempts=3, backoff=Backoff(base=1))(greet)
    assert jobs.handler_names == ["greet", "second", "third", "unnamed"]


@pytest.mark.parametrize("name", ["secrets", "options"])
def test_what_collects_any_number_of_arguments_cannot_be_redacted(jobs: DurableJobs, name: str) -> None:
    """One of them would be hidden, or none."""

    def login(user: str, *secrets: str, **options: str) -> None:
        pass

    with pytest.raises(RegistrationError, match=f"is to redact {name}, which collects any number of arguments"):
        jobs.handler(redact=[name])(login)
    jobs.handler(redact=["user", "password"])(login)
