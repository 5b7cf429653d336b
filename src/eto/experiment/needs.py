"""What a method cannot do without, what is lacking, and which installed methods would work all the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from eto.credit.contrast import shared_turns
from eto.errors import InputError
from eto.methods import METHODS, load_method
from eto.protocols import Method, Need, TaskSuite
from eto.settings import EnvironmentLimits, MethodSettings
from eto.types import Trajectory

if TYPE_CHECKING:
    from eto.environments.hosting.pool import EnvironmentPool

PROBED = 3
"""Experts that are played once more to see whether an environment answers alike."""

WORDS = {
    Need.EXPERTS: "experts of its training tasks",
    Need.REPLAY: "an environment that answers the same actions alike each time",
    Need.REWARD: "own episodes that succeed",
    Need.SPREAD: "rewards that differ",
    Need.OWN_SPREAD: "own episodes whose rewards differ",
    Need.DEV: "dev tasks",
}


def needs_of(method: Method, settings: MethodSettings) -> tuple[Need, ...]:
    """All needs of a method with these settings."""
    said = (Need.EXPERTS,) if method.needs is None else tuple(method.needs(settings))
    return (*said, Need.DEV) if settings.needs_dev() else said


def unmet(settings: MethodSettings, lacking: Need) -> Need | None:
    """The first need of the settings' method that nothing meets where all of `lacking` is; None where each
    is met."""
    return _unmet(load_method(settings.name), settings, lacking)


def lacking_in(
    own: Iterable[Trajectory],
    experts: Iterable[Trajectory] = (),
    *,
    least_reward: float = 1.0,
    by_task: bool = True,
) -> Need:
    """What own episodes do not give: REWARD where none earns `least_reward`; OWN_SPREAD where those of each
    task have one reward, or without `by_task` all; SPREAD where they have it with the experts' among them."""
    played = [each for each in own if each.turns and not each.failed]
    lacking = Need(0)
    if not any(each.reward >= least_reward for each in played):
        lacking |= Need.REWARD
    if not _differ(played, by_task):
        lacking |= Need.OWN_SPREAD
    if not _differ([*played, *experts], by_task):
        lacking |= Need.SPREAD
    return lacking


def _differ(episodes: Iterable[Trajectory], by_task: bool) -> bool:
    earned: dict[str, set[float]] = {}
    for each in episodes:
        earned.setdefault(each.task.id if by_task else "", set()).add(each.reward)
    return any(len(rewards) > 1 for rewards in earned.values())


def would_work(lacking: Need) -> list[str]:
    """Names of the installed methods that, with their default settings, need nothing of `lacking`. Those that
    do not say what they need are not among them."""
    names = []
    for name in sorted(METHODS):
        try:
            method = load_method(name)
            settings = method.settings()
        except (ImportError, AttributeError, InputError):  # a broken package, or settings without defaults
            continue
        if method.needs is not None and _unmet(method, settings, lacking) is None:
            names.append(name)
    return names


def advice(lacking: Need, own: str = "") -> str:
    """The methods that would work, as a sentence. own: the method that lacks something; where it would work,
    other settings of it do."""
    names = [f"{name} as by default" if name == own else name for name in would_work(lacking)]
    if not names:
        return "no installed method would work here"
    return f"methods that would work here: {', '.join(names)}"


def unmet_text(method: str, need: Need) -> str:
    """Which need of a method is not met, as a sentence."""
    return f"{method} needs {' or '.join(WORDS[each] for each in need)}"


def unmet_error(settings: MethodSettings, need: Need, found: str, *, where: str) -> InputError:
    """The error for a `need` that is not met. found: what there is instead."""
    return InputError(
        f"{unmet_text(settings.name, need)}: {found}", where=where, hint=advice(need, settings.name)
    )


def check_replay(
    settings: MethodSettings,
    suite: TaskSuite,
    experts: Sequence[Trajectory],
    limits: EnvironmentLimits,
    pool: EnvironmentPool,
) -> None:
    """Raises `InputError` where the method needs an environment that can be brought back to a state, and
    playing some experts' actions once more brought back none."""
    from eto.rollout.experts import repeated

    need = unmet(settings, Need.REPLAY)
    probed = [expert for expert in experts if len(expert.turns) > 1][:PROBED]
    if need is None or not probed:
        return
    again = repeated(suite, probed, limits=limits, pool=pool)
    if again and not any(one.messages == two.messages and shared_turns(one, two) for one, two in again):
        found = f"{len(again)} experts' actions, played once more, were answered otherwise from the start"
        raise unmet_error(settings, need, found, where=f"environment {suite.name}")


def _unmet(method: Method, settings: MethodSettings, lacking: Need) -> Need | None:
    return next((need for need in needs_of(method, settings) if not need & ~lacking), None)
