"""Porter's stemmer (Porter 1980, "An algorithm for suffix stripping"), as Lucene has it.

Two of its endings, `bli` and `logi`, are later changes of Porter's own, which neither the paper nor
Snowball's "porter" has.
"""

from __future__ import annotations

SHORTEST = 3
"""Characters of a word below which it stays as it is."""
_VOWELS = frozenset("aeiou")
_DOUBLE_TO_SINGLE = {
    "a": (("ational", "ate"), ("tional", "tion")),
    "c": (("enci", "ence"), ("anci", "ance")),
    "e": (("izer", "ize"),),
    "l": (("bli", "ble"), ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous")),
    "o": (("ization", "ize"), ("ation", "ate"), ("ator", "ate")),
    "s": (("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous")),
    "t": (("aliti", "al"), ("iviti", "ive"), ("biliti", "ble")),
    "g": (("logi", "log"),),
}
"""By the last letter but one, as `_REMOVED` is."""
_SHORTENED = (
    *(("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic")),
    *(("ful", ""), ("ness", "")),
)
_REMOVED = {
    "a": ("al",),
    "c": ("ance", "ence"),
    "e": ("er",),
    "i": ("ic",),
    "l": ("able", "ible"),
    "n": ("ant", "ement", "ment", "ent"),
    "o": ("ion", "ou"),
    "s": ("ism",),
    "t": ("ate", "iti"),
    "u": ("ous",),
    "v": ("ive",),
    "z": ("ize",),
}


def stem(word: str) -> str:
    """The stem of a word in lower case."""
    if len(word) < SHORTEST:
        return word
    word = _without_tense(_without_plural(word))
    if word.endswith("y") and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    for ending, instead in _DOUBLE_TO_SINGLE.get(word[-2:-1], ()):
        if word.endswith(ending):
            word = _replaced(word, ending, instead)
            break
    for ending, instead in _SHORTENED:
        if word.endswith(ending):
            word = _replaced(word, ending, instead)
            break
    return _without_final(_without_suffix(word))


def _without_plural(word: str) -> str:
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _without_tense(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    ending = next((ending for ending in ("ed", "ing") if word.endswith(ending)), None)
    if ending is None or not _has_vowel(word[: -len(ending)]):
        return word
    word = word[: -len(ending)]
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if _is_doubled(word):
        return word if word[-1] in "lsz" else word[:-1]
    return word + "e" if _measure(word) == 1 and _is_short(word) else word


def _replaced(word: str, ending: str, instead: str) -> str:
    before = word[: -len(ending)]
    return before + instead if _measure(before) > 0 else word


def _without_suffix(word: str) -> str:
    for ending in _REMOVED.get(word[-2:-1], ()):
        before = word[: -len(ending)]
        if word.endswith(ending) and (ending != "ion" or before.endswith(("s", "t"))):
            return before if _measure(before) > 1 else word
    return word


def _without_final(word: str) -> str:
    """Without a last `e`, and with one `l` where it ends on two."""
    measure = _measure(word)
    if word.endswith("e") and (measure > 1 or (measure == 1 and not _is_short(word[:-1]))):
        word = word[:-1]
    return word[:-1] if word.endswith("ll") and measure > 1 else word


def _shape(word: str) -> str:
    """`c` for each consonant and `v` for each vowel; `y` is a vowel behind a consonant."""
    shape = ""
    for letter in word:
        vowel = letter in _VOWELS or (letter == "y" and shape.endswith("c"))
        shape += "v" if vowel else "c"
    return shape


def _measure(word: str) -> int:
    """How often a consonant follows a vowel."""
    return _shape(word).count("vc")


def _has_vowel(word: str) -> bool:
    return "v" in _shape(word)


def _is_doubled(word: str) -> bool:
    """Ends on the same consonant twice."""
    return len(word) > 1 and word[-1] == word[-2] and _shape(word).endswith("c")


def _is_short(word: str) -> bool:
    """Ends on consonant, vowel, consonant, the last one neither w nor x nor y."""
    return _shape(word).endswith("cvc") and word[-1] not in "wxy"
