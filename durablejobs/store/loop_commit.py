"""Tasks of one event loop share a commit, without a thread for each.

What the tasks ask for in one round of the loop is stored together by one call in a thread. When it returns, all of them
go on in one round, and what they ask for next is the next group: so the groups stay as large as the crowd is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

from .group_commit import LARGEST_GROUP

Item = TypeVar("Item")
Result = TypeVar("Result")


class LoopCommit(Generic[Item, Result]):
    """Stores items of one event loop's tasks in few transactions; only for that loop's thread.

    `store_all` runs in a thread of `threads`; it returns a result or an error for each item.
    """

    def __init__(
        self, store_all: Callable[[Sequence[Item]], Sequence[Result | Exception]], threads: Callable[[], Executor]
    ) -> None:
        self._store_all = store_all
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._line: list[tuple[Item, asyncio.Future[Result]]] = []
        self._is_busy = False

    async def store(self, item: Item) -> Result:
        """Return the item's result once it is committed; raises what storing it raised.

        A task that is cancelled while its item waits in the line stores nothing; later its item is stored all the same.
        """
        future: asyncio.Future[Result] = self._loop.create_future()
        self._line.append((item, future))
        if not self._is_busy:
            self._is_busy = True
            self._loop.call_soon(self._begin)  # after the others of this round
        return await future

    def _begin(self) -> None:
        group = [(item, future) for item, future in self._line[:LARGEST_GROUP] if not future.done()]
        del self._line[:LARGEST_GROUP]
        if not group:
            self._is_busy = False
            return
        try:
            storing = self._loop.run_in_executor(self._threads(), self._store_all, [item for item, _ in group])
        except RuntimeError as error:  # the interpreter is shutting down: no thread takes anything any more
            self._answer(group, [error] * len(group))
            return
        storing.add_done_callback(lambda done: self._answer(group, done.result()))

    def _answer(
        self, group: Sequence[tuple[Item, asyncio.Future[Result]]], results: Sequence[Result | Exception]
    ) -> None:
        for (_, future), result in zip(group, results, strict=True):
            if future.done():  # its task was cancelled
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        self._loop.call_soon(self._begin)  # after those who have just been answered
