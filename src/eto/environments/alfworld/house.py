"""One game's house: where things are, which actions are possible, and the observations.

The rules are those of ALFWorld's PDDL domain, the texts those of its grammar, both as TextWorld's PDDL
engine plays them: lists are sorted by the objects' identifiers, numbers count backwards in that order,
and what was taken from a receptacle and lies elsewhere at its place is reported as lying next to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

from eto.environments.alfworld.dialect import Action, Dialect, help_text
from eto.environments.alfworld.problem import Goal, Problem
from eto.errors import InputError

AGENT = "agent1"
NOTHING = "Nothing happens."
KNIVES = ("knifetype", "butterknifetype")
APPLIANCES = {
    "heat": ("microwavetype", "heatable", "ishot"),
    "cool": ("fridgetype", "coolable", "iscool"),
    "clean": ("sinkbasintype", "cleanable", "isclean"),
}
"""Verb -> type of the receptacle it needs, what objects must be, and what they become."""
DYNAMIC = (
    "atlocation objectatlocation opened inreceptacle holds isclean ishot iscool ison istoggled issliced"
).split()
"""Predicates that actions change."""
_CHANGES = {
    "go": {"atlocation"},
    "open": {"opened"},
    "close": {"opened"},
    "take": {"inreceptacle", "holds", "objectatlocation"},
    "put": {"inreceptacle", "holds", "objectatlocation"},
    "use": {"ison", "istoggled"},
    "slice": {"issliced"},
    "heat": {"ishot", "iscool"},
    "cool": {"ishot", "iscool"},
    "clean": {"isclean"},
}


def numbered_names(identifiers: Iterable[str]) -> dict[str, str]:
    """Names such as `drawer 2`: the kind, and a number that falls in the identifiers' order."""
    ordered = sorted(identifiers)
    kinds = {each: _kind(each) for each in ordered if "_bar_" in each}
    left: dict[str, int] = defaultdict(int)
    for kind in kinds.values():
        left[kind] += 1
    names = {}
    for each, kind in kinds.items():
        names[each] = f"{kind} {left[kind]}"
        left[kind] -= 1
    return names


def _kind(identifier: str) -> str:
    kind = identifier.split("_bar_", 1)[0]
    return f"{kind}basin" if "basin" in identifier else kind


def _pairs(facts: Mapping[str, Collection[tuple[str, ...]]], name: str) -> dict[str, str]:
    """First argument -> second one of each fact called `name`."""
    return {fact[0]: fact[1] for fact in facts.get(name, ())}


class House:
    """What does not change in a game, and its facts at the start."""

    def __init__(self, problem: Problem, task: str) -> None:
        """`task`: what the first observation asks for. Raises `InputError` where no agent is placed."""
        self.task, self.facts = task, problem.facts
        self.is_won = Goal(problem, DYNAMIC)
        self.names = numbered_names(
            {each for atoms in self.facts.values() for atom in atoms for each in atom}
        )
        self.by_name = {name: each for each, name in self.names.items()}
        self.kind = _pairs(self.facts, "receptacletype") | _pairs(self.facts, "objecttype")
        self.place_of = _pairs(self.facts, "receptacleatlocation")
        self.standing: dict[str, list[str]] = defaultdict(list)
        for receptacle, place in sorted(self.facts.get("receptacleatlocation", ())):
            self.standing[place].append(receptacle)
        self.inside: dict[str, list[str]] = defaultdict(list)
        for inner, outer in sorted(self.facts.get("inreceptacleobject", ())):
            self.inside[outer].append(inner)
        if not any(agent == AGENT for agent, _ in self.facts.get("atlocation", ())):
            raise InputError(f"{AGENT} is nowhere", where=":init", hint="fetch or generate the game again")

    def has(self, predicate: str, *each: str) -> bool:
        """Whether a fact that never changes is true."""
        return each in self.facts.get(predicate, ())


