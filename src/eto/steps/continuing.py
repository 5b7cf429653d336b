"""Continuing: episodes that go on from given turns, and what the states after these are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eto.credit.monte_carlo import Branch, Cut, Valued, branches, mean_reward, partings, step_pairs
from eto.errors import InputError
from eto.experiment.lab import Lab
from eto.experiment.needs import advice, unmet_text
from eto.experiment.play import by_prefix
from eto.protocols import Agent, Need
from eto.settings import ContrastSettings, MonteCarloSettings
from eto.types import Pair, Phase, Trajectory

State = tuple[str, int]
"""A state of an expert's: task id, and turns up to it."""


def branch(
    lab: Lab,
    starts: Sequence[Cut],
    *,
    stage: str,
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
    own_turns: int | None = None,
) -> list[Branch]:
    """Stage `stage`: the learner acts on from each of `starts`, for `own_turns` turns or to the end of the
    episode; what became of it.

    seed: set apart from those of other stages, it draws the samples. Raises `InputError` where there is
    nothing to start from, or where the environment cannot be brought back to a state by repeated actions.
    """
    check_starts(starts)
    played = _played(lab, starts, stage, temperature, samples, seed, own_turns)
    found, others = branches(starts, played)
    if others:
        lab.watch.say(f"{stage}: {others} episodes had another prompt, or ended before the agent acted")
    return found


def values(
    lab: Lab,
    states: Sequence[Cut],
    settings: MonteCarloSettings,
    *,
    stage: str,
    scorer: Agent,
    seed: int = 0,
) -> list[float | None]:
    """Stage `stage`: average reward of `scorer` from each of `states` (IPR, section 3.2). A state in which
    the trajectory has ended is worth that trajectory's reward; None where no episode from it could be
    played.

    The learner has its own weights again afterwards.
    """
    open_states = [state for state in states if not state.ends]
    played = continuations(lab, open_states, settings, stage=stage, scorer=scorer, seed=seed)
    estimates = iter([mean_reward(episodes) for episodes in played])
    return [state.trajectory.reward if state.ends else next(estimates) for state in states]


def continuations(
    lab: Lab,
    states: Sequence[Cut],
    settings: MonteCarloSettings,
    *,
    stage: str,
    scorer: Agent,
    seed: int = 0,
) -> list[list[Trajectory]]:
    """Stage `stage`: the episodes of `scorer` from each of `states`; those that failed or came to another
    state are left out. The learner has its own weights again afterwards."""
    before = lab.current
    if not lab.run.done(stage) and scorer != before:
        lab.become(scorer)
    played = _played(lab, states, stage, settings.temperature, settings.samples, seed)
    if before is not None and lab.current != before:
        lab.become(before)
    return played


def valued(
    lab: Lab,
    found: Sequence[Branch],
    known: Mapping[State, float],
    settings: MonteCarloSettings,
    *,
    stage: str,
    scorer: Agent,
    turns: int = 1,
    seed: int = 0,
) -> tuple[list[Valued], dict[State, float]]:
    """Stage `stage`: the branches with the values of the states after so many turns of each side, without
    those of which one cannot be valued; and `known`, values of the experts' states, with those that it adds.
    """
    own = [each.after(turns) for each in found]
    experts = [Cut(each.expert, min(each.at + turns, len(each.expert.turns))) for each in found]
    missing = {_state(cut): cut for cut in experts if _state(cut) not in known}
    worth = values(lab, [*missing.values(), *own], settings, stage=stage, scorer=scorer, seed=seed)
    fresh = {state: value for state, value in zip(missing, worth, strict=False) if value is not None}
    of_experts = {**known, **fresh}
    both = [
        Valued(branch, of_experts[_state(expert)], value)
        for branch, expert, value in zip(found, experts, worth[len(missing) :], strict=True)
        if value is not None and _state(expert) in of_experts
    ]
    return both, of_experts


def step_wise(
    lab: Lab,
    found: Sequence[Branch],
    known: Mapping[State, float],
    settings: MonteCarloSettings,
    rules: ContrastSettings,
    threshold: float,
    *,
    stage: str,
    scorer: Agent,
    seed: int = 0,
) -> tuple[list[Pair], dict[State, float]]:
    """Stage `stage`: the branches after the first turn whose first own action is worth more or less than the
    expert's there, as pairs of what follows (IPR, section 3.3); and `known` as in `valued`. Branches that
    could give no pair, by their action or their reward, are not valued. Of `rules`, `min_gap` and
    `both_directions` count."""
    later = [each for each in partings(found, rules.min_gap) if each.at > 0]
    both, of_experts = valued(lab, later, known, settings, stage=stage, scorer=scorer, seed=seed)
    pairs = step_pairs(both, threshold, rules.min_gap, both_directions=rules.both_directions)
    return pairs, of_experts


def _state(cut: Cut) -> State:
    return cut.trajectory.task.id, cut.turns


def check_starts(starts: Sequence[Cut]) -> None:
    """Raises `InputError` where there is no expert to follow."""
    if not starts:
        raise InputError(
            "there are no expert trajectories to follow",
            where="tasks",
            hint=f"take tasks that have an expert; or {advice(Need.EXPERTS)}",
        )


def _played(
    lab: Lab,
    states: Sequence[Cut],
    stage: str,
    temperature: float,
    samples: int,
    seed: int,
    own_turns: int | None = None,
) -> list[list[Trajectory]]:
    """Episodes from each of `states`; those that came to another state are left out."""
    phase = Phase.continued(stage)
    prefixes = [state.prefix(lab.learner.tokenizer_id) for state in states]
    with lab.run.stage(stage) as under_way:
        if under_way.done:
            played = by_prefix(lab.run.store.get(phase), prefixes, samples)
        else:
            under_way.played(phase)
            under_way.note(states=len(states), episodes=len(states) * samples)
            played = lab.play_on(
                prefixes,
                phase,
                temperature=temperature,
                samples=samples,
                seed=lab.recipe.seed * 1000 + seed,
                own_turns=own_turns,
            )
    kept = [
        [episode for episode in episodes if state.begins(episode)]
        for state, episodes in zip(states, played, strict=True)
    ]
    inner = [at for at, state in enumerate(states) if state.turns]
    count, left = (sum(len(each[at]) for at in inner) for each in (played, kept))
    if count and not left:
        method, lacking = lab.recipe.method.name, Need.REPLAY
        if not lab.experts:
            lacking |= Need.EXPERTS
        raise InputError(
            f"none of {count} episodes came to the state from which it was to go on: the environment "
            "answered the same actions otherwise, or ended",
            where=f"environment {lab.suite.name}",
            hint=f"{unmet_text(method, Need.REPLAY)}; {advice(lacking, method)}",
        )
    if left < count:
        lab.watch.say(f"{stage}: {count - left} of {count} episodes came to another state and are left out")
    return kept
