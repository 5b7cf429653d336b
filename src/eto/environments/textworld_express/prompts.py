"""What TextWorldExpress tells an agent, and what its expert thinks."""

from __future__ import annotations

from collections.abc import Sequence

from eto.environments.toolkit.prompts import ONE_ACTION, react_form

_MOVING = "look around, inventory, move DIRECTION, open door to DIRECTION"
RULES = {
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
_THOUGHTS = (
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


def instruction(game: str, style: str, prompt: str) -> str:
    """The system message; the long one says the game's rules."""
    text = "You play a text game." + (f" {RULES[game]}" if prompt == "long" else "")
    return text + (ONE_ACTION if style == "act" else react_form("what you make of it", "one action"))


def thoughts(game: str) -> Sequence[tuple[str, str]]:
    """The expert's thoughts, for `in_style`."""
    return _SIMON if game == "simonsays" else _THOUGHTS + _CUTTING
