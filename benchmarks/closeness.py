"""LOPE over a finished run: how many pairs closeness adds, whether it is right, and what the pairs do.

    python -m benchmarks.closeness RUN [--encoder NAME] [--bandwidth H] [--least-difference D] [--train OUT]

From the store of RUN, of any method: by round, the pairs by reward, and the pairs out of ties beside them.
*Concordance*: of two own episodes of one task with different rewards, the share in which the nearer one has
the higher reward; 0.5 is chance. The preferred set then holds no episode of that task, or the success itself
would be in it. The interval is over tasks.

--train: RUN, of the method lope, goes on from its episodes twice, with `similarity.ties: 0` and 1, in OUT;
prints dev rewards, and test rewards with the paired difference. Both runs resume.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import eto  # noqa: F401  (threads and OpenMP waiting, before torch)
from eto.cli.progress import Progress
from eto.credit.contrast import contrast_result
from eto.credit.similarity import Embed, PairRules, closeness, key_of, pairs_by_value, preferred_by_kind
from eto.data.files import read_rows
from eto.data.hashed_words import turn_vectors
from eto.data.store import TrajectoryStore
from eto.errors import EtoError, InputError
from eto.evaluation.compared import compared
from eto.evaluation.compared_text import compared_markdown
from eto.evaluation.outcomes import Outcome, outcome_of
from eto.evaluation.statistics import Interval, mean_interval
from eto.experiment.experiment import perform
from eto.experiment.recipe import Recipe, recipe_of_run
from eto.methods.lope import LopeSettings
from eto.models.encoder import TurnEncoder
from eto.settings import ContrastSettings
from eto.settings.similarity import SimilaritySettings
from eto.types import Phase, Trajectory


@dataclass(frozen=True, slots=True)
class Found:
    """Of one round."""

    iteration: int
    episodes: int
    tasks: int
    by_reward: int
    """Pairs by reward, one a task."""
    ties: int
    """Pairs of two failures of equal reward."""
    added: int
    """Tasks with a pair out of a tie and none by reward."""
    concordance: Interval | None
    """None where no task has two episodes of different rewards."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.closeness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--encoder")
    parser.add_argument("--bandwidth", type=float)
    parser.add_argument("--least-difference", type=float, default=0.02)
    parser.add_argument("--train", type=Path, metavar="OUT")
    given = parser.parse_args()
    try:
        settings = SimilaritySettings(
            encoder=given.encoder, bandwidth=given.bandwidth, least_difference=given.least_difference
        )
        for each in rounds(given.run, settings):
            print(line(each))
        if given.train is not None:
            print(trained(given.run, given.train))
    except EtoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def rounds(run: Path, settings: SimilaritySettings) -> list[Found]:
    """Every round of a run whose own episodes are in its store. Raises `InputError` where there is none."""
    embed: Embed = turn_vectors if settings.encoder is None else TurnEncoder(settings.encoder)
    found = []
    with TrajectoryStore(run / "trajectories.sqlite", read_only=True) as store:
        experts = store.get(Phase.expert())
        numbers = sorted(int(phase.name) for phase in store.phases() if phase.purpose == "explore")
        if not numbers:
            hint = "give a run whose method plays training tasks"
            raise InputError("the store holds no own episodes", where=str(run), hint=hint)
        known = list(experts)
        for iteration in numbers:
            explored = [each for each in store.get(Phase.explore(iteration)) if each.turns]
            known += explored
            found.append(of_round(iteration, experts, explored, known, settings, embed))
    return found


