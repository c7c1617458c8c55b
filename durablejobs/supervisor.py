"""`worker --processes N`: a parent that keeps N worker processes running, and ends them cleanly.

Each worker has one end of a socket as its standard input; the supervisor holds the other. By it the worker says that
it has come up, and is told to stop; its end says that the supervisor is gone, however it died. So the workers take
orders from nobody else: a service manager that signals every process of a service, supervisor and workers alike,
does not hurry them by a second signal.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

log = logging.getLogger("durablejobs.worker")

READY: Final = b"+"
STOP: Final = b"1"
HURRY: Final = b"2"
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
"""Seconds before a fallen worker is started again: the pause doubles while it falls soon after its start."""
LIVED_WELL: Final = 60.0
"""After a life of so many seconds the pause is a short one again."""
MOST_FAILED_STARTS: Final = 5
"""Workers that may end in a row without having come up; then none will."""


class _Seat:
    """The place of one worker: the process that has it now, or the moment when the next one starts."""

    def __init__(self, number: int) -> None:
        self.number: Final = number
        self.process: subprocess.Popen[bytes] | None = None
        self.link: socket.socket | None = None
        self.is_up = False
        self.started_at = 0.0
        self.start_at = 0.0
        self.pause = FIRST_PAUSE
        self.is_over = False
        """Nothing is started here any more."""


class Supervisor:
    """Starts workers by `command(number)`, an argument list, and starts the fallen again.

    `replaces_finished`: those that have come to their regular end too.
    """

    def __init__(self, command: Callable[[int], Sequence[str]], count: int, replaces_finished: bool = False) -> None:
        self._command = command
        self._replaces_finished = replaces_finished
        self._seats = [_Seat(number) for number in range(1, count + 1)]
        self._stop_requests = 0
        self._told = 0
        self._failed_starts = 0
        self._has_been_up = False
        self._worst = 0
        self._bell, self._button = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ)

    def run(self) -> int:
        """Keep the workers running until they are told to stop or have nothing left to do; return the exit code."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        before_child = signal.signal(signal.SIGCHLD, lambda _number, _frame: self._ring())
        try:
            while not all(seat.is_over and seat.process is None for seat in self._seats):
                self._turn()
        finally:
            for number, handler in [*before.items(), (signal.SIGCHLD, before_child)]:
                signal.signal(number, handler)
            self._close()
        return self._worst

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stop_requests += 1
        self._ring()

    def _ring(self) -> None:
        with suppress(BlockingIOError):
            self._button.send(b"!", socket.MSG_DONTWAIT)

    def _turn(self) -> None:
        for seat in self._seats:
            self._bury(seat)
        if self._stop_requests:
            self._pass_on()
        for seat in self._seats:
            if self._may_start(seat):
                self._start(seat)
        for key, _ in self._selector.select(self._pause()):
            if key.fileobj is self._bell:
                self._bell.recv(4096)
            else:
                self._hear(key.data)

    def _pause(self) -> float | None:
        starts = [seat.start_at for seat in self._seats if seat.process is None and not seat.is_over]
        if not starts or not self._has_been_up:
            return None if self._is_any_running() else 0.0
        return max(0.0, min(starts) - time.monotonic())

    def _is_any_running(self) -> bool:
        return any(seat.process is not None for seat in self._seats)

    def _may_start(self, seat: _Seat) -> bool:
        if seat.process is not None or seat.is_over or self._stop_requests or seat.start_at > time.monotonic():
            return False
        # The first one tries it out alone: a mistake in the handlers or options is said once.
        return self._has_been_up or not self._is_any_running()

    def _start(self, seat: _Seat) -> None:
        seat.is_up, seat.started_at = False, time.monotonic()
        try:
            seat.process, seat.link = _begin(self._command(seat.number))
        except OSError as error:  # no process, memory or file is left just now, or Python is being replaced
            self._take_no_start(seat, error)
            return
        self._selector.register(seat.link, selectors.EVENT_READ, seat)
        log.info("worker %d of %d has pid %d", seat.number, len(self._seats), seat.process.pid)

    def _take_no_start(self, seat: _Seat, error: OSError) -> None:
        """Go on with the others for the moment; without any there is nothing to go on with."""
        if self._has_been_up:
            self._plan_restart(seat, f"could not be started ({error})")
        else:
            log.error("worker %d could not be started: %s", seat.number, error)
            self._give_up(1)

    def _hear(self, seat: _Seat) -> None:
        assert seat.link is not None
        try:
            said = seat.link.recv(16)
        except OSError:
            said = b""
        if said:
            seat.is_up = self._has_been_up = True
            self._failed_starts = 0
        else:  # it is about to end
            self._hang_up(seat)

    def _hang_up(self, seat: _Seat) -> None:
        if seat.link is not None:
            self._selector.unregister(seat.link)
            seat.link.close()
            seat.link = None

    def _bury(self, seat: _Seat) -> None:
        """Take note of a worker that has ended, and decide what follows."""
        code = seat.process.poll() if seat.process is not None else None
        if seat.process is None or code is None:
            return
        if seat.link is not None:  # it may have said that it is up just before
            self._hear(seat)
        self._hang_up(seat)
        seat.process = None
        code = 128 - code if code < 0 else code
        if self._stop_requests or (code == 0 and not self._replaces_finished):
            seat.is_over = True
            self._worst = max(self._worst, code)
            return
        if code == 0:
            return
        if not seat.is_up:
            self._failed_starts += 1
            if not self._has_been_up or self._failed_starts >= MOST_FAILED_STARTS:
                self._give_up(code)
                return
        self._plan_restart(seat, f"has ended (exit code {code})")

    def _plan_restart(self, seat: _Seat, what: str) -> None:
        now = time.monotonic()
        if now - seat.started_at > LIVED_WELL:
            seat.pause = FIRST_PAUSE
        seat.start_at = now + seat.pause
        log.warning("worker %d %s and is started again in %g s", seat.number, what, seat.pause)
        seat.pause = min(2 * seat.pause, LONGEST_PAUSE)

    def _give_up(self, code: int) -> None:
        """Workers do not come up: the last one has said why."""
        if self._has_been_up:
            log.error("%d workers in a row have not come up; all are ended", self._failed_starts)
        self._worst = max(self._worst, code)
        self._stop_requests = max(1, self._stop_requests)

    def _pass_on(self) -> None:
        """Tell the workers to stop, to hurry, and at last make them."""
        for seat in self._seats:
            seat.is_over = True
            if seat.process is not None and self._told < self._stop_requests:
                self._tell(seat, seat.process)
        self._told = self._stop_requests

    def _tell(self, seat: _Seat, process: subprocess.Popen[bytes]) -> None:
        if self._stop_requests > 2:
            process.kill()
        elif seat.link is not None:
            with suppress(OSError):
                seat.link.send(STOP if self._stop_requests == 1 else HURRY)

    def _close(self) -> None:
        for seat in self._seats:
            self._hang_up(seat)
        self._selector.close()
        self._bell.close()
        self._button.close()


