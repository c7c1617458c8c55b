"""Enqueueing that runs what it has stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..client import Client
from ..jobs import EnqueuedBatch, Job


def inline_client(run: Callable[[], None]) -> type[Client]:
    """Return a class of write verbs that call `run` after each enqueue that is committed."""

    class InlineClient(Client):
        """A client whose jobs have run when it returns."""

        def enqueue(self, handler: str, /, *args: Any, **kwargs: Any) -> Job:
            __tracebackhide__ = True
            job = super().enqueue(handler, *args, **kwargs)
            if self._options.connection is not None:
                return job
            run()
            return job.refresh()

        def enqueue_many(self, handler: str, items: Iterable[Sequence[Any] | Mapping[str, Any]], /) -> EnqueuedBatch:
            __tracebackhide__ = True
            batch = super().enqueue_many(handler, items)
            if self._options.connection is None:
                run()
            return batch

    return InlineClient
