"""Text of strangers in logs and on terminals: nothing in it is obeyed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durablejobs.escaping import escaped


@pytest.mark.parametrize("text", ["", "plain text 1/2 ~", "Grüße, Zoë", "日本語", "🙂", "a\\x1b stays what it was"])
def test_harmless_text_is_unchanged(text: str) -> None:
    assert escaped(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("two\nlines\r\n", "two\\nlines\\r\\n"),
        ("a\tb", "a\\tb"),
        ("\x00\x7f", "\\x00\\x7f"),
        ("\x85\x9b", "\\x85\\x9b"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\u2066\u2069\u200b\ufeff", "\\u2066\\u2069\\u200b\\ufeff"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\ud800", "\\ud800"),
        ("\ue000", "\\ue000"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_a_terminal_may_obey_is_written_as_its_code(text: str, shown: str) -> None:
    assert escaped(text) == shown


@given(st.text())
def test_the_result_is_one_line_without_control_or_format_characters_and_can_be_encoded(text: str) -> None:
    shown = escaped(text)
    assert shown.splitlines() in ([], [shown])
    assert {unicodedata.category(character) for character in shown}.isdisjoint({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
    shown.encode()


@given(st.text())
def test_escaping_twice_changes_nothing_more(text: str) -> None:
    assert escaped(escaped(text)) == escaped(text)
