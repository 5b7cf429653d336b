"""What ScienceWorld tells an agent, and what its expert thinks."""

from __future__ import annotations

from eto.environments.toolkit.prompts import ONE_ACTION, react_form

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

THOUGHTS = (
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


def instruction(style: str, prompt: str, teleport: bool, circuits: bool) -> str:
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
