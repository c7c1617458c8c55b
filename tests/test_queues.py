"""`--queues`: strict, weighted, all; and the mistakes that goworker's users know."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durablejobs import ConfigurationError
from durablejobs.queues import QueuePlan, parse_queues

names = st.text("abcXYZ019_.:-", min_size=1, max_size=8)


def test_none_means_all_queues() -> None:
    plan = parse_queues(None)
    assert plan.serves_all
    assert list(islice(plan.orders(), 3)) == [(), (), ()]
    assert str(plan) == "all"


def test_names_without_weights_are_served_in_strict_order_at_every_turn() -> None:
    plan = parse_queues("mail,default,bulk")
    assert not plan.serves_all
    assert list(islice(plan.orders(), 3)) == [("mail", "default", "bulk")] * 3


def test_one_queue_is_enough() -> None:
    assert parse_queues("mail") == QueuePlan(("mail",), (0,))
    assert list(islice(parse_queues("mail=7").orders(), 2)) == [("mail",), ("mail",)]


def test_spaces_around_names_do_not_matter() -> None:
    assert parse_queues(" mail , default ") == parse_queues("mail,default")
    assert parse_queues("mail=3, default=1") == parse_queues("mail=3,default=1")


def test_three_to_one_leads_three_of_four_turns_and_spreads_them() -> None:
    leaders = [order[0] for order in islice(parse_queues("mail=3,default=1").orders(), 8)]
    assert leaders == ["mail", "mail", "default", "mail", "mail", "mail", "default", "mail"]


@given(st.dictionaries(names, st.integers(1, 9), min_size=1, max_size=5))
def test_each_queue_leads_as_often_as_its_weight_says_and_every_order_names_all(weights: dict[str, int]) -> None:
    plan = parse_queues(",".join(f"{name}={weight}" for name, weight in weights.items()))
    rounds = 3
    turns = list(islice(plan.orders(), rounds * sum(weights.values())))
    assert Counter(order[0] for order in turns) == {name: rounds * weight for name, weight in weights.items()}
    assert all(sorted(order) == sorted(weights) for order in turns)


@given(st.lists(names, min_size=1, max_size=5, unique=True), st.data())
def test_a_plan_is_written_as_it_is_read(queues: list[str], data: st.DataObject) -> None:
    weighted = data.draw(st.booleans())
    text = ",".join(f"{name}={data.draw(st.integers(1, 1000))}" if weighted else name for name in queues)
    assert str(parse_queues(text)) == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "an empty name in ''"),
        ("mail,", "an empty name in 'mail,'"),
        (",mail", "an empty name"),
        ("mail,,default", "an empty name"),
        ("=3", "an empty name"),
        ("mail=3,default", "queue 'default' has no weight, others have; write default=1"),
        ("mail,default=1", "queue 'mail' has no weight, others have; write mail=1"),
        ("mail=", "queue 'mail' has '=' but no weight; write mail=1"),
        ("mail=x", "the weight of queue 'mail' is not a whole number: 'x'"),
        ("mail=1.5", "the weight of queue 'mail' is not a whole number: '1.5'"),
        ("mail=-1", "the weight of queue 'mail' is not a whole number: '-1'"),
        ("mail=٣", "the weight of queue 'mail' is not a whole number"),
        ("mail=1=2", "the weight of queue 'mail' is not a whole number: '1=2'"),
        ("mail=0", "the weight of queue 'mail' must be 1 to 1000, not 0"),
        ("mail=1001", "the weight of queue 'mail' must be 1 to 1000, not 1001"),
        ("mail,mail", "a queue is named twice in 'mail,mail'"),
        ("mail=1,mail=2", "a queue is named twice"),
        ("ma il", "must be 1-200 of"),
        ("mail;default", "must be 1-200 of"),
        ("x" * 201, "must be 1-200 of"),
    ],
)
def test_a_mistake_is_named(text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_queues(text)
    assert caught.value.setting == "queues"
    assert caught.value.problem.startswith(problem)


@pytest.mark.parametrize("queues", [["mail", "default"], [], ("mail",), 7, b"mail"])
def test_what_is_no_text_is_refused_with_the_right_form(queues: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^queues: must be a text such as 'mail,default' or 'mail=3,default=1'"
    ):
        parse_queues(queues)
