"""Running jobs in child processes: the worker's side.

Each slot of this lane has a child of its own, which runs one job after another. So when a child dies, nobody doubts
which job did it, and the death costs nothing else.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Final, NamedTuple

from .clock import Clock
from .config import WorkerConfig
from .errors import ChildStartError
from .executor import CANCELLED, Executor
from .failures import LONGEST_TRACEBACK, safe_text
from .jobs import ClaimedJob, Notes
from .outcomes import Outcome
from .wire import Link, Message, notes_from_json, outcome_from_json

log = logging.getLogger("durablejobs.worker")

LOOK_EVERY: Final = 1.0
"""Seconds between two looks whether a child lives: the end of its pipe tells it at once, unless a process that a
handler has left behind holds it open."""
MOST_STARTS: Final = 3
"""Children that may die in a row before they are ready; then something is wrong with all of them."""


class ChildProgram(NamedTuple):
    """What runs in a child process: a function, and what it is told. Both are pickled on the way."""

    main: Callable[[Connection, Connection, Any], None]
    order: Any


class ChildProcess:
    """A child process, as its worker sees it."""

    def __init__(self, program: ChildProgram) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process with threads is no option
        ours, theirs = context.Pipe()
        self._last_words, last_words = context.Pipe(duplex=False)
        self.link: Final = Link(ours)
        self.runs = 0
        self.is_ready = False
        self._process = context.Process(
            target=program.main, args=(theirs, last_words, program.order), name="durablejobs-child"
        )
        try:
            self._process.start()
        except BaseException:
            ours.close()
            self._last_words.close()
            raise
        finally:
            theirs.close()
            last_words.close()

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def receive(self, seconds: float, bell: Connection) -> Message | None:
        """Return the next message; None when the bell rang or the time is up. Raises `EOFError` when it is dead."""
        ready = wait([self.link.pipe, self._process.sentinel, bell], max(0.0, min(seconds, LOOK_EVERY)))
        if self.link.pipe in ready:
            return self._next_message()
        if self._process.sentinel in ready or not self.is_alive:
            if self.link.pipe.poll():
                return self._next_message()
            raise EOFError
        return None

    def _next_message(self) -> Message:
        try:
            return self.link.receive()
        except OSError:
            raise EOFError from None

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.kill()

    def end(self, patience: float) -> None:
        """Let it end by itself, or kill it after a while."""
        with suppress(OSError):
            self.link.send("end")
        self.bury(patience)

    def exit_code(self, patience: float = 1.0) -> int:
        """Wait for its end, and kill it if that does not come; minus the number of a signal that ended it."""
        self._process.join(patience)
        self._process.kill()
        self._process.join()
        return self._process.exitcode or 0

    def last_words(self) -> str | None:
        """Return the traceback that a crashed interpreter has left."""
        if not hasattr(os, "set_blocking"):
            return None
        os.set_blocking(self._last_words.fileno(), False)
        with suppress(OSError):
            return os.read(self._last_words.fileno(), LONGEST_TRACEBACK).decode(errors="replace") or None
        return None

    def bury(self, patience: float = 1.0) -> int:
        """The same, and give back what it had here."""
        code = self.exit_code(patience)
        self._process.close()
        self.link.pipe.close()
        self._last_words.close()
        return code


class ChildRunner:
    """Runs the jobs of one slot in a child process, which is started when it is needed."""

    def __init__(
        self,
        program: ChildProgram,
        executor: Executor,
        config: WorkerConfig,
        clock: Clock,
        accept_notes: Callable[[Notes], None],
        fail: Callable[[ChildStartError], None],
    ) -> None:
        self._program = program
        self._executor = executor
        self._config = config
        self._clock = clock
        self._accept_notes = accept_notes
        self._fail = fail
        self._child: ChildProcess | None = None
        self._failed_starts = 0
        self._bell, self._button = multiprocessing.Pipe(duplex=False)
        self._lock = threading.Lock()
        self._job: ClaimedJob | None = None
        self._is_cancelled = False
        self._is_stopped = False

    # Called by the worker

    def cancel(self, job_id: int) -> None:
        """Make the job stop, if it is the one that runs."""
        with self._lock:
            if self._job is None or self._job.id != job_id or self._is_cancelled:
                return
            self._is_cancelled = True
            self._button.send_bytes(b"!")

    def stop(self) -> None:
        """Kill what runs."""
        with self._lock:
            if not self._is_stopped:
                self._is_stopped = True
                self._button.send_bytes(b"!")

    # In the slot's thread

    def run(self, job: ClaimedJob) -> Outcome | None:
        """Run a job to its end; None: it was not begun, or given up because the worker stops."""
        with self._lock:
            self._job, self._is_cancelled = job, False
        try:
            return self._run(job)
        finally:
            with self._lock:
                self._job = None

    def tidy_up(self, job: ClaimedJob) -> None:
        """End the child if this was the last job that it may run; it takes down its resources then."""
        if self._child is not None and self._is_used_up(self._child, job):
            self._end_child()

    def close(self) -> None:
        """End the child."""
        self._end_child()
        with self._lock:
            self._is_stopped = True
            self._bell.close()
            self._button.close()

    def _run(self, job: ClaimedJob) -> Outcome | None:
        while True:
            child = self._ready_child(job)
            if child is None:
                return None
            if self._is_cancelled:
                return CANCELLED
            attempt = _Attempt(self._executor, self._config, self._clock, job, child, self._accept_notes)
            outcome = attempt.run(self._look)
            if outcome is not None or self._is_stopped:
                return outcome
            self._bury_child()  # it had died before it began: a new one will do it

    def _look(self, child: ChildProcess, seconds: float) -> tuple[Message | None, bool]:
        """Return the child's next message, and whether somebody wants the job to stop."""
        message = child.receive(seconds, self._bell)
        while self._bell.poll():
            self._bell.recv_bytes()
        if self._is_stopped:
            child.kill()
        return message, self._is_cancelled

    def _is_used_up(self, child: ChildProcess, job: ClaimedJob) -> bool:
        most = self._config.runs_per_child
        if self._executor.wants_fresh_child(job):
            most = 1
        return not child.is_alive or (most is not None and child.runs >= most)

    def _ready_child(self, job: ClaimedJob) -> ChildProcess | None:
        """Return a child that can run this job; None when there can be none."""
        if self._child is not None and self._is_used_up(self._child, job):
            self._end_child()
        while not self._is_stopped:
            if self._child is None:
                self._child = self._start()
            if self._child is None:
                continue
            if self._child.is_ready or self._await_ready(self._child):
                return self._child
        return None

    def _start(self) -> ChildProcess | None:
        try:
            return ChildProcess(self._program)
        except OSError as error:  # no memory, no process or no descriptor is left: that may pass
            log.error("a child process cannot be started: %s; trying again", error.strerror or error)
            self._bell.poll(LOOK_EVERY)
            return None
        except Exception as error:  # noqa: BLE001 - a daemonic process, say, may have no children
            self._give_up(safe_text(error))
            return None

    def _await_ready(self, child: ChildProcess) -> bool:
        """Wait until the child has imported the handlers. If it cannot, the worker has to end."""
        try:
            message, _ = self._look(child, math.inf)
        except EOFError:
            code = self._bury_child()
            self._failed_starts += 1
            if code == 1 or self._failed_starts >= MOST_STARTS:
                self._give_up(f"one ended before it was ready ({_exit(code)}); what it said is above")
            return False
        if message is None:
            return False
        if message.kind == "ready":
            self._failed_starts = 0
            child.is_ready = True
            return True
        self._give_up(str(message.body))
        return False

    def _give_up(self, reason: str) -> None:
        self._is_stopped = True
        self._fail(ChildStartError(reason))

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            if not child.is_ready:
                child.kill()
            child.end(self._config.kill_after)

    def _bury_child(self) -> int:
        child, self._child = self._child, None
        return child.bury() if child is not None else 0


