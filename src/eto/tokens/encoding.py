"""Text -> token ids, in which special tokens come from the chat template alone.

Text that spells a special token, in a prompt, an observation or an action, is encoded as the
plain text it is; an unpaired surrogate becomes U+FFFD.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from eto.data.texts import whole

BREAK = "\ufdd0"
"""Put inside text that spells a special token; encoding stops and starts again there. A
Unicode noncharacter, which no text may contain."""

OPEN, CLOSE = "<think>", "</think>"
"""What encloses an agent's thoughts; in its own turns these are never quoted."""

STRETCHES = 4096
"""Stretches between special tokens whose ids are remembered."""
_ANCHOR = 16
"""Characters before a turn with which its first token is found, for tokenizers that put a space
before every text they encode."""


class Encoding:
    """The tokenizer, and which of its tokens are special."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {})
        named = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
        # A family's end of turn is often special without being one of the named tokens.
        self.special: dict[int, str] = dict(named) | {i: t.content for i, t in added.items() if t.special}
        self.spelt = _any_of(self.special.values())
        self._spelt_by_agent = _any_of(set(self.special.values()) - {OPEN, CLOSE})
        self._thought_marks = {i for i, text in self.special.items() if text in (OPEN, CLOSE)}
        self._prepends: dict[str, bool] = {}
        # A special token that takes in the space before it makes two stretches one.
        self._apart = not any(token.lstrip for token in added.values())
        self._stretch = lru_cache(STRETCHES)(self.encode)

    def id_of(self, special: str) -> int:
        """The id of a special token's text."""
        return next(i for i, text in self.special.items() if text == special)

    def quote(self, text: str, *, agent: bool = False) -> str:
        """`text` with every special token it spells broken in two; `agent`: thoughts' marks stay."""
        spelt = self._spelt_by_agent if agent else self.spelt
        return spelt.sub(lambda match: match[0][0] + BREAK + match[0][1:], whole(text).replace(BREAK, ""))

    def quoted(self, value: Any) -> Any:
        """A JSON value with all its texts quoted, keys included."""
        if isinstance(value, str):
            return self.quote(value)
        if isinstance(value, Mapping):
            return {self.quote(str(key)): self.quoted(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.quoted(inner) for inner in value]
        return value

    def encode(self, text: str) -> list[int]:
        """Ids of quoted text."""
        pieces = whole(text).split(BREAK)
        return [i for piece in pieces for i in self.tokenizer.encode(piece, add_special_tokens=False)]

    def encode_again(self, text: str) -> list[int]:
        """`encode` of a text most of which was encoded before.

        Special tokens part a text into stretches that do not depend on each other; those are remembered.
        """
        if not self._apart:
            return self.encode(text)
        starts = [0, *(match.start() for match in self.spelt.finditer(text)), len(text)]
        return [i for start, end in pairwise(starts) for i in self._stretch(text[start:end])]

    def encode_after(self, opener: str, text: str) -> list[int]:
        """Ids of quoted text that continues `opener`, which ends on a marker for the agent to write.

        Some tokenizers put a space before what they encode. The first piece of `text` is then
        encoded together with the end of `opener`, whose ids are taken off.
        """
        opener = opener[-_ANCHOR:]
        if opener not in self._prepends:
            apart = self.encode(opener) + self.encode("north")
            self._prepends[opener] = self.encode(opener + "north") != apart
        first, *rest = text.split(BREAK)
        if self._prepends[opener] and first:
            before, both = self.encode(opener), self.encode(opener + first)
            if both[: len(before)] == before:
                return both[len(before) :] + (self.encode(BREAK.join(rest)) if rest else [])
        return self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids without special tokens, except for thoughts' marks."""
        if not self._thought_marks.isdisjoint(ids):
            ids = [i for i in ids if i not in self.special or i in self._thought_marks]
            return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def as_written(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens included."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _any_of(texts: Any) -> re.Pattern[str]:
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
