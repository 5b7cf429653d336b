"""The PDDL problem behind a game: its objects, initial facts and goal.

Read here is the part of PDDL that ALFWorld's problems use: typed objects, ground facts, and a goal of
and, or, not, exists, forall and equality.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eto.errors import InputError

Facts = Mapping[str, Collection[tuple[str, ...]]]
"""Argument tuples of the true atoms by predicate, all in lower case."""
_TOKEN = re.compile(r"[()]|[^\s()]+")
_COMMENT = re.compile(r";[^\n]*")


@dataclass(frozen=True, slots=True)
class Problem:
    """A game's world at its start."""

    types: Mapping[str, str]
    """Type by object."""
    facts: Facts
    goal: Any
    """As nested lists."""


def parse_problem(text: str, where: str) -> Problem:
    """The problem in `text`. Raises `InputError` naming `where` if it is not a PDDL problem."""
    tree = _nested(text, where)
    parts = {part[0]: part[1:] for part in tree[1:] if isinstance(part, list) and part}
    for name in (":objects", ":init", ":goal"):
        if name not in parts:
            raise _broken(f"the PDDL problem has no {name}", where)
    facts: dict[str, set[tuple[str, ...]]] = {}
    for atom in parts[":init"]:
        if not isinstance(atom, list) or not atom:
            raise _broken(f"not a fact: {atom}", where)
        # Distances and costs: `(= (distance a b) 3)`.
        if all(isinstance(word, str) for word in atom):
            facts.setdefault(atom[0], set()).add(tuple(atom[1:]))
    goal = parts[":goal"]
    if len(goal) != 1 or not isinstance(goal[0], list):
        raise _broken("the PDDL problem's goal is not one formula", where)
    return Problem(
        dict(_typed(parts[":objects"])), {name: frozenset(rows) for name, rows in facts.items()}, goal[0]
    )


class Goal:
    """Whether a problem's goal holds. Raises `InputError` for a connective that is none of the above."""

    def __init__(self, problem: Problem, changing: Collection[str]) -> None:
        """`changing`: predicates whose facts actions change."""
        _check_formula(problem.goal)
        self._goal, self._static, self._changing = problem.goal, problem.facts, frozenset(changing)
        self.predicates = frozenset(_predicates(problem.goal))
        """Names of the predicates the goal speaks of."""
        self._by_type: dict[str, list[str]] = {}
        for name, kind in problem.types.items():
            self._by_type.setdefault(kind, []).append(name)
        self._fitting: dict[tuple[str, ...], list[tuple[str, ...]]] = {}

    def __call__(self, facts: Facts) -> bool:
        """Whether it holds where the changing predicates are true of `facts`."""
        return self._any([self._goal], {}, {}, facts)

    def _any(self, formulas: list[Any], bound: dict[str, str], types: dict[str, str], facts: Facts) -> bool:
        """Whether some values of the variables in `types` make all `formulas` true: a join."""
        if not formulas:
            return True
        first = min(formulas, key=lambda formula: _effort(formula, bound))
        rest = [formula for formula in formulas if formula is not first]
        head = first[0]
        if head == "and":
            return self._any(first[1:] + rest, bound, types, facts)
        if head == "exists":
            return self._any([first[2], *rest], bound, types | dict(_typed(first[1])), facts)
        if head == "or":
            return any(self._any([choice, *rest], bound, types, facts) for choice in first[1:])
        if head in ("not", "forall", "="):
            for name in _variables(first):
                if name in types and name not in bound:
                    objects = self._by_type.get(types[name], ())
                    return any(self._any(formulas, bound | {name: each}, types, facts) for each in objects)
            return self._holds(first, bound, types, facts) and self._any(rest, bound, types, facts)
        for values in self._candidates(first, facts):
            extended = _match(first[1:], values, bound)
            if extended is not None and self._any(rest, extended, types, facts):
                return True
        return False

    def _holds(self, formula: Any, bound: dict[str, str], types: dict[str, str], facts: Facts) -> bool:
        """Of `not`, `forall` or equality, whose outer variables are all bound."""
        if formula[0] == "=":
            left, right = (bound.get(name, name) for name in formula[1:])
            return left == right
        if formula[0] == "not":
            return not self._any([formula[1]], bound, types, facts)
        bindings = [bound]
        for name, kind in _typed(formula[1]):
            bindings = [one | {name: each} for one in bindings for each in self._by_type.get(kind, ())]
        return all(self._any([formula[2]], one, types, facts) for one in bindings)

    def _candidates(self, atom: Sequence[str], facts: Facts) -> Iterable[tuple[str, ...]]:
        """Facts of the atom's predicate; of one that never changes, those its constants fit."""
        if atom[0] in self._changing:
            return facts.get(atom[0], ())
        key = tuple(atom)
        if key not in self._fitting:
            known = self._static.get(atom[0], ())
            self._fitting[key] = [each for each in known if _match(atom[1:], each, {}) is not None]
        return self._fitting[key]


def _effort(formula: Any, bound: Mapping[str, str]) -> int:
    """What opens up first, then atoms by their open variables, choices and negations last."""
    if formula[0] in ("and", "exists"):
        return -1
    if formula[0] in ("not", "forall", "="):
        return 1000
    if formula[0] == "or":
        return 500
    return sum(word[0] == "?" and word not in bound for word in formula[1:])


def _match(words: Sequence[str], values: Sequence[str], bound: dict[str, str]) -> dict[str, str] | None:
    bindings = bound
    for word, value in zip(words, values, strict=True):
        known = bindings.get(word) if word[0] == "?" else word
        if known is None:
            bindings = bindings | {word: value}
        elif known != value:
            return None
    return bindings


def _variables(formula: Any) -> Iterator[str]:
    for word in formula:
        if isinstance(word, list):
            yield from _variables(word)
        elif word.startswith("?"):
            yield word


def _predicates(formula: Any) -> Iterator[str]:
    head = formula[0]
    if head in ("and", "or", "not", "exists", "forall"):
        for part in formula[2:] if head in ("exists", "forall") else formula[1:]:
            yield from _predicates(part)
    elif head != "=":
        yield head


def _check_formula(formula: Any) -> None:
    head = formula[0] if formula else ""
    if head in ("and", "or", "not"):
        for part in formula[1:]:
            _check_formula(part)
    elif head in ("exists", "forall"):
        _check_formula(formula[2])
    elif not all(isinstance(word, str) for word in formula) or head in ("imply", "when", ""):
        raise _broken(f"a goal with {head or 'nothing'!r} cannot be checked", "goal")


def _typed(words: Sequence[Any]) -> list[tuple[str, str]]:
    """(name, type) of `a b - type c - other`."""
    typed: list[tuple[str, str]] = []
    waiting: list[str] = []
    position = iter(words)
    for word in position:
        if word == "-":
            kind = next(position)
            typed += [(name, kind) for name in waiting]
            waiting = []
        else:
            waiting.append(word)
    return typed + [(name, "object") for name in waiting]


def _nested(text: str, where: str) -> list[Any]:
    stack: list[list[Any]] = [[]]
    for token in _TOKEN.findall(_COMMENT.sub("", text).lower()):
        if token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) == 1:
                break  # one bracket too many at the end, as many official files have
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    if not stack[0] or not isinstance(stack[0][0], list):
        raise _broken("no PDDL problem, or one cut short", where)
    return stack[0][0]


def _broken(problem: str, where: str) -> InputError:
    return InputError(problem, where=where, hint="fetch or generate the game file again")
