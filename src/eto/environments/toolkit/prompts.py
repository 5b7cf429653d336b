"""What environments' prompts share: two styles of answer, two lengths of instruction, experts' thoughts.

Style "act" is an action alone, "react" a thought and an action (ReAct, Yao et al. 2022, arXiv:2210.03629).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from eto.environments.toolkit.answers import written_answer
from eto.errors import InputError

Style = Literal["act", "react"]
Length = Literal["short", "long"]
STYLES = ("act", "react")
LENGTHS = ("short", "long")
ONE_ACTION = " Answer with one action."


def react_form(thought: str, action: str) -> str:
    """The sentence that asks for a thought and an action, after an instruction."""
    return f" First think, then act, in this form:\n{written_answer(thought, action)}"


def check_forms(options: Mapping[str, Any], suite: str) -> None:
    """Raises `InputError` where `style` or `prompt` of `options` is none of ours."""
    for name, known in (("style", STYLES), ("prompt", LENGTHS)):
        if options[name] not in known:
            problem, hint = f"unknown choice {options[name]!r}", f"one of {', '.join(known)}"
            raise InputError(problem, where=f"{suite}.{name}", hint=hint)


def in_style(style: str, actions: Sequence[str], thoughts: Sequence[tuple[str, str]]) -> list[str]:
    """An expert's answers: `actions`, with style "react" each behind a thought.

    thoughts: (prefix of an action, sentence), the first that fits is taken; `{}` in it stands for the
        rest of the action.
    """
    if style == "act":
        return list(actions)
    return [written_answer(_thought(action, thoughts), action) for action in actions]


def _thought(action: str, thoughts: Sequence[tuple[str, str]]) -> str:
    for prefix, sentence in thoughts:
        if action.startswith(prefix):
            return sentence.replace("{}", action[len(prefix) :].strip())
    return "This comes next."
