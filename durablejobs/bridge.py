"""The way from an event loop to the verbs: each `a…` method is its plain twin, called in a thread.

There is one implementation of each verb, and the threads are what makes concurrent enqueues share commits: while one
thread waits for the disk, the rows of the others come together.
"""

from __future__ import annotations

import contextvars
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")

THREADS: Final = 32
"""Calls that are under way at once in a process; more wait in line, and the loop goes on."""

_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def in_thread(verb: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Return the verb as a coroutine function: the same call, made in a thread, with the caller's context."""

    @functools.wraps(verb)
    async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        import asyncio  # whoever has a loop has it; others need not pay for it

        context = contextvars.copy_context()
        work = functools.partial(context.run, verb, self, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(verb_threads(), work)

    call.__name__ = f"a{verb.__name__}"
    call.__qualname__ = f"{verb.__qualname__.rpartition('.')[0]}.{call.__name__}"
    call.__doc__ = f"`{verb.__name__}` for the event loop, which goes on meanwhile. {verb.__doc__}"
    return call


def verb_threads() -> ThreadPoolExecutor:
    """Return the threads of this process in which verbs wait for the database on behalf of event loops."""
    global _pool
    with _pool_lock:
        if _pool is None:
            from concurrent.futures import ThreadPoolExecutor

            _pool = ThreadPoolExecutor(THREADS, "durablejobs-async")
        return _pool


def _forget_pool() -> None:
    """In a forked child: its threads are not there."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
