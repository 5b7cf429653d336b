"""`eto show`: what changed between two agents, and episodes and pairs of a run as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from eto.cli.tables import print_parts
from eto.cli.terminal import terminal
from eto.data.formats import read_pairs
from eto.data.stored import StoredEpisodes
from eto.data.texts import counted
from eto.errors import InputError
from eto.evaluation.changes import GROUPS, Change, Changes, changes
from eto.evaluation.facts import read_facts
from eto.evaluation.parts import Rows
from eto.evaluation.results import natural
from eto.experiment.recipe import RUN_FILE
from eto.types import Pair, Phase, Trajectory, Turn


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user asks to see; "" and None leave it open."""

    split: str = ""
    agent: str = ""
    against: str = ""
    task: str = ""
    group: str = ""
    """One of `GROUPS`."""
    outcome: str = ""
    """`won` or `lost`."""
    pairs: int | None = None
    """The round whose pairs are shown."""
    limit: int = 1


def show_run(directory: Path, wanted: Wanted) -> None:
    """Print what `wanted` says of the run in `directory`; by default a table of what changed. Raises
    `InputError` for what is not there, and for what cannot be asked for."""
    if wanted.group not in ("", *GROUPS):
        raise InputError("both are asked for", where="--gained, --lost", hint="give one of the two")
    if wanted.outcome not in ("", "won", "lost"):
        raise InputError(f"unknown outcome {wanted.outcome!r}", where="--outcome", hint="won or lost")
    if wanted.pairs is not None:
        _check_of_pairs(wanted)
    if not (directory / RUN_FILE).is_file():
        hint = "give the directory of a run: it holds recipe.yaml"
        raise InputError("there is no run here", where=str(directory), hint=hint)
    console = terminal(soft_wrap=True)
    if wanted.pairs is not None:
        _print_pairs(console, directory, wanted)
        return
    store_path = directory / "trajectories.sqlite"
    if not store_path.is_file():
        raise InputError("no episode has been played yet", where=str(directory), hint="wait, or start it")
    run = _Run(directory, StoredEpisodes(store_path), wanted)
    if wanted.group:
        run.print_changes(console)
    elif wanted.task or wanted.outcome or (wanted.agent and not wanted.against):
        run.print_episodes(console)
    else:
        run.print_table(console)
    run.print_faults(console)


class _Run:
    """The evaluated agents of a run on one split."""

    def __init__(self, directory: Path, store: StoredEpisodes, wanted: Wanted) -> None:
        self.wanted, self.store, self.directory = wanted, store, directory
        facts = read_facts(directory)
        self._faults = facts.faults
        phases = [phase for phase in store.phases() if phase.purpose == "evaluate"]
        self.split = wanted.split or next((s for s in ("test", "dev") if _has(phases, s)), "test")
        # Without a recipe, all that was played but checkpoints.
        of_split = [phase.name for phase in phases if phase.split == self.split]
        made = facts.agents if facts.recipe else [name for name in of_split if "/" not in name]
        self.agents = sorted({name for name in of_split if name in made}, key=natural)
        if not self.agents:
            there = sorted({phase.split for phase in phases})
            hint = f"take --split {there[0]}" if there else "wait until an agent has been played"
            problem = "; ".join([f"no agent has played the {self.split} tasks", *self._said()])
            raise InputError(problem, where=str(directory), hint=hint)
        first, shipped = next(iter(made), ""), facts.shipped
        self.base = self._agent(wanted.against or (first if first in self.agents else self.agents[0]))
        self.agent = self._agent(wanted.agent or (shipped if shipped in self.agents else self.agents[-1]))

    def print_faults(self, console: Console) -> None:
        """What of the run could not be read, and why."""
        for fault in self._said():
            console.print(Text(f"not all of this run can be read: {fault}", style="red"))

    def _said(self) -> list[str]:
        return [*self._faults, *map(str, self.store.faults)]

    def print_table(self, console: Console) -> None:
        """Of each agent how many tasks it gained and lost."""
        before, rows = self._episodes(self.base), []
        others = [self.agent] if self.wanted.agent else [each for each in self.agents if each != self.base]
        for name in others:
            found = changes(before, self._episodes(name))
            rows.append([(name,), *((str(len(getattr(found, group))),) for group in GROUPS)])
        if not rows:
            console.print(f"{self.base} is the only agent that has played the {self.split} tasks")
            return
        title = f"{self.split}, beside {self.base}"
        print_parts([Rows([title, *GROUPS], rows)], console)
        console.print(
            "gained: solved, and not by the other; lost: the other way round; kept: by both; missed: by none"
        )
        best = self.agent if self.agent != self.base else others[-1]
        options = f" --split {self.split}" if self.wanted.split else ""
        console.print(f"see them: eto show {self.directory} --gained --agent {best}{options}")

    def print_changes(self, console: Console) -> None:
        """Episodes of tasks that changed, the two agents' one after the other."""
        if self.agent == self.base:
            others = ", ".join(each for each in self.agents if each != self.base) or "there is no other"
            problem = f"{self.agent} is compared with itself"
            raise InputError(problem, where="--agent", hint=f"name another agent: {others}")
        found: Changes = changes(self._episodes(self.base), self._episodes(self.agent))
        group: list[Change] = [
            each for each in getattr(found, self.wanted.group) if self.wanted.task in ("", each.after.task.id)
        ]
        total = f"{len(group)} {self.split} tasks {self.wanted.group} by {self.agent} beside {self.base}"
        console.print(f"{total}, {min(len(group), self.wanted.limit)} of them shown")
        for each in group[: self.wanted.limit]:
            shared = _shared(each.before, each.after)
            for trajectory in (each.before, each.after):
                _print_episode(console, trajectory, shared)

    def print_episodes(self, console: Console) -> None:
        """Episodes that fit, of the agent named or of all."""
        names = [self.agent] if self.wanted.agent else self.agents
        played = [each for name in names for each in self._episodes(name)]
        found = [each for each in played if self._fits(each)]
        if not found:
            tasks = sorted({each.task.id for each in played})
            hint = f"{len(tasks)} tasks were played, such as {', '.join(tasks[:3])}"
            if self.wanted.outcome and not any(each.outcome for each in played):
                hint = "leave --outcome out: the environment does not say what it calls solved"
            raise InputError("no episode fits", where=f"{self.split}, {', '.join(names)}", hint=hint)
        limit = max(self.wanted.limit, len(names) if self.wanted.task else 1)
        console.print(
            f"{counted(len(found), 'episode')} on {self.split}, {min(limit, len(found))} of them shown"
        )
        for each in found[:limit]:
            _print_episode(console, each)

    def _fits(self, episode: Trajectory) -> bool:
        return self.wanted.outcome in ("", episode.outcome) and self.wanted.task in ("", episode.task.id)

    def _episodes(self, agent: str) -> list[Trajectory]:
        return self.store.get(Phase.evaluate(agent, self.split))

    def _agent(self, name: str) -> str:
        if name not in self.agents:
            hint = f"agents that have: {', '.join(self.agents)}"
            raise InputError(f"{name} has not played the {self.split} tasks", where="--agent", hint=hint)
        return name


