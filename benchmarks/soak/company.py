"""The processes of a soak: who they are, what is done to them, how they ended."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from .settings import RISKY, Settings

PATIENCE: Final = 60.0
"""Seconds that a process may take to end when it is asked to."""
START: Final = 15.0
"""Seconds within which SIGTERM may find a process that has not come to handle it yet."""
SAFE_QUEUES: Final = "default=2,mail=1,bulk=1,slow=1"
ALL_QUEUES: Final = f"{SAFE_QUEUES},{RISKY}=1"


class Member:
    """One process, and its successors in the same place."""

    def __init__(self, name: str, command: Callable[[str], list[str]], settings: Settings, is_risky: bool) -> None:
        self.name = name
        self._command = command
        self._settings = settings
        self.is_risky = is_risky
        self.generation = 0
        self.wake_at: float | None = None
        self.asked_to_end_at: float | None = None
        self.start()

    def start(self) -> None:
        """Start the process, or its successor."""
        self.generation += 1
        self.asked_to_end_at = None
        full_name = f"{self.name}.{self.generation}"
        with (self._settings.directory / f"{full_name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                self._command(full_name),
                cwd=self._settings.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._settings.environment,
                start_new_session=True,
            )
        self.began = time.monotonic()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_free(self) -> bool:
        """Whether nothing is being done to it."""
        return self.wake_at is None and self.asked_to_end_at is None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def end_for_good(self) -> None:
        """Leave nothing behind, children included."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


class Company:
    """All processes of a soak, and the havoc that is played with them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.done: Counter[str] = Counter()
        self.killed: list[tuple[int, float]] = []
        """Process id and moment of each worker that was killed."""
        self.pauses: list[tuple[float, float]] = []
        """When somebody was paused, from and to, in seconds since 1970; also others wait for one with a lock."""
        self.unforeseen: list[str] = []
        """Ends that nobody has caused."""
        self.workers: list[Member] = []
        self.clients: list[Member] = []
        for number in range(settings.workers):
            self._hire_worker(number)
        self.clients = [Member(f"client{number}", settings.client_command, settings, number > 0) for number in range(2)]
        self._next_havoc = time.monotonic() + settings.havoc_every

    def _hire_worker(self, number: int) -> None:
        """The first one is left alone, and gets no job that kills it."""
        is_risky = number > 0
        queues = ALL_QUEUES if is_risky else SAFE_QUEUES
        settings = self._settings
        self.workers.append(
            Member(f"worker{number}", lambda name: settings.worker_command(name, queues), settings, is_risky)
        )

    @property
    def members(self) -> list[Member]:
        return [*self.workers, *self.clients]

    def tick(self, plays_havoc: bool) -> None:
        """Wake up who has slept enough, replace who has ended, and do something to somebody when it is time."""
        for member in self.members:
            if member.wake_at is not None and time.monotonic() >= member.wake_at:
                member.send(signal.SIGCONT)
                member.wake_at = None
            self._look_after(member)
        if plays_havoc and time.monotonic() >= self._next_havoc:
            self._next_havoc = time.monotonic() + random.expovariate(1 / self._settings.havoc_every)
            self._play_havoc()

    def _look_after(self, member: Member) -> None:
        code = member.process.poll()
        if code is None:
            if member.asked_to_end_at is not None and time.monotonic() > member.asked_to_end_at + PATIENCE:
                self.unforeseen.append(f"{member.name} did not end within {PATIENCE:g} s after SIGTERM")
                member.end_for_good()
            return
        if member.is_risky and member in self.workers and code == -signal.SIGKILL:  # also while it comes to its end
            self.done["workers killed by a job"] += 1
            self.killed.append((member.pid, time.time()))
        elif member.asked_to_end_at is not None:
            self._judge_end(member, code)
        else:
            self.unforeseen.append(f"{member.name}.{member.generation} ended with {code} by itself")
        member.start()

    def _judge_end(self, member: Member, code: int) -> None:
        """After SIGTERM: a clean end, or jobs given back after the grace, or the signal came before it was heeded."""
        assert member.asked_to_end_at is not None
        was_starting = member.asked_to_end_at - member.began < START
        if code not in (0, 130) and not (was_starting and code == -signal.SIGTERM):
            self.unforeseen.append(f"{member.name} ended with {code} after SIGTERM")

    def _play_havoc(self) -> None:
        acts = [self._kill_worker] * 4 + [self._pause_worker] * 3 + [self._restart_worker] * 2
        acts += [self._kill_client] * 2 + [self._pause_client]
        if "no-claim-token" in self._settings.planted:  # what is over in a paused worker's eyes when it wakes up
            acts = [self._pause_worker]
        random.choice(acts)()

    def _some(self, members: list[Member]) -> Member | None:
        free = [member for member in members if member.is_risky and member.is_free]
        return random.choice(free) if free else None

    def _kill_worker(self) -> None:
        member = self._some(self.workers)
        if member is not None and self._kill(member):
            self.killed.append((member.pid, time.time()))
            self.done["workers killed"] += 1
            member.start()

    def _kill(self, member: Member) -> bool:
        """Kill it; return whether that is what ended it."""
        member.send(signal.SIGKILL)
        return member.process.wait() == -signal.SIGKILL

    def _pause_worker(self) -> None:
        """For longer than the lease."""
        member = self._some(self.workers)
        if member is not None:
            self._pause(member, self._settings.lease * random.uniform(1.2, 1.8))
            self.done["workers paused"] += 1

    def _pause(self, member: Member, seconds: float) -> None:
        member.send(signal.SIGSTOP)
        member.wake_at = time.monotonic() + seconds
        self.pauses.append((time.time(), time.time() + seconds))

    def _restart_worker(self) -> None:
        member = self._some(self.workers)
        if member is not None:
            member.send(signal.SIGTERM)
            member.asked_to_end_at = time.monotonic()
            self.done["workers restarted"] += 1

    def _kill_client(self) -> None:
        member = self._some(self.clients)
        if member is not None and self._kill(member):
            self.done["clients killed"] += 1
            member.start()

    def _pause_client(self) -> None:
        member = self._some(self.clients)
        if member is not None:
            self._pause(member, random.uniform(0.2, 3.0))
            self.done["clients paused"] += 1

    # The end

    def wake_everybody(self) -> None:
        for member in self.members:
            member.send(signal.SIGCONT)
            member.wake_at = None

    def dismiss_clients(self) -> None:
        self._dismiss(self.clients)
        self.clients = []

    def dismiss_workers(self) -> None:
        self._dismiss(self.workers)
        self.workers = []

    def _dismiss(self, members: list[Member]) -> None:
        for member in members:
            if member.asked_to_end_at is None:
                member.send(signal.SIGTERM)
                member.asked_to_end_at = time.monotonic()
        for member in members:
            try:
                code = member.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.unforeseen.append(f"{member.name} did not end within {PATIENCE:g} s after SIGTERM")
            else:
                self._judge_end(member, code)
            member.end_for_good()

    def close(self) -> None:
        """End everybody, whatever has happened."""
        for member in self.members:
            member.end_for_good()

    def logs(self) -> list[Path]:
        return sorted(self._settings.directory.glob("*.log"))
