"""Judging: how far the agent's own actions pass for the expert's."""

from __future__ import annotations

from collections.abc import Sequence

from eto.credit.discriminator import Judged, accuracy
from eto.credit.monte_carlo import Branch
from eto.data.arrays import check_mark, mark_of
from eto.data.files import read_object, write_json
from eto.experiment.lab import Lab
from eto.protocols import Agent
from eto.settings.discriminator import DiscriminatorSettings
from eto.steps.cloning import drop_state
from eto.training.discriminator import discriminate, judgements, trials
from eto.training.policy_gradient import add_value_head


def judge(
    lab: Lab,
    found: Sequence[Branch],
    settings: DiscriminatorSettings,
    *,
    base: Agent,
    acting: Agent,
    stage: str,
) -> tuple[list[Judged], str]:
    """Stage `stage`: a discriminator, begun from `base`, learns to tell the first own action of each branch
    from the expert's there; its judgement of all that fit the context, and why it is not to be trusted, ""
    where it is. The learner is `acting` afterwards.

    Raises `InputError` where fewer than two experts' trajectories can be compared.
    """
    mark = mark_of(each.episode for each in found)
    with lab.run.stage(stage) as under_way:
        path = under_way.directory / "judged.json"
        if not under_way.done:
            lab.become(base)
            add_value_head(lab.learner)
            tried = trials(lab.learner, found, settings.held_out, lab.recipe.seed)
            fit = discriminate(lab.learner, tried, settings, directory=under_way.directory, **lab.training)
            lab.train(stage, fit)
            judged = judgements(lab.learner, tried, settings.micro_batch_tokens)
            write_json(path, {"made_from": mark, "actions": [_row(each) for each in judged]})
            held_out = accuracy(each for each in judged if each.held_out)
            under_way.note(actions=len(judged), accuracy=held_out, tokens=fit.tokens)
            lab.become(acting)
    drop_state(under_way.directory)
    kept = read_object(path, "made_from", "actions")
    check_mark(path, kept["made_from"], mark)
    branches = {(each.episode.task.id, each.episode.sample): each for each in found}
    judged = [
        Judged(branches[row["task"], row["sample"]], row["logit"], row["expert_logit"], row["held_out"])
        for row in kept["actions"]
    ]
    right = accuracy(each for each in judged if each.held_out)
    if right is None:
        return judged, "the agent acts as the expert in all held-out states"
    told = f"the discriminator is right about {right:.0%} of held-out actions that differ"
    if right < settings.least_accuracy:
        return judged, f"{told}, less than least_accuracy"
    lab.watch.say(f"{stage}: {told}")
    return judged, ""


def _row(judged: Judged) -> dict[str, object]:
    return {
        "task": judged.branch.episode.task.id,
        "sample": judged.branch.episode.sample,
        "turn": judged.branch.at,
        "action": judged.branch.episode.turns[judged.branch.at].action,
        "logit": judged.logit,
        "expert_logit": judged.expert_logit,
        "held_out": judged.held_out,
    }
