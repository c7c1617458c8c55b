"""One form for plain and for async code: generators of both kinds, and coroutines that have nothing to wait for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

AnyGenerator = Generator[Any, Any, None] | AsyncGenerator[Any, Any]


class Ended(Exception):
    """The generator has ended instead of yielding."""


async def advance(generator: AnyGenerator, value: Any = None) -> Any:
    """Go on to the next `yield`; return what it gives. Raises `Ended`."""
    try:
        return await generator.asend(value) if isinstance(generator, AsyncGenerator) else generator.send(value)
    except (StopIteration, StopAsyncIteration):
        raise Ended from None


async def throw(generator: AnyGenerator, error: BaseException) -> Any:
    """Raise this at the `yield`, and go on to the next one. Raises `Ended`."""
    try:
        return await generator.athrow(error) if isinstance(generator, AsyncGenerator) else generator.throw(error)
    except (StopIteration, StopAsyncIteration):
        raise Ended from None


async def close(generator: AnyGenerator) -> None:
    """End a generator that should have ended by itself."""
    with suppress(Exception):  # it does not want to
        if isinstance(generator, AsyncGenerator):
            await generator.aclose()
        else:
            generator.close()


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that has nothing to wait for to its end, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine waits where there is no event loop")
