"""How a worker hears that it is to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class _Noting:
    """A signal handler that calls a function and raises nothing."""

    def __init__(self, note: Callable[[], None]) -> None:
        self._note = note

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self._note()


def are_signals_noted() -> bool:
    """Whether Ctrl-C raises no `KeyboardInterrupt` now, because a worker takes it as a request to stop."""
    return isinstance(signal.getsignal(signal.SIGINT), _Noting)


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call this on SIGTERM and SIGINT; only a process's main thread may ask for that, in others nothing happens."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    noting = _Noting(stop)
    before = {number: signal.signal(number, noting) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