def of_round(
    iteration: int,
    experts: Sequence[Trajectory],
    explored: Sequence[Trajectory],
    known: Sequence[Trajectory],
    settings: SimilaritySettings,
    embed: Embed,
) -> Found:
    """What closeness finds among a round's episodes; known: those of it and before, with the experts."""
    near: dict[tuple[str, int], float] = {}
    for kind, wanted in preferred_by_kind(known, settings.least_reward, settings.preferred).items():
        own = [each for each in explored if each.task.kind == kind]
        values = closeness(own, wanted, embed, settings.bandwidth)
        near |= {key_of(each): value for each, value in zip(own, values, strict=True)}
    by_reward = contrast_result(experts, explored, ContrastSettings(agent_pairs=True)).pairs
    rules = PairRules(1, settings.least_difference, below=settings.least_reward)
    ties = pairs_by_value(explored, near, rules)
    alone = {pair.task.id for pair in ties} - {pair.task.id for pair in by_reward}
    right = concordance(explored, known, settings, embed)
    tasks = len({each.task.id for each in explored})
    return Found(
        iteration,
        len(explored),
        tasks,
        len(by_reward),
        len(ties),
        len(alone),
        mean_interval(right) if right else None,
    )


def concordance(
    explored: Sequence[Trajectory],
    known: Sequence[Trajectory],
    settings: SimilaritySettings,
    embed: Embed,
) -> list[float]:
    """For each task with two episodes of different rewards, the share of such two in which the nearer one has
    the higher reward; equal closeness counts half."""
    shares = []
    for task_id in sorted({each.task.id for each in explored}):
        own = [each for each in explored if each.task.id == task_id]
        if len({each.reward for each in own}) < 2:
            continue
        others = [t for t in known if t.task.id != task_id and t.task.kind == own[0].task.kind]
        kinds = preferred_by_kind(others, settings.least_reward, settings.preferred)
        if not kinds:
            continue
        [wanted] = kinds.values()
        near = closeness(own, wanted, embed, settings.bandwidth)
        apart = [
            (one.reward - other.reward) * (a - b)
            for (one, a), (other, b) in combinations(zip(own, near, strict=True), 2)
            if one.reward != other.reward
        ]
        shares.append(sum(1.0 if x > 0 else 0.5 if x == 0 else 0.0 for x in apart) / len(apart))
    return shares


def line(found: Found) -> str:
    """A round in words."""
    right = "no task has two different rewards"
    if (shares := found.concordance) is not None:
        right = f"concordance {shares.mean:.3f} [{shares.low:.3f}, {shares.high:.3f}] over {shares.n} tasks"
    return (
        f"round {found.iteration}: {found.episodes} episodes of {found.tasks} tasks; "
        f"{found.by_reward} pairs by reward, {found.ties} out of ties, "
        f"{found.added} of them of tasks that have none by reward; {right}"
    )


def trained(run: Path, out: Path) -> str:
    """RUN gone on with from its own episodes, without and with pairs out of ties; raises `InputError` where
    it is not of the method lope."""
    recipe = recipe_of_run(run)
    if not isinstance(recipe.method, LopeSettings):
        hint = "run recipes/lope.yaml, and give its directory"
        raise InputError(f"the run is of the method {recipe.method.name}", where=str(run), hint=hint)
    outcomes: dict[str, list[Outcome]] = {}
    said = []
    with Progress() as progress:
        for label, ties in (("without ties", 0), ("with ties", max(1, recipe.method.similarity.ties))):
            own = with_ties(recipe, recipe.method, ties, out)
            perform(own, source=None if own.directory.exists() else run, watch=progress)
            outcomes[label] = [outcome_of(own.directory, out)]
            rows = read_rows(own.directory / "metrics.jsonl")
            dev = [f"{row['agent']} {row['reward']:.3f}" for row in rows if row["stage"] == "dev"]
            said.append(f"{label}, dev: {', '.join(dev)}")
    table = compared(outcomes, {"with ties": {"without ties": "without ties"}})
    return "\n".join([*said, "", compared_markdown(table, seeds=1)])


def with_ties(recipe: Recipe, method: LopeSettings, ties: int, out: Path) -> Recipe:
    """The recipe with so many pairs of a task out of ties, in a directory of its own below `out`."""
    given = method.similarity.model_dump(exclude_unset=True) | {"ties": ties}
    changed = method.replace(similarity=SimilaritySettings(**given))
    return recipe.replace(method=changed, run_directory=str(out / f"ties-{ties}"))


if __name__ == "__main__":
    sys.exit(main())
