"""Arrays come out of PostgreSQL as they went in."""

from __future__ import annotations

from enum import StrEnum

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durablejobs.store.arrays import array_text

from ... import postgres

TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(st.lists(TEXTS | st.sampled_from(["NULL", "", '"', "\\", "{}", "a,b"]) | st.none(), min_size=1))
def test_texts_come_out_as_they_went_in(postgres_url: str, texts: list[str | None]) -> None:
    with postgres.admin(postgres_url) as connection:
        assert connection.execute("SELECT %s::text[]", (array_text(texts),)).fetchone() == (texts,)


class Color(StrEnum):
    RED = 'dark "red", {1}'
    BLUE = "blue"


@pytest.mark.parametrize("colors", [[Color.RED, Color.BLUE], [Color.BLUE, None], [Color.RED, "blue", None]])
def test_texts_of_a_class_of_their_own_are_texts(postgres_url: str, colors: list[str | None]) -> None:
    with postgres.admin(postgres_url) as connection:
        assert connection.execute("SELECT %s::text[]", (array_text(colors),)).fetchone() == (colors,)


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), min_size=1))
def test_numbers_come_out_as_they_went_in(postgres_url: str, numbers: list[int | None]) -> None:
    with postgres.admin(postgres_url) as connection:
        assert connection.execute("SELECT %s::bigint[]", (array_text(numbers),)).fetchone() == (numbers,)


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(st.lists(st.floats(allow_nan=False) | st.none(), min_size=1))
def test_fractions_come_out_as_they_went_in(postgres_url: str, numbers: list[float | None]) -> None:
    with postgres.admin(postgres_url) as connection:
        assert connection.execute("SELECT %s::float8[]", (array_text(numbers),)).fetchone() == (numbers,)


def test_a_text_with_a_nul_is_refused_and_not_split(postgres_url: str) -> None:
    with postgres.admin(postgres_url) as connection, pytest.raises(psycopg.DataError, match="NUL"):
        connection.execute("SELECT %s::text[]", (array_text(["a", "b\0c"]),))