def _begin(command: Sequence[str]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a worker; return its process and our end of its standard input."""
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        with theirs:
            # A process group of its own: Ctrl-C in a terminal is the supervisor's to pass on.
            return subprocess.Popen(command, stdin=theirs.fileno(), process_group=0), ours  # noqa: S603
    except BaseException:
        ours.close()
        raise


def leave_signals_to_the_supervisor() -> None:
    """In a worker: let SIGTERM and SIGINT do nothing, from its very start to its end, but while it runs jobs."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)


def obey(drain: Callable[[], None], hurry: Callable[[], None]) -> None:
    """In a worker: say that it has come up, and call these when the supervisor says so.

    Without a supervisor nobody needs the worker any more: it drains.
    """
    link = os.dup(0)  # not inherited by the programs that handlers start, which get an empty input
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.write(link, READY)
    listen = partial(_listen, link, {STOP: drain, HURRY: hurry}, drain)
    threading.Thread(target=listen, name="durablejobs-supervised", daemon=True).start()


def _listen(link: int, orders: Mapping[bytes, Callable[[], None]], drain: Callable[[], None]) -> None:
    while order := _read(link):
        orders[order]()
    drain()


def _read(link: int) -> bytes:
    try:
        return os.read(link, 1)
    except OSError:
        return b""
