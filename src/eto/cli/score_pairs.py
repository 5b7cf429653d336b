"""`eto score-pairs`: what preference training did to each turn of its pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from eto.cli.kept import KeptSums
from eto.cli.progress import Progress
from eto.data.formats import read_pairs
from eto.data.pair_scores import (
    FILE,
    Key,
    PairScores,
    Scored,
    append_sums,
    paired,
    read_scores,
    read_unscored,
    sums_of,
    write_scores,
)
from eto.errors import InputError
from eto.evaluation.results import natural
from eto.experiment.compose import policy_of
from eto.experiment.recipe import RUN_FILE, Recipe, recipe_of_run
from eto.methods import declared_stages
from eto.protocols import Stage

if TYPE_CHECKING:
    from eto.training.learner import Learner
    from eto.types import Pair


@dataclass(frozen=True, slots=True)
class _Round:
    """A round whose pairs are scored."""

    number: int
    directory: Path
    """That of its run's stages."""
    old: Stage
    """It made the agent that training began with."""
    new: Stage

    @property
    def file(self) -> Path:
        """Where the scores are kept."""
        return self.directory / self.new.name / FILE

    @property
    def agents(self) -> tuple[str, str]:
        return self.old.agent, self.new.agent

    def pairs(self, limit: int) -> dict[int, Pair]:
        """Place -> pair of the first `limit`."""
        return dict(enumerate(read_pairs(_pairs_of(self.directory.parent, self.number))[:limit]))


def score_run(run: Path, number: int | None, limit: int, before: str) -> None:
    """Score the first `limit` pairs of a round, or of all rounds, under the agent that training began with
    and the one that it made; keep the sums of each turn beside the latter. What was scored before stays."""
    if not (run / RUN_FILE).is_file():
        raise InputError("there is no run", where=str(run), hint="name the directory of a run")
    recipe = recipe_of_run(run)
    numbers = _rounds(run) if number is None else [number]
    if not numbers:
        raise InputError(
            "no pairs have been trained on yet", where=str(run), hint="let the run go on until it has"
        )
    rounds = [_Round(each, run / "stages", *_agents(run, recipe, each, before)) for each in numbers]
    learner = cache(lambda: policy_of(recipe))  # not loaded where all is scored
    with Progress() as progress:
        for each in rounds:
            pairs = each.pairs(limit)
            found = _score(each, pairs, learner, progress)
            progress.say(
                f"round {each.number}: {len(found)} of {len(pairs)} pairs under {each.old.agent} and "
                f"{each.new.agent}: {each.file}"
            )
            for line in _summary(found):
                progress.say(line)


def _score(
    each: _Round, pairs: dict[int, Pair], learner: Callable[[], Learner], progress: Progress
) -> list[PairScores]:
    """The scores of `pairs`: those that are kept, and the others, which are then kept beside them."""
    kept, unscored = read_scores(each.file), read_unscored(each.file)
    known = sums_of(kept.values())
    known |= {(agent, *tried): None for agent in each.agents for tried in unscored.items()}
    wanted = [(place, pair.task.id) for place, pair in pairs.items()]
    if all((agent, *one) in known for agent in each.agents for one in wanted):
        return paired(wanted, each.agents, known)[0]
    with KeptSums(each.file, {"command": "score-pairs", "agents": list(each.agents)}) as under_way:
        known |= under_way.sums
        if under_way.sums:
            count = f"{len(under_way.sums)} of {2 * len(wanted)} scores"
            progress.say(f"resuming: {count} are kept in {under_way.directory}")
        for stage in (each.old, each.new):
            left = {place: pair for place, pair in pairs.items() if _key(stage, place, pair) not in known}
            for key, scored in _scored(stage, left, each.directory, learner):
                known[key] = scored
                append_sums(under_way.file, {key: scored})
        found, failed = paired(wanted, each.agents, known)
        earlier = [one for one in kept.values() if (one.before, one.after) == each.agents]
        write_scores(each.file, {one.place: one for one in [*earlier, *found]}.values(), unscored | failed)
        under_way.finish()
    return found


def _scored(
    stage: Stage, pairs: dict[int, Pair], stages: Path, learner: Callable[[], Learner]
) -> Iterator[tuple[Key, Scored | None]]:
    """What the agent that `stage` made gives to each of `pairs`."""
    if not pairs:
        return
    from eto.training.pair_scores import turn_log_probs

    learner().load(stages / stage.name / "model")
    for (place, pair), scored in zip(
        pairs.items(), turn_log_probs(learner(), list(pairs.values())), strict=True
    ):
        yield _key(stage, place, pair), scored


def _key(stage: Stage, place: int, pair: Pair) -> Key:
    return stage.agent, place, pair.task.id


def _pairs_of(run: Path, number: int) -> Path:
    return run / "stages" / f"contrast-{number}" / "pairs.jsonl"


def _rounds(run: Path) -> list[int]:
    """Rounds whose pairs were trained on."""
    names = sorted((path.parent.name for path in run.glob("stages/contrast-*/pairs.jsonl")), key=natural)
    numbers = [name.removeprefix("contrast-") for name in names]
    return [int(n) for n in numbers if n.isdecimal() and (run / "stages" / f"dpo-{n}" / "DONE").is_file()]


def _agents(run: Path, recipe: Recipe, number: int, before: str) -> tuple[Stage, Stage]:
    """The stages that made the agent before a round's training and the one after it."""
    if not _pairs_of(run, number).is_file():
        hint = f"rounds with pairs that were trained on: {', '.join(map(str, _rounds(run))) or 'none yet'}"
        raise InputError(f"round {number} has no pairs", where=str(run), hint=hint)
    declared = [stage for stage in declared_stages(recipe.method) if stage.agent]
    names = [stage.name for stage in declared]
    if f"dpo-{number}" not in names:
        hint = "only the pairs of stages called dpo-<round> can be scored"
        raise InputError(
            f"the method {recipe.method.name} declares no dpo-{number}", where=str(run), hint=hint
        )
    at = names.index(f"dpo-{number}")
    known = {stage.agent: stage for stage in declared[:at]}
    if before and before not in known:
        hint = f"agents before that training: {', '.join(known) or 'none'}"
        raise InputError(f"{before} was not made before round {number}", where="--before", hint=hint)
    old = known[before] if before else declared[at - 1] if at else None
    if old is None:
        hint = "there is nothing to compare the trained agent with"
        raise InputError(f"no agent was made before round {number}", where=str(run), hint=hint)
    for stage in (old, declared[at]):
        directory = run / "stages" / stage.name
        if not ((directory / "DONE").is_file() and (directory / "model").is_dir()):
            hint = "let the run go on, or name another agent by --before"
            raise InputError(f"the model of {stage.agent} is not there yet", where=str(run), hint=hint)
    return old, declared[at]


def _summary(found: list[PairScores]) -> list[str]:
    if not found:
        return ["  no pair keeps turns with loss on both sides within the context"]
    chosen, rejected = ([getattr(each, side).change for each in found] for side in ("chosen", "rejected"))
    margin = sum(a > b for a, b in zip(chosen, rejected, strict=True))
    return [
        f"  mean change of log-prob: chosen {sum(chosen) / len(found):+z.2f} nats, "
        f"rejected {sum(rejected) / len(found):+z.2f}; chosen gained on rejected in {margin} of {len(found)}"
    ]
