"""The nouns of a product's title, on which WebShop's type reward rests."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.util import find_spec

from eto.environments.webshop.reward import Tagger
from eto.errors import InputError, MissingRequirement

MODELS = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm")
"""spaCy's models, the original's first."""
NOUNS = ("NOUN", "PROPN")
_WORD = re.compile(r"[^\W\d_]+")
# Words that are not nouns, in titles: articles, prepositions, conjunctions, pronouns.
_OTHERS = frozenset(
    (
        "a about all an and any are as at be by can for from has have i in into is it its more most my no "
        "not of off on one or our out over per so such than that the their then these they this those to "
        "under up use very was we will with without you your"
    ).split()
)


def load_tagger(name: str) -> Tagger:
    """`words`: every word that is not a function word, wherever spaCy is not there; else a spaCy model.

    `auto` is the first installed of `MODELS`, or `words`. The type reward of `words` differs from that
    of spaCy's small model for one purchase in twenty. Raises `InputError` for an unknown name,
    `MissingRequirement` for a model that is not installed.
    """
    if name == "auto":
        name = next((model for model in MODELS if find_spec("spacy") and find_spec(model)), "words")
    if name == "words":
        return _words
    if name not in MODELS:
        known = ", ".join(("auto", "words", *MODELS))
        raise InputError(f"unknown tagger {name!r}", where="webshop.tagger", hint=f"one of {known}")
    if not (find_spec("spacy") and find_spec(name)):
        hint = f"install spaCy and its model {name}, or use `words`"
        raise MissingRequirement(f"spaCy's {name} is not installed", where="webshop.tagger", hint=hint)
    return _spacy(name)


def _spacy(name: str) -> Tagger:
    import spacy

    pipeline = spacy.load(name)

    @lru_cache(100_000)
    def nouns(title: str) -> list[str]:
        return [token.text.lower() for token in pipeline(title) if token.pos_ in NOUNS]

    return nouns


@lru_cache(20_000)
def _words(title: str) -> list[str]:
    return [word for word in _WORD.findall(title.lower()) if word not in _OTHERS]
