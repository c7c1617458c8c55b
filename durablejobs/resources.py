"""Resources: what handlers need and a worker keeps for as long as it lives, such as a pool of connections.

A resource is a generator function whose annotation says what it yields. Handlers get it by annotating a parameter with
the same type; such a parameter is no part of the job's arguments.
"""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from .coroutines import AnyGenerator, Ended, advance, close, finished
from .errors import RegistrationError, ResourceError
from .failures import safe_text

log = logging.getLogger("durablejobs.worker")


class _Injected:
    def __repr__(self) -> str:
        return "INJECTED"


INJECTED: Final[Any] = _Injected()
"""The default of a parameter that the worker fills in, for type checkers: `.enqueue` may then leave it out."""


@dataclass(frozen=True, slots=True)
class ResourceDefinition:
    """A registered resource: what it yields, and by which function."""

    kind: Any
    function: Callable[[], AnyGenerator]
    is_async: bool

    @property
    def place(self) -> str:
        """Where the function stands: `file.py:12`."""
        code = self.function.__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    def __str__(self) -> str:
        return f"{kind_name(self.kind)} ({self.place})"


def define_resource(function: Any) -> ResourceDefinition:
    """Return the definition of a generator function. Raises `RegistrationError`."""
    is_async = inspect.isasyncgenfunction(function)
    if not is_async and not inspect.isgeneratorfunction(function):
        raise RegistrationError(f"a resource is a generator function, `yield` what it sets up; {function!r} is none")
    if inspect.signature(function).parameters:
        raise RegistrationError(f"the resource {function.__name__} cannot take parameters: nobody would give them")
    returned = hints_of(function).get("return")
    if isinstance(returned, Unresolved):
        raise RegistrationError(
            f"the resource {function.__name__} says that it yields {returned}, which cannot be resolved here "
            f"({returned.reason}); import it outside of `if TYPE_CHECKING:`"
        )
    if typing.get_origin(returned) not in (Iterator, Generator, AsyncIterator, AsyncGenerator):
        wanted = "AsyncIterator[Pool]" if is_async else "Iterator[Pool]"
        raise RegistrationError(
            f"the resource {function.__name__} must say what it yields: `def {function.__name__}() -> {wanted}:`"
        )
    return ResourceDefinition(typing.get_args(returned)[0], function, is_async)


def kind_name(kind: Any) -> str:
    """Return a type as people write it."""
    return getattr(kind, "__qualname__", None) or str(kind)


@dataclass(frozen=True, slots=True)
class Unresolved:
    """An annotation that is no type here, such as a name that is imported for type checkers only."""

    annotation: object
    reason: str

    def __str__(self) -> str:
        return f"'{self.annotation}'"


def hints_of(function: Any) -> dict[str, Any]:
    """Return the annotations of a function as types; one that cannot be resolved is `Unresolved`."""
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    try:
        return typing.get_type_hints(called, include_extras=True)
    except Exception:  # noqa: BLE001 - annotations are evaluated: they may raise anything
        names = _globals_of(called)
    annotations = getattr(called, "__annotations__", None) or {}
    return {name: _resolved(each, names) for name, each in annotations.items()}  # one by one: the others still count


def _globals_of(function: Any) -> dict[str, Any]:
    """Return the names that annotations of a function may use: those of the innermost function that it wraps."""
    found: dict[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})
    return found


def _resolved(annotation: Any, names: dict[str, Any]) -> Any:
    def bare() -> None: ...

    bare.__annotations__ = {"hint": annotation}
    try:
        return typing.get_type_hints(bare, names, include_extras=True)["hint"]
    except Exception as error:  # noqa: BLE001 - as above
        return Unresolved(annotation, safe_text(error))


class Injection(NamedTuple):
    """A handler's parameter that the worker fills in."""

    name: str
    position: int | None
    """Its place among the positional parameters; None: by keyword only."""
    kind: Any
    """The type of its annotation; `Unresolved`, or None where it has none."""


def find_injections(
    function: Any, signature: inspect.Signature | None, kinds: Mapping[Any, object]
) -> tuple[Injection, ...]:
    """Return the parameters that are annotated with one of these types, or have the default `INJECTED`."""
    parameters = () if signature is None else tuple(signature.parameters.values())
    if not kinds and all(each.default is not INJECTED for each in parameters):
        return ()
    hints = hints_of(function)
    return tuple(
        Injection(each.name, index if each.kind is not each.KEYWORD_ONLY else None, hints.get(each.name))
        for index, each in enumerate(parameters)
        if each.default is INJECTED or any(hints.get(each.name) == kind for kind in kinds)
    )


def inject(
    injections: Sequence[Injection], args: Sequence[Any], kwargs: Mapping[str, Any], values: Mapping[Any, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments with the resources among them. Raises `ResourceError` for one that is not set up."""
    all_args, all_kwargs = list(args), dict(kwargs)
    for name, position, kind in injections:
        if kind not in values:
            raise ResourceError(f"nothing has set up {kind_name(kind)} for '{name}'")
        if position is not None and position <= len(all_args):
            all_args.insert(position, values[kind])
        else:
            all_kwargs[name] = values[kind]
    return all_args, all_kwargs


class Resources:
    """What is set up at this moment; `values` are what handlers get.

    `await_on_loop` runs a coroutine on the event loop of the async handlers, where async resources live.
    """

    def __init__(self, await_on_loop: Callable[[Coroutine[Any, Any, None]], None] = finished) -> None:
        self.values: dict[Any, Any] = {}
        self._await_on_loop = await_on_loop
        self._open: list[tuple[ResourceDefinition, AnyGenerator]] = []

    def set_up(self, definitions: Sequence[ResourceDefinition]) -> None:
        """Set up these, the async ones last. Raises `ResourceError`; `take_down` is due all the same."""
        for definition in sorted(definitions, key=lambda each: each.is_async):
            self._run(definition, self._set_up(definition))

    def take_down(self) -> None:
        """Take down what is set up, the last first; what goes wrong is logged and stops nothing."""
        while self._open:
            definition, generator = self._open.pop()
            del self.values[definition.kind]
            try:
                self._run(definition, _take_down(definition, generator))
            except BaseException as error:
                log.exception("the resource %s was not taken down cleanly: %s", definition, safe_text(error))

    def _run(self, definition: ResourceDefinition, coroutine: Coroutine[Any, Any, None]) -> None:
        if not definition.is_async:
            finished(coroutine)
            return
        try:
            self._await_on_loop(coroutine)
        except TimeoutError as error:
            raise ResourceError(f"the resource {definition}: {error}") from error

    async def _set_up(self, definition: ResourceDefinition) -> None:
        generator = definition.function()
        try:
            self.values[definition.kind] = await advance(generator)
        except Ended:
            raise ResourceError(f"the resource {definition} has ended without a yield") from None
        except (Exception, SystemExit) as error:
            raise ResourceError(f"the resource {definition} cannot be set up: {safe_text(error)}") from error
        self._open.append((definition, generator))


async def _take_down(definition: ResourceDefinition, generator: AnyGenerator) -> None:
    with suppress(Ended):
        await advance(generator)
        log.error("the resource %s yields more than once", definition)
        await close(generator)
