"""The words a text is found by, as Lucene's analyzer for English has them.

Cut by Unicode's rules for word boundaries (UAX #29) and emoji (UTS #51), then without a possessive
ending, in lower case, without stop words, stemmed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import accumulate

from eto.environments.webshop import word_classes as classes
from eto.environments.webshop.stemmer import stem

LONGEST = 255
"""UTF-16 units after which a word is cut, and the rest is read as if it stood alone."""
_STOP_WORDS = frozenset(
    (
        "a an and are as at be but by for if in into is it no not of on or such that the their then there "
        "these they this to was will with"
    ).split()
)
_POSSESSIVE = tuple(mark + letter for mark in "'\u2019\uff07" for letter in "sS")
_LAST_UNIT = "\uffff"
"""The last character of one UTF-16 unit."""
_ANY = "surrogatepass"
_JOINER = "\u200d"


def _characters(ranges: str) -> str:
    """Ranges of code points for a class of characters in a regular expression."""
    ends = (part.partition("-") for part in ranges.split())
    return "".join(f"\\U{first:0>8}-\\U{last or first:0>8}" for first, _, last in ends)


_EXTEND = f"[{_characters(classes.EXTEND)}]"
_EXTEND_OR_SELECTOR = f"[{_characters(classes.EXTEND)}\ufe0e\ufe0f]"


def _one(ranges: str) -> str:
    return f"[{_characters(ranges)}]{_EXTEND_OR_SELECTOR}*+"


def _word_pattern() -> str:
    """Words of letters and digits, numbers, and Katakana."""
    letter, hebrew, digit = _one(classes.LETTER), _one(classes.HEBREW), _one(classes.DIGIT)
    connector, quote = _one(classes.CONNECTOR), f"{_EXTEND_OR_SELECTOR}*+"
    part = (
        # First what nearly all words are, for speed alone.
        "(?:(?:[A-Za-z]+(?=[A-Za-z0-9 ])"
        f"|{hebrew}(?:\"{quote}{hebrew}|'{quote})"
        f"|{digit}(?:{_one(classes.MID_DIGIT)}{digit})*"
        f"|{letter}(?:{_one(classes.MID_LETTER)}{letter})*)+"
        f"|(?:{_one(classes.KATAKANA)})+)"
    )
    return f"(?:{connector}){{,{LONGEST}}}+{part}(?:(?:{connector})++{part})*(?:{connector})*+"


def _emoji_pattern() -> str:
    """Pictures, alone or joined, keycaps and flags."""
    picture, base = f"[{_characters(classes.EMOJI)}]", f"[{_characters(classes.EMOJI_BASE)}]"
    tone, flag = f"[{_characters(classes.TONE)}]", _one(classes.FLAG)
    joiners = f"{_JOINER}{{,{LONGEST}}}+"
    element = f"(?:(?:{joiners}{base}{_EXTEND}*)?{tone}{_EXTEND}*|{joiners}{picture}{_EXTEND}*\ufe0f?)"
    tags = "[\U000e0020-\U000e007e]+\U000e007f"
    return (
        f"{element}(?:(?:(?:(?<={_JOINER})|{_JOINER}){element})+|{tags})?"
        f"|[0-9#*]{_EXTEND}*\ufe0f?\u20e3{_EXTEND}*"
        f"|{flag}{flag}"
    )


def _other_pattern() -> str:
    """Scripts without blanks between words, and ideographs."""
    return f"(?:{_one(classes.COMPLEX)})+|{_one(classes.SINGLE)}"


_PATTERNS = (_word_pattern(), _emoji_pattern(), _other_pattern())
_WORD = re.compile("|".join(_PATTERNS))
_LETTER_EMOJI = re.compile(f"[{_characters(classes.LETTER_EMOJI)}]")
# The same for a text in ASCII, as most are.
_ASCII_PART = "(?:[0-9](?:[.,;'][0-9])*|[A-Za-z](?:[.:'][A-Za-z])*)+"
_ASCII_WORD = re.compile(f"_{{,{LONGEST}}}+{_ASCII_PART}(?:_++{_ASCII_PART})*_*+")


def analyse(text: str) -> list[str]:
    """The stems a text is found by, in its order."""
    return [term for word in cut(text) if (term := _analysed(word))]


def cut(text: str) -> list[str]:
    """The words of a text as they stand in it."""
    ascii_only = text.isascii()
    words = (_ASCII_WORD if ascii_only else _WORD).findall(text)
    # A letter that is a picture may begin a picture that is longer than the word, or the other way round.
    exact = ascii_only or not _LETTER_EMOJI.search(text)
    if exact and max(map(len, words), default=0) <= LONGEST // (1 if ascii_only else 2):
        return words
    return list(_longest(text))


def _longest(text: str) -> Iterator[str]:
    """The longest word at each place, cut where it is too long."""
    start, patterns = _start_and_patterns()
    position = 0
    while candidate := start.search(text, position):
        first = candidate.start()
        limit = _limit(text, first)
        ends = (match.end() for pattern in patterns if (match := pattern.match(text, first, limit)))
        position = max(ends, default=first)
        if position > first:
            yield text[first:position]
        else:
            position = first + 1


@cache
def _start_and_patterns() -> tuple[re.Pattern[str], tuple[re.Pattern[str], ...]]:
    """What a word may begin with, and each kind of word alone."""
    kinds = "LETTER DIGIT KATAKANA CONNECTOR COMPLEX SINGLE EMOJI TONE FLAG".split()
    first = "".join(_characters(getattr(classes, class_name)) for class_name in kinds)
    return re.compile(f"[{first}#*{_JOINER}]"), tuple(map(re.compile, _PATTERNS))


def _limit(text: str, first: int) -> int:
    """Up to where a word that begins at `first` may reach."""
    last = min(len(text), first + LONGEST)
    if max(text[first:last]) <= _LAST_UNIT:
        return last
    units = accumulate(1 + (letter > _LAST_UNIT) for letter in text[first:last])
    return first + sum(count <= LONGEST for count in units)


@lru_cache(200_000)
def _analysed(word: str) -> str:
    """The stem of a word as it stands in a text; empty where nothing is found by it."""
    if word.endswith(_POSSESSIVE):
        word = word[:-2]
    # Character by character: only then is a capital sigma at the end what Lucene makes of it.
    lower = "".join(letter.lower()[:1] for letter in word)
    if lower in _STOP_WORDS:
        return ""
    return stem(lower) if max(lower, default="") <= _LAST_UNIT else _merged(stem(_split(lower)))


def _split(word: str) -> str:
    """Characters of two UTF-16 units as two, as the stemmer counts them."""
    units = word.encode("utf-16-be", _ANY)
    return "".join(chr(units[at] << 8 | units[at + 1]) for at in range(0, len(units), 2))


def _merged(units: str) -> str:
    return units.encode("utf-16-be", _ANY).decode("utf-16-be", _ANY)
