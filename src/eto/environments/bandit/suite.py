"""Bandits in text (EVOLvE / BanditBench, arXiv:2410.06238): which arm pays best, found out by pulling.

Without users (Bernoulli and Gaussian arms) and with them (films, paid by a rating). Expert: UCB or LinUCB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np

from eto.environments.bandit import prompts
from eto.environments.bandit.episode import BanditEnvironment
from eto.environments.bandit.games import Bandit, bernoulli, contextual, gaussian, played
from eto.environments.bandit.kinds import DEFAULT, MOST_FILMS, PUBLISHED, Kind, check_names, kind_of
from eto.environments.bandit.movielens import load_movielens
from eto.environments.bandit.oracles import ALPHA, oracle
from eto.environments.bandit.prompts import Context
from eto.environments.bandit.ratings import Ratings, made_up
from eto.environments.toolkit.answers import spoken_action
from eto.environments.toolkit.options import check_types
from eto.environments.toolkit.prompts import Length, Style, check_forms, in_style
from eto.environments.toolkit.suite import Suite, options_of
from eto.errors import InputError
from eto.types import Message, Task

FIRST_SEED = {"train": 0, "dev": 1_000_000, "test": 2_000_000}
MOST_TASKS = 100_000
MOST_STEPS = 10_000
MOST_ALPHA = 100.0
MOST_EXAMPLES = 50
EXAMPLE = Task("bandit/example", "bandit", "", "train", {"seed": 3_000_000})
"""Instance behind the prompt's examples, which no split has."""
SKIPPED, APART = 2, 2
"""Examples are the decisions after 2, 4, 6, … pulls, as in the paper's code."""


class Bandits(Suite):
    """Task suite over seeds of bandits.

    kinds: task types, see `kinds`; None: five easy Bernoulli arms, named in both ways; ["all"]: the paper's.
    tasks_per_split: instances of each type. horizon: pulls of an episode; None: the paper's (300 easy, 1000
        hard, 200 with users).
    context: "raw", "summary" or "guided", see `prompts`. With the last two each answer is given to a prompt
        of its own, which holds the summary and no past turns.
    expert: "ucb" (with users LinUCB) or "greedy". alpha: weight of exploration, of the expert and the guide.
    examples: decisions of the expert in the prompt.
    names: of the arms of types `…-own`. ratings: directory of MovieLens files; None: made up. rank: of the
        table of ratings, the number of a user's features. seed: of the made-up table, or the order of users.
    style, prompt: "act" or "react" answers; "short" or "long" instruction.
    success: least reward of an episode that counts as a success; all its answers must have named an arm.

    Raises `InputError` for a bad option or file.
    """

    name = "bandit"

    def __init__(
        self,
        kinds: list[str] | None = None,
        tasks_per_split: int = 100,
        horizon: int | None = None,
        context: Context = "raw",
        expert: Literal["ucb", "greedy"] = "ucb",
        alpha: float = ALPHA,
        examples: int = 0,
        names: list[str] | None = None,
        ratings: str | None = None,
        rank: int = 5,
        seed: int = 0,
        style: Style = "act",
        prompt: Length = "short",
        success: float = 0.0,
    ) -> None:
        self._options = options_of(locals())
        check_types(Bandits, self._options, self.name)
        _check_limits(self._options)
        chosen = PUBLISHED if kinds == ["all"] else DEFAULT if kinds is None else tuple(kinds)
        self.kinds: Mapping[str, Kind] = {name: kind_of(name, names or ()) for name in chosen}
        self.style, self.context, self.alpha, self.success = style, context, alpha, success
        _check_kinds(self, names, ratings)
        self._names = tuple(name.strip() for name in names or ())
        self._tables: dict[int, Ratings] = {}
        self._shown: dict[str, str] = {}
        if ratings is not None:
            for kind in self.kinds.values():
                self.arms(kind)

    def tasks(self, split: str) -> list[Task]:
        """The first instances of a split, type by type."""
        self._check_split(split)
        return [
            Task(f"{self.name}/{kind}/{split}/{n}", self.name, kind, split, {"seed": FIRST_SEED[split] + n})
            for kind in self.kinds
            for n in range(self._options["tasks_per_split"])
        ]

    def messages(self, task: Task, observation: str) -> tuple[Message, ...]:
        kind = self._kind(task)
        text = prompts.instruction(
            kind.family,
            kind.scene,
            self.arms(kind),
            self.horizon(kind),
            self.style,
            self._options["prompt"],
            self._examples(kind.name),
        )
        return Message("system", text), Message("user", observation)

    def max_turns(self, task: Task) -> int:
        return self.horizon(self._kind(task))

    def environment(self) -> BanditEnvironment:
        return BanditEnvironment(self)

    def expert_actions(self, task: Task, environment: Any = None) -> list[str]:
        """What UCB or LinUCB does, with a state of its own for the episode."""
        bandit, arms = self.bandit(task), self.arms(self._kind(task))
        alpha = 0.0 if self._options["expert"] == "greedy" else self.alpha
        pulls = played(bandit, oracle(bandit.arms, bandit.dimensions, alpha=alpha))
        return in_style(self.style, [arms[arm] for arm in pulls], prompts.THOUGHTS)

    def horizon(self, kind: Kind) -> int:
        """Pulls of an episode."""
        return self._options["horizon"] or kind.horizon

    def arms(self, kind: Kind) -> tuple[str, ...]:
        """Names of the arms."""
        if kind.scene == "films":
            return self._ratings(kind.arms).films
        return {"video": prompts.LETTERS, "clothes": prompts.CLOTHES, "own": self._names}[kind.scene][
            : kind.arms
        ]

    def bandit(self, task: Task) -> Bandit:
        """The instance as numbers."""
        kind = self._kind(task)
        draw = np.random.default_rng([task.payload["seed"], crc32(kind.name.encode())])
        if kind.family == "ratings":
            table, features = self._ratings(kind.arms).of_split(task.split)
            return contextual(table, features, self.horizon(kind), draw)
        make = bernoulli if kind.family == "bernoulli" else gaussian
        return make(kind.arms, kind.difficulty, self.horizon(kind), draw)

    def arm(self, task: Task, action: str) -> int | None:
        """The arm that an answer names, blanks at its ends and capitals aside; None: none."""
        spoken = spoken_action(action, self.style).strip().casefold()
        names = (name.casefold() for name in self.arms(self._kind(task)))
        return next((arm for arm, name in enumerate(names) if name == spoken), None)

    def _kind(self, task: Task) -> Kind:
        if task.kind not in self.kinds:
            hint = f"its own: {', '.join(self.kinds)}"
            raise InputError(f"{task.id} is of another suite", where=self.name, hint=hint)
        return self.kinds[task.kind]

    def _ratings(self, films: int) -> Ratings:
        if films not in self._tables:
            rank, seed, given = (self._options[name] for name in ("rank", "seed", "ratings"))
            if given is None:
                self._tables[films] = made_up(films, rank, seed)
            else:
                self._tables[films] = load_movielens(Path(given).expanduser(), films, rank, seed)
        return self._tables[films]

    def _examples(self, kind: str) -> str:
        """The expert's decisions on an instance that no split has: what it reads, and its answer."""
        if kind not in self._shown:
            count, task = self._options["examples"], replace(EXAMPLE, kind=kind)
            read, shown = [], []
            if count:
                environment = BanditEnvironment(self)
                read.append(environment.reset(task))
                for pulls, answer in enumerate(
                    self.expert_actions(task)[: SKIPPED + APART * (count - 1) + 1]
                ):
                    if pulls >= SKIPPED and (pulls - SKIPPED) % APART == 0:
                        history = read[-1] if environment.afresh else "\n".join(read)
                        shown.append(prompts.example(history, answer))
                    read.append(environment.step(answer).observation)
            self._shown[kind] = prompts.joined(shown)
        return self._shown[kind]


