"""What a worker and its child processes say to each other."""

from __future__ import annotations

import json
import multiprocessing

import pytest

from durablejobs.outcomes import Errored, Failure, GaveUp, Outcome, Settled, Snoozed, Stopped, Succeeded
from durablejobs.wire import Link, Message, outcome_from_json, outcome_to_json

FAILURE = Failure("exception", "ValueError: \u2028 ü", "Traceback …")


@pytest.mark.parametrize(
    "outcome",
    [
        Succeeded(None),
        Succeeded('{"a": "ü"}'),
        Settled("1"),
        Errored(FAILURE, 2.5),
        GaveUp(FAILURE),
        Snoozed(3.0),
        Stopped(Failure("cancel", "not wanted")),
    ],
)
def test_an_outcome_comes_through_as_it_was(outcome: Outcome) -> None:
    assert outcome_from_json(json.loads(json.dumps(outcome_to_json(outcome)))) == outcome


def test_messages_arrive_in_order_and_the_end_of_the_other_side_is_an_error() -> None:
    ours, theirs = multiprocessing.Pipe()
    here, there = Link(ours), Link(theirs)
    there.send("ready")
    there.send("ended", ["x" * 1000])
    assert here.receive() == Message("ready", None)
    assert here.receive() == Message("ended", ["x" * 1000])
    theirs.close()
    with pytest.raises(EOFError):
        here.receive()
    ours.close()
