"""What a worker knows to be its own."""

from __future__ import annotations

from durablejobs.held_claims import HeldClaims
from durablejobs.jobs import ClaimedJob


def claimed(job_id: int, token: int = 1) -> ClaimedJob:
    return ClaimedJob(job_id, token, "mail", "default", "[]", "{}", 0, "", 1, 20, 0, None, "{}")


def test_what_was_claimed_is_held_until_it_ends() -> None:
    held = HeldClaims()
    held.add([claimed(1), claimed(2)])
    assert held.tokens == {1: 1, 2: 1}
    assert held.end([claimed(1)]) == {1}
    assert held.end([claimed(1), claimed(7)]) == set()
    assert (len(held), held.tokens) == (1, {2: 1})


def test_the_end_of_a_lost_run_leaves_the_newer_claim_of_the_same_job() -> None:
    held = HeldClaims()
    held.add([claimed(1)])
    held.add([claimed(1, token=3)])
    assert held.end([claimed(1)]) == set()
    assert held.tokens == {1: 3}
    assert held.end([claimed(1, token=3)]) == {1}
    assert not held