def _check_limits(options: dict[str, Any]) -> None:
    limits = {
        "tasks_per_split": (1, MOST_TASKS),
        "horizon": (2, MOST_STEPS),
        "alpha": (0.0, MOST_ALPHA),
        "examples": (0, MOST_EXAMPLES),
        "rank": (1, MOST_FILMS),
        "seed": (0, 2**32 - 1),
        "success": (0.0, 1.0),
    }
    for name, (least, most) in limits.items():
        if options[name] is not None and not least <= options[name] <= most:
            hint = f"from {least} to {most:,}"
            raise InputError(f"{name} is {options[name]}", where=f"bandit.{name}", hint=hint)
    check_forms(options, "bandit")


def _check_kinds(suite: Bandits, names: list[str] | None, ratings: str | None) -> None:
    """Raises `InputError` where task types and other options do not fit together."""
    kinds = list(suite.kinds.values())
    if not kinds:
        raise InputError("no task type", where="bandit.kinds", hint="leave it out for the two default ones")
    if names is not None:
        check_names(names, kinds)
    with_users = [kind.name for kind in kinds if kind.family == "ratings"]
    if ratings is not None and not with_users:
        hint = "name a task type that takes them, such as ratings-10"
        raise InputError("no task type takes ratings", where="bandit.ratings", hint=hint)
    if with_users and suite.context == "summary":
        problem = f"a summary by arm says nothing about users, and {with_users[0]} has some"
        raise InputError(problem, where="bandit.context", hint="take raw or guided")
    needed = SKIPPED + APART * (suite.spec()[1]["examples"] - 1) + 1
    for kind in kinds:
        horizon = suite.horizon(kind)
        if horizon < kind.arms:
            problem = f"an episode of {horizon} pulls cannot try each of the {kind.arms} arms of {kind.name}"
            raise InputError(problem, where="bandit.horizon", hint=f"at least {kind.arms}")
        if horizon < needed:
            problem = f"an episode of {horizon} pulls has fewer decisions than the examples take"
            raise InputError(problem, where="bandit.examples", hint=f"fewer examples, or horizon {needed}")
