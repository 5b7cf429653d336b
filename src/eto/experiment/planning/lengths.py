"""How long a recipe's episodes are: a few of its experts, played and counted in tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from eto.data.formats import read_trajectories
from eto.data.texts import counted
from eto.errors import EtoError
from eto.experiment.planning.work import Lengths
from eto.experiment.recipe import Recipe
from eto.types import Task, Trajectory

if TYPE_CHECKING:
    from eto.protocols import TaskSuite

SAMPLED = 6
"""Experts that are played where the run has none yet."""
CHARACTERS = 3.5
"""Of English text to a token, where no tokenizer is at hand. Assumed."""
MARKS = 6
"""Tokens of a chat template around one message. Assumed with `CHARACTERS`."""
ASSUMED = Lengths(
    prompt=400,
    action=40,
    observation=100,
    turns=10,
    most_turns=20,
    longest=2400,
    source="assumed, for no expert could be played",
)


def sampled_lengths(
    recipe: Recipe, suite: TaskSuite, tasks: Sequence[Task], folder: Path
) -> tuple[Lengths, list[Trajectory]]:
    """Lengths of episodes of `tasks`, and the experts' trajectories they come from: the run's own where it
    has some, else `SAMPLED`, played here. `folder`: of the model, whose tokenizer counts where it is there.

    Raises what playing raises: `MissingRequirement`, `EnvironmentFailure`.
    """
    kept = recipe.directory / "stages" / "expert" / "expert.jsonl"
    if kept.exists():
        experts, source = read_trajectories(kept), "the run's experts"
    else:
        from eto.rollout.experts import collect_experts

        some = [tasks[number * len(tasks) // SAMPLED] for number in range(min(SAMPLED, len(tasks)))]
        some = list({task.id: task for task in some}.values())
        experts = collect_experts(suite, some, workers=min(2, recipe.environment.workers))
        source = f"{counted(len(experts), 'expert')} played now"
    if not experts:
        return ASSUMED, []
    count, how = _counter(recipe, folder)
    return _lengths(suite, experts, count, f"{source}, {how}"), experts


def _lengths(
    suite: TaskSuite, experts: Sequence[Trajectory], count: Callable[[str], float], source: str
) -> Lengths:
    prompts = [sum(count(message.content) for message in each.messages) for each in experts]
    actions = [[count(turn.action) for turn in each.turns] for each in experts]
    answers = [[count(turn.observation) for turn in each.turns] for each in experts]
    wholes = (p + sum(a) + sum(o) for p, a, o in zip(prompts, actions, answers, strict=True))
    return Lengths(
        prompt=fmean(prompts),
        action=fmean(number for each in actions for number in each),
        observation=fmean(number for each in answers for number in each),
        turns=fmean(len(each) for each in actions),
        most_turns=fmean(suite.max_turns(each.task) for each in experts),
        longest=round(max(wholes)),
        source=source,
    )


def _counter(recipe: Recipe, folder: Path) -> tuple[Callable[[str], float], str]:
    """Tokens of a message with the template's marks, and how they are counted."""
    tokenizer, how = _tokenizer(folder), "counted by the model's tokenizer"
    if tokenizer is None:
        return lambda text: len(text) / CHARACTERS + MARKS, f"{CHARACTERS} characters to a token"
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]) + MARKS, how


def _tokenizer(folder: Path) -> Any:
    from eto.models.loading import Source, load_tokenizer

    try:
        return load_tokenizer(Source(str(folder), str(folder)))
    except EtoError:  # the configuration alone is there
        return None