class _Attempt:
    """One run in a child: begun, perhaps told to stop, perhaps killed, ended."""

    def __init__(
        self,
        executor: Executor,
        config: WorkerConfig,
        clock: Clock,
        job: ClaimedJob,
        child: ChildProcess,
        accept_notes: Callable[[Notes], None],
    ) -> None:
        self._executor = executor
        self._config = config
        self._clock = clock
        self._job = job
        self._child = child
        self._accept_notes = accept_notes
        self._has_begun = False
        self._stop: str | None = None
        self._act_at = math.inf
        """When the run takes too long, or takes too long to stop, by the monotonic clock."""

    def run(self, look: Callable[[ChildProcess, float], tuple[Message | None, bool]]) -> Outcome | None:
        """Return what the run came to; None when it was not begun."""
        try:
            self._child.link.send("run", list(self._job))
            while True:
                message, is_cancelled = look(self._child, self._act_at - self._clock.monotonic())
                if message is not None and message.kind == "ended":
                    self._child.runs += 1
                    return outcome_from_json(message.body)
                if message is not None and message.kind == "begun":
                    self._begin()
                elif message is not None and message.kind == "notes":
                    self._accept_notes(notes_from_json(self._job, message.body))
                self._act(is_cancelled)
        except (EOFError, OSError):
            return self._died() if self._has_begun else None

    def _begin(self) -> None:
        self._has_begun = True
        self._executor.tell_started(self._job)
        timeout = self._executor.timeout_of(self._job)
        if timeout is not None:
            self._act_at = self._clock.monotonic() + timeout

    def _act(self, is_cancelled: bool) -> None:
        is_late = self._clock.monotonic() >= self._act_at
        if self._stop is not None:
            if is_late:
                self._child.kill()
        elif self._has_begun and (is_late or is_cancelled):
            self._stop = "timeout" if is_late else "cancel"
            self._child.link.send("stop", self._stop)
            self._act_at = self._clock.monotonic() + self._config.kill_after

    def _died(self) -> Outcome:
        if self._stop == "timeout":
            return self._executor.timed_out(self._job, f", and then {self._config.kill_after:g} s to stop: killed")
        if self._stop == "cancel":
            return CANCELLED
        cause = f"its child process died ({_exit(self._child.exit_code())})"
        return self._executor.crashed(self._job, cause, self._config.max_crashes, self._child.last_words())


def _exit(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, out of memory?" if name == "SIGKILL" else name
