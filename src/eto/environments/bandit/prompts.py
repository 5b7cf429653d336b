"""What an agent reads of a bandit: the rules, and the history in one of three forms.

raw: each pull as it came. summary: how often each arm was pulled and what it paid on average. guided: the
terms of the algorithm's index beside it (EVOLvE, arXiv:2410.06238, algorithm-guided support).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from eto.environments.bandit.oracles import Features, Terms
from eto.environments.toolkit.prompts import react_form

Context = Literal["raw", "summary", "guided"]
CONTEXTS = ("raw", "summary", "guided")
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
CLOTHES = (
    "Red Wool Coat",
    "Blue Silk Scarf",
    "Green Rain Jacket",
    "Black Leather Boots",
    "White Linen Shirt",
    "Grey Denim Jeans",
    "Brown Felt Hat",
    "Pink Cotton Dress",
    "Yellow Knit Sweater",
    "Purple Velvet Skirt",
    "Orange Running Shoes",
    "Navy Striped Suit",
    "Cream Lace Blouse",
    "Olive Cargo Trousers",
    "Silver Evening Gown",
    "Tan Suede Gloves",
    "Teal Sports Vest",
    "Maroon Plaid Shawl",
    "Gold Satin Tie",
    "Ivory Fleece Robe",
)
SCENES = {
    "video": ("You recommend videos on a website.", "video"),
    "clothes": ("You recommend clothes in a shop.", "item"),
    "own": ("You choose among options.", "option"),
    "films": ("You recommend films, each time to another user.", "film"),
}
"""Names of arms -> the scene, and what an arm is called in it."""
THOUGHTS = (("", "{} has paid well for what is known of it, or is little known."),)
"""The expert's, in the style "react"."""
_PAYS = {
    "bernoulli": "Each pays 1 or 0, with a chance of its own that you do not know and that stays the same.",
    "gaussian": "What each pays varies around an average of its own that you do not know and that stays.",
    "ratings": "It pays the user's rating. A user is given by numbers that stand for their taste.",
}
_ADVICE = (
    " Try all of them often enough to find out which pay best, and use what you have found out."
    " An answer that names none of them is replaced by one of them at random."
)


def instruction(
    family: str, scene: str, arms: Sequence[str], horizon: int, style: str, prompt: str, examples: str
) -> str:
    """The system message. examples: decisions of the expert, or ""."""
    opening, unit = SCENES[scene]
    text = f"{opening} There are {len(arms)} {unit}s: {', '.join(arms)}. {_PAYS[family]} "
    text += f"You choose {horizon} times; earn as much as you can."
    if prompt == "long":
        text += _ADVICE
    if style == "act":
        text += f" Answer with the name of one {unit}."
    else:
        text += react_form("what you make of it", f"the name of one {unit}")
    return text + (f"\n\n{examples}" if examples else "")


def outcome(arm: str, reward: float, is_stand_in: bool) -> str:
    """What a pull has brought."""
    paid = f"{arm}: reward {number(reward)}."
    return f"Your answer named none of them, so one was chosen at random. {paid}" if is_stand_in else paid


def question(scene: str, user: Features) -> str:
    """What is to be decided now."""
    unit = SCENES[scene][1]
    if user is None:
        return f"Which {unit}?"
    return f"User {taste(user)}. Which {unit}?"


def table(
    arms: Sequence[str],
    pulls: Sequence[int],
    paid: Sequence[float],
    left: int,
    terms: Sequence[Terms] | None,
) -> str:
    """Each arm's pulls and its average, with `terms` those of its index too."""
    lines = [f"{left} choices left. So far:"]
    for arm, (name, n, total) in enumerate(zip(arms, pulls, paid, strict=True)):
        line = f"{name}: {n} times" + (f", average reward {total / n:.2f}" if n else "")
        if terms is not None:
            bonus = "infinite" if math.isinf(terms[arm].bonus) else f"{terms[arm].bonus:.2f}"
            line += f", exploitation value {terms[arm].value:.2f}, exploration bonus {bonus}"
        lines.append(line)
    return "\n".join(lines)


def example(history: str, answer: str) -> str:
    """One decision of the expert's, for the prompt."""
    return f"{history}\nAnswer: {answer}"


def joined(examples: Sequence[str]) -> str:
    """Decisions as one text."""
    blocks = [f"Example {number}.\n{text}" for number, text in enumerate(examples, 1)]
    return "\n\n".join(["Decisions of an expert with other rewards:", *blocks]) if blocks else ""


def number(reward: float) -> str:
    """A reward without needless decimals: `1`, `0.731`."""
    return f"{reward:.3f}".rstrip("0").rstrip(".") if reward % 1 else str(int(reward))


def taste(user: Features) -> str:
    """Features as text."""
    return "[" + ", ".join(f"{each:.2f}" for each in (user if user is not None else ())) + "]"
