"""The claims that a worker holds: which jobs it knows to be its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from .jobs import ClaimedJob


class HeldClaims:
    """By job, the newest claim.

    A worker that was paused for longer than its lease may have lost a job to others, and claim it again while its older
    run goes on. When that one ends, the newer claim is still held.
    """

    def __init__(self) -> None:
        self._tokens: dict[int, int] = {}
        self.tokens: Final[Mapping[int, int]] = MappingProxyType(self._tokens)
        """The token of each job's claim."""

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, claimed: Iterable[ClaimedJob]) -> None:
        """Hold these."""
        self._tokens.update((job.id, job.claim_token) for job in claimed)

    def end(self, claimed: Iterable[ClaimedJob]) -> set[int]:
        """Hold these no more; return the ids of the jobs that are not ours any more by any claim."""
        ended = {job.id for job in claimed if self._tokens.get(job.id) == job.claim_token}
        for job_id in ended:
            del self._tokens[job_id]
        return ended
