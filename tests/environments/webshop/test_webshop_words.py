"""The words of a text are those that Lucene's English analyzer finds."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from eto.environments.webshop.stemmer import stem
from eto.environments.webshop.words import analyse, cut

CASES = json.loads((Path(__file__).parent / "webshop_words.json").read_text(encoding="utf-8"))


def test_stems_are_equal():
    assert len(CASES["stems"]) > 1000
    assert {word: stem(word) for word in CASES["stems"]} == CASES["stems"]


def test_the_two_later_endings_of_porter_are_stemmed():
    assert analyse("technological possibly ontology") == ["technolog", "possibl", "ontolog"]


def test_words_of_all_kinds_of_characters_are_equal():
    assert len(CASES["texts"]) > 500
    assert [[text, analyse(text)] for text, _ in CASES["texts"]] == CASES["texts"]


@pytest.mark.parametrize(("unit", "count", "rest", "lengths"), CASES["long"])
def test_long_words_are_cut_at_the_same_places(unit, count, rest, lengths):
    assert list(map(len, analyse(unit * count + rest))) == lengths


def test_one_character_decides_for_all_of_a_text_but_nothing_else():
    """A text in ASCII is cut by a pattern of its own; it must be the same one."""
    for text, _ in CASES["texts"]:
        plain = text.encode("ascii", "replace").decode()
        assert cut(plain + " \u00e9") == [*cut(plain), "\u00e9"]


def test_words_are_cut_and_stemmed_as_for_lucene():
    assert analyse("The women's SHOES, size 10.5 and 1,000 t-shirts!") == [
        *("women", "shoe", "size", "10.5", "1,000", "t", "shirt")
    ]
    assert analyse("o'clock at size:large") == ["o'clock", "size:larg"], "joined between letters"
    assert analyse("is the a") == []
    assert analyse("us as running") == ["us", "run"]
    assert analyse("") == analyse("\ud800 \n") == []


@pytest.mark.parametrize("unit", ["_", "\u200d", "a", "\u00e9", "_\u00e9", "#\u0301", "1,", "a.", "\u2139"])
def test_a_text_without_an_end_takes_no_time_without_an_end(unit):
    started = time.process_time()
    cut("\u00e9" + unit * 10_000)
    assert time.process_time() - started < 5
