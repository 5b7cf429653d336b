"""text from elsewhere: whole where UTF-8 must hold it, and without effect where it is shown."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eto.data.texts import brief, markdown_code, markdown_text, shorten, shown, whole

ANY = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain [/b] :smile: é", "plain [/b] :smile: é"),
        ("cut \ud83d", "cut \ufffd"),
        ("\ude00 late", "\ufffd late"),
        ("\ud83d\ude00", "\U0001f600"),
        ("a\ud83dz\udcff", "a\ufffdz\ufffd"),
    ],
)
def test_halves_of_pairs(text, expected):
    assert whole(text) == expected


@given(ANY)
def test_whole_text_has_a_utf8_form_and_stays(text):
    whole(text).encode()
    assert whole(whole(text)) == whole(text)


@given(ANY)
def test_shown_text_moves_no_cursor(text):
    controls = {c for c in shown(text) if unicodedata.category(c) in ("Cc", "Cs")}
    assert controls <= {"\n", "\t"}
    assert len(shown(text, line=True).splitlines() or [""]) == 1


def test_escapes_are_readable():
    assert shown("\x1b[2J\ra\x9b\u202e") == r"\x1b[2J\ra\x9b\u202e"
    assert shown("a\nb\tc") == "a\nb\tc" and shown("a\nb\tc", line=True) == r"a\nb\tc"


def test_markdown_keeps_its_form():
    assert markdown_text("a|b_c [x] $y$ `z` _w_ <i>\n") == r"a\|b_c \[x\] \$y\$ \`z\` \_w\_ \<i\>\\n"
    assert markdown_code("plain") == "`plain`"
    assert markdown_code("a`b|c") == r"`` a`b\|c ``"


def test_values_of_any_size_are_shown_in_brief():
    assert brief("x") == "'x'"
    assert len(brief(["y" * 1000] * 1000)) < 100
    assert brief(10**5000) == "a int too large to show"
    assert shorten("a" * 10, 10) == "a" * 10
