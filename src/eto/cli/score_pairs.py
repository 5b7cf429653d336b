"""`eto score-pairs`: what preference training did to each turn of its pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eto.cli.progress import Progress
from eto.data.formats import read_pairs
from eto.data.pair_scores import FILE, write_scores
from eto.errors import InputError
from eto.evaluation.results import natural
from eto.experiment.compose import policy_of
from eto.experiment.recipe import Recipe, load_recipe
from eto.methods import declared_stages
from eto.protocols import Stage

if TYPE_CHECKING:
    from eto.data.pair_scores import PairScores
    from eto.training.learner import Learner
    from eto.types import Pair


def score_run(run: Path, number: int | None, limit: int, before: str) -> None:
    """Score the first `limit` pairs of a round, or of all rounds, under the agent that training began with
    and the one that it made; keep the sums of each turn beside the latter."""
    if not (run / "recipe.yaml").is_file():
        raise InputError("there is no run", where=str(run), hint="name the directory of a run")
    recipe = load_recipe(run / "recipe.yaml", note=False)
    rounds = _rounds(run) if number is None else [number]
    if not rounds:
        raise InputError("no pairs have been trained on yet", where=str(run))
    work = [(each, *_agents(run, recipe, each, before)) for each in rounds]
    with Progress() as progress:
        learner = policy_of(recipe)
        for each, old, new in work:
            pairs = list(enumerate(read_pairs(run / "stages" / f"contrast-{each}" / "pairs.jsonl")))[:limit]
            found = _scored(learner, run, pairs, (old, new))
            write_scores(run / "stages" / new.name / FILE, found)
            progress.say(
                f"round {each}: {len(found)} of {len(pairs)} pairs under {old.agent} and {new.agent}: "
                f"{run / 'stages' / new.name / FILE}"
            )
            for line in _summary(found):
                progress.say(line)


def _rounds(run: Path) -> list[int]:
    """Rounds whose pairs were trained on."""
    names = sorted((path.parent.name for path in run.glob("stages/contrast-*/pairs.jsonl")), key=natural)
    numbers = [int(name.removeprefix("contrast-")) for name in names]
    return [each for each in numbers if (run / "stages" / f"dpo-{each}" / "DONE").is_file()]


def _agents(run: Path, recipe: Recipe, number: int, before: str) -> tuple[Stage, Stage]:
    """The stages that made the agent before a round's training and the one after it."""
    if not (run / "stages" / f"contrast-{number}" / "pairs.jsonl").is_file():
        raise InputError(f"round {number} has no pairs", where=str(run))
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
        raise InputError(f"no agent was made before round {number}", where=str(run))
    for stage in (old, declared[at]):
        directory = run / "stages" / stage.name
        if not ((directory / "DONE").is_file() and (directory / "model").is_dir()):
            hint = "let the run go on, or name another agent by --before"
            raise InputError(f"the model of {stage.agent} is not there yet", where=str(run), hint=hint)
    return old, declared[at]


def _scored(
    learner: Learner, run: Path, pairs: list[tuple[int, Pair]], stages: tuple[Stage, Stage]
) -> list[PairScores]:
    from eto.training.pair_scores import paired, turn_log_probs

    scores = []
    for stage in stages:
        learner.load(run / "stages" / stage.name / "model")
        scores.append(list(turn_log_probs(learner, [pair for _, pair in pairs])))
    return paired(pairs, (stages[0].agent, stages[1].agent), *scores)


def _summary(found: list[PairScores]) -> list[str]:
    if not found:
        return ["  no pair keeps turns with loss on both sides within the context"]
    chosen, rejected = ([getattr(each, side).change for each in found] for side in ("chosen", "rejected"))
    margin = sum(a > b for a, b in zip(chosen, rejected, strict=True))
    return [
        f"  mean change of log-prob: chosen {sum(chosen) / len(found):+.2f} nats, "
        f"rejected {sum(rejected) / len(found):+.2f}; chosen gained on rejected in {margin} of {len(found)}"
    ]