def _has(phases: Sequence[Phase], split: str) -> bool:
    return any(phase.split == split for phase in phases)


def _check_of_pairs(wanted: Wanted) -> None:
    """Raises `InputError` for what chooses among episodes of agents."""
    given = {
        "--gained, --lost": wanted.group,
        "--outcome": wanted.outcome,
        "--agent": wanted.agent,
        "--against": wanted.against,
        "--split": wanted.split,
    }
    for option, value in given.items():
        if value:
            hint = "leave it out: --task and --limit choose among pairs"
            raise InputError("it has no effect on --pairs", where=option, hint=hint)


def _print_pairs(console: Console, directory: Path, wanted: Wanted) -> None:
    """Pairs of a round: what both sides share once, then chosen and rejected."""
    path = directory / "stages" / f"contrast-{wanted.pairs}" / "pairs.jsonl"
    if not path.is_file():
        there = sorted(
            (each.parent.name for each in directory.glob("stages/contrast-*/pairs.jsonl")), key=natural
        )
        hint = f"there are {', '.join(there)}" if there else "no pairs have been made yet"
        raise InputError(f"round {wanted.pairs} has no pairs", where=str(directory), hint=hint)
    found = [pair for pair in read_pairs(path) if wanted.task in ("", pair.task.id)]
    console.print(
        f"{counted(len(found), 'pair')} of round {wanted.pairs}, "
        f"{min(len(found), wanted.limit)} of them shown"
    )
    for pair in found[: wanted.limit]:
        _print_pair(console, pair)


def _print_pair(console: Console, pair: Pair) -> None:
    rewards = f"chosen {pair.chosen.reward:g}, rejected {pair.rejected.reward:g}"
    console.print(f"\n=== {pair.task.id}, {pair.kind}: {rewards}", style="bold")
    for message in pair.chosen.messages:
        console.print(f"[{message.role}] {message.content}", style="dim")
    if pair.shared_turns:
        console.print(f"--- the same on both sides, {counted(pair.shared_turns, 'turn')}", style="bold")
        _print_turns(console, pair.chosen.turns[: pair.shared_turns], 0)
    for name, side in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        console.print(f"--- {name} ({side.source}, reward {side.reward:g})", style="bold")
        _print_turns(console, side.turns[pair.shared_turns :], pair.shared_turns)


def _print_episode(console: Console, trajectory: Trajectory, shared: int = 0) -> None:
    """One episode; `shared` turns are like those of the one beside it."""
    success = {True: ", solved", False: ", not solved", None: ""}[trajectory.success]
    head = f"=== {trajectory.task.id} by {trajectory.source}: reward {trajectory.reward:g}{success}"
    console.print(
        f"\n{head}, {counted(len(trajectory.turns), 'turn')}, {trajectory.stop.value}", style="bold"
    )
    for message in trajectory.messages:
        console.print(f"[{message.role}] {message.content}", style="dim")
    if shared:
        _print_turns(console, trajectory.turns[:shared], 0)
        console.print("--- from here on the two differ", style="bold")
    _print_turns(console, trajectory.turns[shared:], shared)


def _print_turns(console: Console, turns: Sequence[Turn], first: int) -> None:
    for number, turn in enumerate(turns, start=first + 1):
        for line, style in _lines(turn):
            console.print(Text(f"{number:>3} {line}" if line.startswith(">") else f"    {line}", style=style))


def _lines(turn: Turn) -> Iterator[tuple[str, str]]:
    """What was said, marked `>`, and what came back; with the reward where it has changed."""
    if turn.reasoning:
        yield f"({turn.reasoning})", "italic"
    said = " ".join((turn.action, *(f"{call.name}{call.arguments}" for call in turn.tool_calls)))
    yield f"> {said}" + (f"   [{turn.reward:g}]" if turn.reward else ""), "green" if turn.loss else "yellow"
    if turn.observation:
        yield turn.observation.replace("\n", "\n    "), ""


def _shared(one: Trajectory, other: Trajectory) -> int:
    from eto.credit.contrast import shared_turns

    return shared_turns(one, other)