class Play:
    """One episode in a house."""

    def __init__(self, house: House, dialect: Dialect) -> None:
        self.house, self._say = house, dialect
        self.facts = {name: set(house.facts.get(name, ())) for name in DYNAMIC}
        self._left: set[tuple[str, str]] = set()  # (object, receptacle): taken out and not put back
        self.won = house.is_won(self.facts)

    # -- what is so -----------------------------------------------------------------------

    @property
    def place(self) -> str:
        return next(place for agent, place in self.facts["atlocation"] if agent == AGENT)

    def held(self) -> list[str]:
        return sorted(each for agent, each in self.facts["holds"] if agent == AGENT)

    def here(self) -> list[str]:
        """Receptacles at the agent's place."""
        return self.house.standing.get(self.place, [])

    def contents(self, receptacle: str) -> list[str]:
        return sorted(each for each, where in self.facts["inreceptacle"] if where == receptacle)

    def is_open(self, receptacle: str) -> bool:
        """Whether one sees and reaches into it from its place."""
        return not self.house.has("openable", receptacle) or (receptacle,) in self.facts["opened"]

    def _is(self, predicate: str, each: str) -> bool:
        return (each,) in self.facts[predicate]

    # -- what can be done -----------------------------------------------------------------

    def commands(self) -> list[str]:
        """All admissible commands, sorted."""
        allowed = (action for action in self._thinkable() if self._is_allowed(action))
        return sorted({self._say.command(action, self.house.names) for action in allowed})

    def _thinkable(self) -> Iterator[Action]:
        """Every allowed action, and some that are not."""
        yield from (Action("look"), Action("inventory"), Action("help"))
        yield from (Action("go", receptacle=each) for each in self.house.place_of)
        held = self.held()
        yield from (Action("examine", each) for each in held)
        for receptacle in self.here():
            yield Action("examine", receptacle)
            yield Action("open", receptacle=receptacle)
            yield Action("close", receptacle=receptacle)
            for thing in self.contents(receptacle):
                yield Action("take", thing, receptacle)
                yield Action("use", thing)
            yield from (Action(verb, each, receptacle) for each in held for verb in ("put", *APPLIANCES))
        for thing, place in self.facts["objectatlocation"] if held else ():
            if place == self.place:
                yield from (Action("slice", thing, tool=each) for each in held)

    def _is_allowed(self, action: Action) -> bool:
        """The preconditions of ALFWorld's domain."""
        house, thing, receptacle = self.house, action.thing, action.receptacle
        match action.verb:
            case "look" | "inventory":
                return True
            case "help":
                return self._say.helps
            case "go":
                return receptacle in house.place_of and house.place_of[receptacle] != self.place
            case "examine":
                # sic: what lies in sight cannot be examined; the domain's rule for it names an unknown type.
                return thing in self.here() or (AGENT, thing) in self.facts["holds"]
            case "use":
                lies = any((thing, each) in self.facts["inreceptacle"] for each in self.here())
                return lies and house.has("toggleable", thing)
            case "slice":
                return (
                    house.has("sliceable", thing)
                    and house.kind.get(action.tool) in KNIVES
                    and (thing, self.place) in self.facts["objectatlocation"]
                    and (AGENT, action.tool) in self.facts["holds"]
                )
        if receptacle not in self.here():
            return False
        match action.verb:
            case "open" | "close":
                is_open = (receptacle,) in self.facts["opened"]
                return house.has("openable", receptacle) and is_open == (action.verb == "close")
            case "take":
                lies = (thing, receptacle) in self.facts["inreceptacle"] and self.is_open(receptacle)
                return lies and house.has("pickupable", thing) and not self.facts["holds"]
        if (AGENT, thing) not in self.facts["holds"]:
            return False
        if action.verb == "put":
            fits = house.has("cancontain", house.kind.get(receptacle, ""), house.kind.get(thing, ""))
            return fits and self.is_open(receptacle)
        kind, able, _ = APPLIANCES[action.verb]
        return house.kind.get(receptacle) == kind and house.has(able, thing)

    # -- what happens ---------------------------------------------------------------------

    def begin(self) -> str:
        """The first observation."""
        room, task = self._look(everywhere=True), self.house.task
        return f"-= Welcome to TextWorld, ALFRED! =-\n\n{room}\n\nYour task is to: {task}."

    def step(self, command: str) -> str:
        """Do what `command` asks for, where that is allowed; returns the observation."""
        action = self._say.parse(command.strip(), self.house.by_name)
        if action is None or not self._is_allowed(action):
            return NOTHING
        self._apply(action)
        if _CHANGES.get(action.verb, set()) & self.house.is_won.predicates:
            self.won = self.house.is_won(self.facts)
        return self._answer(action)

    def _apply(self, action: Action) -> None:
        facts, thing, receptacle = self.facts, action.thing, action.receptacle
        match action.verb:
            case "go":
                facts["atlocation"] -= {(AGENT, self.place)}
                facts["atlocation"].add((AGENT, self.house.place_of[receptacle]))
            case "open":
                facts["opened"].add((receptacle,))
            case "close":
                facts["opened"].discard((receptacle,))
            case "take":
                facts["inreceptacle"].discard((thing, receptacle))
                self._left.add((thing, receptacle))
                facts["holds"].add((AGENT, thing))
                facts["objectatlocation"].discard((thing, self.place))
            case "put":
                facts["inreceptacle"].add((thing, receptacle))
                self._left.discard((thing, receptacle))
                facts["holds"].discard((AGENT, thing))
                facts["objectatlocation"].add((thing, self.place))
            case "use":
                facts["ison"] ^= {(thing,)}
                facts["istoggled"].add((thing,))
            case "slice":
                facts["issliced"].add((thing,))
            case "heat" | "cool" | "clean":
                facts[APPLIANCES[action.verb][2]].add((thing,))
                if action.verb != "clean":
                    facts["iscool" if action.verb == "heat" else "ishot"].discard((thing,))

    # -- what is said ---------------------------------------------------------------------

    def _answer(self, action: Action) -> str:
        names = self.house.names
        thing, receptacle = names.get(action.thing, ""), names.get(action.receptacle, "")
        match action.verb:
            case "look":
                return self._look()
            case "inventory":
                held = self.held()
                return f"You are carrying: {self._list(held)}." if held else "You are not carrying anything."
            case "help":
                return help_text()
            case "go":
                arrival = self._say.arrival(receptacle, names[self.place])
                return f"You arrive at {arrival}. {self._seen(action.receptacle)}"
            case "open":
                return f"You open the {receptacle}. {self._seen(action.receptacle)}"
            case "close":
                return f"You close the {receptacle}."
            case "take":
                return f"You pick up the {thing} from the {receptacle}."
            case "put":
                return self._say.put_done(thing, receptacle)
            case "examine":
                is_place = action.thing in self.house.place_of
                return self._seen(action.thing) if is_place else self._examined(action.thing)
            case "use":
                return f"You turn on the {thing}."
            case "slice":
                return f"You sliced the {thing} with the {names[action.tool]}."
        return f"You {action.verb} the {thing} using the {receptacle}."

    def _look(self, everywhere: bool = False) -> str:
        """`everywhere`: name what stands in the room; only the first observation does."""
        here = self.here()
        if not here:
            seen = self._list(sorted(self.house.place_of) if everywhere else [])
            return f"You are in the middle of a room. Looking quickly around you, you see {seen}."
        lying = sorted(thing for thing, place in self.facts["objectatlocation"] if place == self.place)
        beside = [thing for thing in lying for each in here if (thing, each) in self._left]
        facing = _listed([self.house.names[each] for each in here])
        return f"You are facing the {facing}. Next to it, you see {self._list(beside)}."

    def _seen(self, receptacle: str) -> str:
        name, seen = self.house.names[receptacle], self._list(self.contents(receptacle))
        if not self.house.has("openable", receptacle):
            return f"On the {name}, you see {seen}."
        if (receptacle,) in self.facts["opened"]:
            return f"The {name} is open. In it, you see {seen}."
        return f"The {name} is closed."

    def _examined(self, thing: str) -> str:
        name = self.house.names[thing]
        if self.house.has("isreceptacleobject", thing):
            return f"This is a normal {name}. In it, you see {self._list(self.house.inside[thing])}."
        hot, cool, clean, sliced = (
            self._is(each, thing) for each in ("ishot", "iscool", "isclean", "issliced")
        )
        # Beside other properties a cold object is "cool", alone it is "cold".
        warmth = "hot" if hot else "cool" if cool else ""
        state = " and ".join(part for part in (warmth, "clean" if clean else "") if part)
        if state and sliced:
            return f"This is a {state} sliced {name}."
        if state:
            return f"This is a {'cold' if state == 'cool' else state} {name}."
        if self.house.has("toggleable", thing) and self._is("istoggled", thing):
            return f"This {name} is on."
        if self.house.has("sliceable", thing) and sliced:
            return f"This is a sliced {name}."
        return f"There's nothing special about {name}."

    def _list(self, each: Iterable[str]) -> str:
        return _listed([f"a {self.house.names[one]}" for one in each])


def _listed(texts: list[str]) -> str:
    if len(texts) < 2:
        return texts[0] if texts else "nothing"
    return f"{', '.join(texts[:-1])}, and {texts[-1]}"
