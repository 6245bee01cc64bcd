"""Names that a person can see."""

from __future__ import annotations

import pytest

from ml_platform_server.visible import what_is_wrong


@pytest.mark.parametrize(
    "name",
    [
        "fraud",
        "a b",
        "Überweisung",
        "不正検知",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # a Persian word with the non-joiner that its spelling needs
        "क्\u200dष",  # a conjunct that Devanagari writes with a joiner
        "🚀",
        "❤\ufe0f",
        "👩\u200d🔬",
        "👩🏽\u200d🚀 team",
        "🏳\ufe0f\u200d🌈",
        "1\ufe0f\u20e3",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "🇩🇪",
        "\U0001fae8",  # newer than Python's tables
        "é",
        "e\u0301",
    ],
)
def test_what_a_person_can_see_is_fine(name: str) -> None:
    """Letters of every script, marks, and emoji with the invisible characters that make them one picture."""
    assert what_is_wrong(name) == ""


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("\u200b", "U+200B"),
        ("fra\u200bud", "U+200B"),
        ("\u202e", "U+202E"),
        ("a\u2066b", "U+2066"),
        ("\ufeff", "U+FEFF"),
        ("\x1b", "U+001B"),
        ("a\nb", "U+000A"),
        ("a\x7f", "U+007F"),
        ("a\x85", "U+0085"),
        ("\u00ad", "U+00AD"),
        ("a\u00a0b", "U+00A0"),
        ("\u3000", "U+3000"),
        ("\u2028", "U+2028"),
        ("\u2800", "U+2800"),
        ("\u3164", "U+3164"),
        ("a\ufe0f", "U+FE0F"),
        ("a\u200db", "U+200D"),
        ("🚀\u200d", "U+200D"),
        ("\u200d🚀", "U+200D"),
        ("a\U000e0061", "U+E0061"),
        ("\ue000", "U+E000"),
        ("\uffff", "U+FFFF"),
    ],
)
def test_what_nobody_can_see_is_named(name: str, code: str) -> None:
    """By its code point: the character itself would show nothing."""
    assert what_is_wrong(name) == f"holds the character {code}, which nobody can see"


@pytest.mark.parametrize("name", [" ", "   "])
def test_blanks_alone_are_no_name(name: str) -> None:
    """Though a blank within a name is fine."""
    assert what_is_wrong(name) == "must not be blank"
