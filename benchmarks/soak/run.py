"""One soak, from the empty database to the last job's end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from durablejobs import DurableJobs

from .company import Company
from .samples import Samples
from .settings import Settings
from .witness import Witness

LEASES_EVERY: Final = 0.4
TELL_EVERY: Final = 60.0


class Run:
    """Has the company work, watches it, and brings everything to an end."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        self.settings = settings
        self._say = say
        self.jobs = DurableJobs(settings.database)
        self.jobs.migrate()
        self.witness = Witness(settings)
        self.witness.prepare()
        self.samples = Samples(settings)
        self.company = Company(settings)
        self.left: list[str] = []
        """Jobs that have not ended in the end (I7)."""
        self.verified: list[dict[str, Any]] = []
        """What `durablejobs verify` says."""
        self._began = time.monotonic()
        self._next: dict[str, float] = {}

    def go_on_for(self, seconds: float) -> None:
        """The soak itself."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.company.tick(plays_havoc=True)
            self._watch(seconds)
            time.sleep(0.05)

    def _watch(self, seconds: float) -> None:
        self._every("leases", LEASES_EVERY, self.witness.look_at_leases)
        self._every("ends", min(10.0, seconds / 20), self.witness.look_at_ends)
        self._every("samples", min(5.0, seconds / 40), lambda: self.samples.take(self.company, self.witness))
        self._every("tell", TELL_EVERY, self._tell)

    def _every(self, name: str, interval: float, act: Callable[[], None]) -> None:
        now = time.monotonic()
        if now >= self._next.setdefault(name, now + interval):
            self._next[name] = now + interval
            act()

    def _tell(self) -> None:
        minutes = (time.monotonic() - self._began) / 60
        done = ", ".join(f"{number} {what}" for what, number in sorted(self.company.done.items()))
        self._say(f"[{minutes:4.0f} min] {len(self.witness.ended):,} jobs have ended; {done}")
        for problem in self.witness.changed[:3] + self.company.unforeseen[:3]:
            self._say(f"  {problem}")

    def come_to_an_end(self) -> None:
        """No more faults, no more calls: every job must end, and the rows must keep every promise."""
        self.company.wake_everybody()
        self.company.dismiss_clients()
        self._cancel_what_is_far_off()
        give_up = time.monotonic() + 120
        while self.witness.live() and time.monotonic() < give_up:
            self.company.tick(plays_havoc=False)
            self._every("ends", 2.0, self.witness.look_at_ends)
            time.sleep(0.2)
        self.left = [f"job {job} ({handler}) is {status}" for job, handler, status in self.witness.live()]
        self.witness.look_at_ends()
        self.company.dismiss_workers()
        self.witness.look_at_ends()
        self.verified = self._verify()

    def _cancel_what_is_far_off(self) -> None:
        """Clients that were killed have not come to it."""
        for job, handler, status in self.witness.live():
            if handler == "never" and status == "scheduled":
                self.jobs.cancel(job)

    def _verify(self) -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "durablejobs", "verify", "--db", self.settings.database, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=self.settings.environment, timeout=600)
        if done.returncode not in (0, 4):
            return [{"promise": "verify", "text": done.stderr.strip() or str(done.returncode), "broken": 1}]
        return [json.loads(line) for line in done.stdout.splitlines()]

    def close(self) -> None:
        """Leave no process behind."""
        self.company.close()
        self.witness.close()
        self.jobs.close()
