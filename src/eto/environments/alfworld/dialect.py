"""The two ways ALFWorld speaks: `put` as in the papers' time, `move` from version 0.4 on.

An agent cloned from one does not get along in the other, so a data set keeps to one of them, and
actions of the other are translated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from eto.errors import InputError

VERBS_ALONE = ("look", "inventory", "help")
_FORMS: tuple[tuple[str, str], ...] = (
    ("go", r"go to (?P<receptacle>.+)"),
    ("open", r"open (?P<receptacle>.+)"),
    ("close", r"close (?P<receptacle>.+)"),
    ("take", r"take (?P<thing>.+) from (?P<receptacle>.+)"),
    ("examine", r"examine (?P<thing>.+)"),
    ("use", r"use (?P<thing>.+)"),
    ("heat", r"heat (?P<thing>.+) with (?P<receptacle>.+)"),
    ("cool", r"cool (?P<thing>.+) with (?P<receptacle>.+)"),
    ("clean", r"clean (?P<thing>.+) with (?P<receptacle>.+)"),
    ("slice", r"slice (?P<thing>.+) with (?P<tool>.+)"),
)
_PUT = {
    "put": r"put (?P<thing>.+) in/on (?P<receptacle>.+)",
    "move": r"move (?P<thing>.+) to (?P<receptacle>.+)",
}
_LOOSE = {
    "put": re.compile(r"(?:put|place) (.+?) (?:in/on|in|on|into|onto) (.+)"),
    "move": re.compile(r"move (.+?) to (.+)"),
    "use": re.compile(r"(?:toggle|turn on|use) (.+)"),
}
_HELP = (
    ("look", "look around your current location"),
    ("inventory", "check your current inventory"),
    ("go to (receptacle)", "move to a receptacle"),
    ("open (receptacle)", "open a receptacle"),
    ("close (receptacle)", "close a receptacle"),
    ("take (object) from (receptacle)", "take an object from a receptacle"),
    ("move (object) to (receptacle)", "place an object in or on a receptacle"),
    ("examine (something)", "examine a receptacle or an object"),
    ("use (object)", "use an object"),
    ("heat (object) with (receptacle)", "heat an object using a receptacle"),
    ("clean (object) with (receptacle)", "clean an object using a receptacle"),
    ("cool (object) with (receptacle)", "cool an object using a receptacle"),
    ("slice (object) with (object)", "slice an object using a sharp object"),
)


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do; of what is named, by identifiers of the house."""

    verb: str
    thing: str = ""
    """An object; with "examine", also a receptacle."""
    receptacle: str = ""
    tool: str = ""


class Dialect:
    """`put` or `move`: the forms of commands, and the texts that differ."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.helps = name == "move"
        self._forms = [(verb, re.compile(form)) for verb, form in (*_FORMS, ("put", _PUT[name]))]

    def parse(self, command: str, by_name: Mapping[str, str]) -> Action | None:
        """What a command asks for; None where its form or a name in it is unknown."""
        if command in VERBS_ALONE:
            return Action(command)
        for verb, form in self._forms:
            if match := form.fullmatch(command):
                parts = match.groupdict()
                if not all(name in by_name for name in parts.values()):
                    return None
                return Action(verb, **{part: by_name[name] for part, name in parts.items()})
        return None

    def command(self, action: Action, names: Mapping[str, str]) -> str:
        """The command that `parse` reads as `action`."""
        thing, receptacle = names.get(action.thing), names.get(action.receptacle)
        match action.verb:
            case "go":
                return f"go to {receptacle}"
            case "open" | "close":
                return f"{action.verb} {receptacle}"
            case "take":
                return f"take {thing} from {receptacle}"
            case "put":
                return self.put(thing, receptacle)
            case "examine" | "use":
                return f"{action.verb} {thing}"
            case "heat" | "cool" | "clean":
                return f"{action.verb} {thing} with {receptacle}"
            case "slice":
                return f"slice {thing} with {names[action.tool]}"
        return action.verb

    def put(self, thing: str | None, receptacle: str | None) -> str:
        """The command to put something down."""
        return f"move {thing} to {receptacle}" if self.name == "move" else f"put {thing} in/on {receptacle}"

    def put_done(self, thing: str, receptacle: str) -> str:
        """The observation after an object is put down."""
        if self.name == "move":
            return f"You move the {thing} to the {receptacle}."
        return f"You put the {thing} in/on the {receptacle}."

    def arrival(self, receptacle: str, place: str) -> str:
        """The name one arrives at."""
        return receptacle if self.name == "move" else place

    def translate(self, command: str) -> tuple[str, bool]:
        """A command of either dialect in this one, and whether its words are known at all."""
        command = " ".join(command.split())
        for verb in ("put", "move"):
            if match := _LOOSE[verb].fullmatch(command):
                return self.put(*match.groups()), True
        if match := _LOOSE["use"].fullmatch(command):
            return f"use {match[1]}", True
        known = command in VERBS_ALONE or any(form.fullmatch(command) for _, form in self._forms)
        return command, known


DIALECTS = {name: Dialect(name) for name in _PUT}


def dialect_of(grammar: str, where: str) -> str:
    """Which dialect a game file's grammar speaks. Raises `InputError` naming `where` for neither."""
    templates = {"put": "put {o} in/on {r}", "move": "move {o} to {r}"}
    spoken = [name for name, template in templates.items() if f'"{template}"' in grammar]
    if len(spoken) != 1:
        raise InputError(
            "a grammar that is neither ALFWorld's of 2021 nor that of version 0.4",
            where=where,
            hint="name the dialect in the options: dialect=put or dialect=move",
        )
    return spoken[0]


def help_text() -> str:
    """What `help` is answered with, in columns."""
    width = {"move (object) to (receptacle)": 32}
    lines = [f"  {form + ':':<{width.get(form, 34)}}{meaning}" for form, meaning in _HELP]
    return "\n".join(["Available commands:", *lines, ""])
