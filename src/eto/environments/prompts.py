"""What environments tell an agent: two styles of answer, two lengths of instruction, experts' thoughts.

Style "act" is an action alone, "react" a thought and an action (ReAct, Yao et al. 2022, arXiv:2210.03629).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from eto.environments.answers import written_answer
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
            problem, mend = f"unknown choice {options[name]!r}", f"one of {', '.join(known)}"
            raise InputError(problem, where=f"{suite}.{name}", mend=mend)


def in_style(style: str, actions: Sequence[str], thoughts: Sequence[tuple[str, str]]) -> list[str]:
    """An expert's answers: `actions`, with style "react" each behind a thought.

    thoughts: (beginning of an action, sentence), the first that fits is taken; `{}` in it stands for the
        rest of the action.
    """
    if style == "act":
        return list(actions)
    return [written_answer(_thought(action, thoughts), action) for action in actions]


def _thought(action: str, thoughts: Sequence[tuple[str, str]]) -> str:
    for beginning, sentence in thoughts:
        if action.startswith(beginning):
            return sentence.replace("{}", action[len(beginning) :].strip())
    return "This comes next."


# ScienceWorld. ------------------------------------------------------------------------------------

_SCIENCE = "You act in a text world."
_SCIENCE_LONG = (
    "You do an experiment in a text world: rooms with doors, things in them and an agent, which is you. Do "
    "what the task says, step by step and in its order. To focus on a thing is an answer: do it only where "
    "the task asks for it, for a wrong one ends the episode. A is a thing, B another one; call them as the "
    "texts do. Actions:\n"
)
_SCIENCE_ACTIONS = (
    "look around, look at A, look in A: see what is there",
    "inventory, task: what you carry, what you are to do",
    "go to ROOM: through an open door",
    "open A, close A: a door or a container",
    "pick up A, put down A, move A to B",
    "pour A in B, dunk A in B, mix A: liquids, and what a container holds",
    "activate A, deactivate A: a device",
    "use A, use A on B: a tool",
    "read A, eat A, flush A",
    "focus on A: name the thing that the task asks for",
    "wait, wait1: let ten steps pass, or one",
)
_SCIENCE_TELEPORT = "teleport to ROOM: at once"
_SCIENCE_CIRCUIT = "connect A to B, disconnect A: parts of a circuit, by their ends"
_SCIENCE_AMBIGUOUS = "Where several things are meant, answer with the number of the one you mean."

SCIENCEWORLD_THOUGHTS = (
    ("look around", "I see what is here before I go on."),
    ("look", "A closer look tells more."),
    ("go to ", "What I need is on the way through the {}."),
    ("teleport to ", "I have to be in the {}."),
    ("open ", "It has to be open first: {}."),
    ("close ", "It should be closed: {}."),
    ("pick up ", "I take it with me: {}."),
    ("put down ", "I do not need to carry it: {}."),
    ("focus on ", "This is what the task asks for: {}."),
    ("move ", "It belongs elsewhere: {}."),
    ("connect ", "The circuit needs this link."),
    ("disconnect ", "This link has to go."),
    ("pour ", "The parts have to come together."),
    ("dunk ", "The parts have to come together."),
    ("mix ", "All parts are there, so I mix them: {}."),
    ("activate ", "It has to be on: {}."),
    ("deactivate ", "It is no longer needed: {}."),
    ("use ", "This tool tells me more."),
    ("read ", "It may say what to do: {}."),
    ("wait", "This takes time."),
)


def scienceworld_instruction(style: str, prompt: str, teleport: bool, circuits: bool) -> str:
    """The system message; the long one lists the actions, with those that not every task has."""
    if prompt == "short":
        one_action = " Answer with one action, such as: look around, go to kitchen."
        text = _SCIENCE
    else:
        actions = [*_SCIENCE_ACTIONS]
        actions += [_SCIENCE_TELEPORT] * teleport + [_SCIENCE_CIRCUIT] * circuits
        text = _SCIENCE_LONG + "\n".join([*actions, _SCIENCE_AMBIGUOUS])
        one_action = ONE_ACTION
    return text + (one_action if style == "act" else react_form("what you make of it", "look around"))


# TextWorldExpress. --------------------------------------------------------------------------------

_MOVING = "look around, inventory, move DIRECTION, open door to DIRECTION"
TEXTWORLD_RULES = {
    "arithmetic": (
        "Take and read the math problem, work it out, take the things whose number is the answer, and put "
        "them in the box; anything else in the box loses. Actions: look around, inventory, take A, read A, "
        "put A in B."
    ),
    "coin": f"Go through the rooms until you see the coin, and take it. Actions: {_MOVING}, take A.",
    "cookingworld": (
        "Read the cookbook, gather what the recipe names, cut it as it says with the knife in your hands, "
        "cook what it says on the right device, then prepare the meal and eat it. What is spoiled by the "
        f"wrong cut or heat loses. Actions: {_MOVING}, open A, close A, take A, put A in B, read A, chop A, "
        "slice A, dice A, cook A in B, prepare meal, eat A."
    ),
    "mapreader": (
        "The map you carry says which rooms lie side by side: read it, go and take the coin, and put it in "
        f"the box. Actions: read map, task, {_MOVING}, take A, put A in B."
    ),
    "peckingorder": (
        "The instructions book names one thing to take. Take it, read again, and so on; another thing "
        "loses. Actions: look around, inventory, read A, take A, put A in B."
    ),
    "simonsays": (
        "Simon names one action after another, each in the answer to the one before. Do just that; another "
        "one loses. The action is what stands between the quotation marks."
    ),
    "sorting": (
        "Put the things in the box one at a time, the smallest quantity first; mind the units. A wrong order "
        "loses. Actions: look around, inventory, take A, put A in B."
    ),
    "twc": (
        "Take each thing that lies about and put it where it usually belongs. "
        f"Actions: {_MOVING}, open A, close A, take A, put A in B."
    ),
}
"""Game -> its rules and actions."""

_SIMON = (("", "Simon says so."),)
_TEXTWORLD_THOUGHTS = (
    ("look", "I see what is here before I go on."),
    ("read ", "It says what to do: {}."),
    ("move ", "What I need lies to the {}."),
    ("open ", "It has to be open first: {}."),
    ("close ", "I leave it closed: {}."),
    ("take ", "I need it: {}."),
    ("put ", "That is its place."),
    ("cook ", "The recipe wants it cooked."),
    ("prepare meal", "Everything is ready."),
    ("eat ", "The meal is done."),
)
_CUTTING = tuple((f"{cut} ", "The recipe wants it cut: {}.") for cut in ("chop", "slice", "dice"))


def textworld_instruction(game: str, style: str, prompt: str) -> str:
    """The system message; the long one says the game's rules."""
    text = "You play a text game." + (f" {TEXTWORLD_RULES[game]}" if prompt == "long" else "")
    return text + (ONE_ACTION if style == "act" else react_form("what you make of it", "one action"))


def textworld_thoughts(game: str) -> Sequence[tuple[str, str]]:
    """The expert's thoughts, for `in_style`."""
    return _SIMON if game == "simonsays" else _TEXTWORLD_THOUGHTS + _CUTTING
