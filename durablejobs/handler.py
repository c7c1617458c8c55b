"""A handler as its program has it: a function that is called as before, and whose calls can be enqueued."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, ParamSpec, Self, TypeVar

from .bridge import in_thread
from .client import Client
from .config import checked_options
from .enqueue_options import EnqueueOptions
from .jobs import EnqueuedBatch, Job
from .registry import HandlerDefinition

P = ParamSpec("P")
R = TypeVar("R")


class Handler(Generic[P, R]):
    """A registered function: calling it stays a plain call, `.enqueue` stores a job that calls it."""

    def __init__(
        self,
        client: Callable[[EnqueueOptions | None], Client],
        definition: HandlerDefinition,
        options: EnqueueOptions | None = None,
    ) -> None:
        """`client` returns the write verbs with these options, of the database that its app works on by then."""
        self._client = client
        self._definition = definition
        self._options = options
        self.__name__ = definition.name
        self.__doc__ = definition.function.__doc__
        self.__wrapped__: Callable[P, R] = definition.function

    @property
    def name(self) -> str:
        """The name its jobs carry."""
        return self._definition.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__wrapped__(*args, **kwargs)

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Store a job that calls this handler; when it returns, the job is on disk. See `Client.enqueue`."""
        return self._client(self._options).enqueue(self.name, *args, **kwargs)

    def enqueue_many(self, items: Iterable[Sequence[Any] | Mapping[str, Any]], /) -> EnqueuedBatch:
        """Store one job for each item, a list or tuple of args or a dict of kwargs, in one transaction."""
        return self._client(self._options).enqueue_many(self.name, items)

    async def aenqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Store a job that calls this handler, from an event loop. See `Client.aenqueue`."""
        return await self._client(self._options).aenqueue(self.name, *args, **kwargs)

    aenqueue_many = in_thread(enqueue_many)

    def using(self, **options: Any) -> Self:
        """Return the same handler with call-time options: see `EnqueueOptions`."""
        changed = replace(self._options or EnqueueOptions(), **checked_options(EnqueueOptions, options))
        return type(self)(self._client, self._definition, changed)

    def __repr__(self) -> str:
        return f"<Handler {self.name}>"
