"""What may be passed to a job, and how the culprit among a thousand values is named."""

from __future__ import annotations

import enum
import json
import math
import uuid
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durablejobs import ArgumentsError
from durablejobs.arguments import DEEPEST, encode_json

LIMIT = 1024 * 1024

Point = namedtuple("Point", "x y")


class Colour(enum.StrEnum):
    RED = "red"


@dataclass
class Person:
    name: str


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner, max_size=4)
    ),
    max_leaves=25,
)
anything = st.recursive(
    scalars | st.floats() | st.text(st.characters()) | st.binary(max_size=3) | st.dates() | st.decimals(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(), max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=10,
)


def with_lists(value: Any) -> Any:
    """The value with every tuple as a list, which is how it comes back."""
    if isinstance(value, dict):
        return {key: with_lists(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [with_lists(member) for member in value]
    return value


@given(json_values)
def test_what_is_json_comes_back_equal_with_tuples_as_lists(value: Any) -> None:
    assert json.loads(encode_json(value, "args", LIMIT)) == with_lists(value)


@given(anything)
def test_anything_else_is_either_refused_or_comes_back_equal(value: Any) -> None:
    try:
        text = encode_json(value, "args", LIMIT)
    except ArgumentsError:
        return
    assert json.loads(text) == with_lists(value)
    text.encode("utf-8")
    assert "\0" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Point(1, 2), "[1, 2]"),
        (OrderedDict(a=1), '{"a": 1}'),
        (Colour.RED, '"red"'),
        ({Colour.RED: Colour.RED}, '{"red": "red"}'),
        (True, "true"),
        (-0.0, "-0.0"),
        ("grün 😀", '"grün 😀"'),
    ],
)
def test_relatives_of_json_types_are_stored_as_what_they_are_related_to(value: object, text: str) -> None:
    assert encode_json(value, "args", LIMIT) == text


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (datetime(2026, 1, 31), "datetime is not JSON: pass a string, for example .isoformat()"),  # noqa: DTZ001
        (date(2026, 1, 31), "date is not JSON: pass a string, for example .isoformat()"),
        (timedelta(1), "timedelta is not JSON: pass a number of seconds"),
        (b"abc", "bytes is not JSON: pass a string, for example base64"),
        ({1, 2}, "set is not JSON: pass a list"),
        (frozenset(), "frozenset is not JSON: pass a list"),
        (Decimal("1.5"), "Decimal is not JSON: pass a string"),
        (uuid.UUID(int=7), "UUID is not JSON: pass a string"),
        (Person("Ada"), "Person is not JSON: pass None, bool, int, float, str, list or dict"),
        (object, "type is not JSON"),
        (1j, "complex is not JSON"),
        (range(3), "range is not JSON"),
    ],
)
def test_what_is_not_json_is_refused_with_a_hint(value: object, hint: str) -> None:
    with pytest.raises(ArgumentsError) as caught:
        encode_json([value], "args", LIMIT)
    assert str(caught.value).startswith(f"args[0]: {hint}")
    assert caught.value.path == "args[0]"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_know_are_refused(number: float) -> None:
    with pytest.raises(ArgumentsError, match=r"^kwargs\.x: (nan|inf|-inf) is not JSON: pass None or a string$"):
        encode_json({"x": number}, "kwargs", LIMIT)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"user": {"born": date(1815, 12, 10)}}, "kwargs.user.born"),
        ({"users": [{"tags": ("a", {1})}]}, "kwargs.users[0].tags[1]"),
        ([[], [1, [2, b""]]], "kwargs[1][1][1]"),
        ({"a": "ok", "b": "\udc80"}, "kwargs.b"),
        ({"a": ["ok", "nul\0"]}, "kwargs.a[1]"),
        ({"a": {3: "x"}}, "kwargs.a"),
        ({"a": {"\0": "x"}}, "kwargs.a"),
        ({"a": {"\udc80": "x"}}, "kwargs.a"),
        ({"a": {None: "x"}}, "kwargs.a"),
    ],
)
def test_the_path_leads_to_the_culprit(value: object, path: str) -> None:
    with pytest.raises(ArgumentsError) as caught:
        encode_json(value, "kwargs", LIMIT)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")


def test_keys_that_are_not_strings_are_named_with_their_type() -> None:
    with pytest.raises(ArgumentsError, match=r"^kwargs: the key 3 is int, JSON keys are strings$"):
        encode_json({3: "x"}, "kwargs", LIMIT)


def test_a_lone_surrogate_is_refused_and_its_place_is_named() -> None:
    with pytest.raises(ArgumentsError, match=r"^args\[0\]: character 2 is a lone surrogate"):
        encode_json(["ab\udc80"], "args", LIMIT)


def test_a_nul_character_is_refused() -> None:
    with pytest.raises(ArgumentsError, match=r"^args\[0\]: text with a NUL character cannot be stored$"):
        encode_json(["a\0b"], "args", LIMIT)


def test_a_hundred_levels_are_stored_and_one_more_is_refused() -> None:
    assert encode_json(nested(DEEPEST), "args", LIMIT) == "[" * 100 + "]" * 100
    with pytest.raises(ArgumentsError, match="nested deeper than 100: pass a reference instead"):
        encode_json(nested(DEEPEST + 1), "args", LIMIT)


def test_a_list_that_contains_itself_is_refused_and_not_walked_for_ever() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ArgumentsError, match="nested deeper than 100"):
        encode_json(endless, "args", LIMIT)


def test_the_size_limit_counts_bytes_and_names_both_numbers() -> None:
    assert encode_json(["x" * 96], "args", 100) == '["' + "x" * 96 + '"]'
    with pytest.raises(ArgumentsError, match=r"^args: 101 bytes of JSON are over the limit of 100: store it elsewhere"):
        encode_json(["x" * 97], "args", 100)
    assert encode_json(["ü" * 48], "args", 100)
    with pytest.raises(ArgumentsError, match=r"^args: 102 bytes"):
        encode_json(["ü" * 49], "args", 100)


def test_an_integer_too_long_to_be_written_is_refused_like_any_other_culprit() -> None:
    """Python itself refuses to write integers of more than 4,300 digits."""
    with pytest.raises(ArgumentsError, match=r"^args: an integer of more than 4,300 digits cannot be written"):
        encode_json({"n": 10**5000}, "args", LIMIT)
    with pytest.raises(ArgumentsError, match="4,300 digits"):
        encode_json([1, [10**5000]], "args", LIMIT)
    assert json.loads(encode_json([10**4000], "args", LIMIT)) == [10**4000]
