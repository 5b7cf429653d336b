"""Needing: whether own episodes give what the run's method learns from."""

from __future__ import annotations

from collections.abc import Sequence

from eto.experiment.lab import Lab
from eto.experiment.needs import advice, lacking_in, unmet, unmet_text
from eto.protocols import Need
from eto.settings import MethodSettings
from eto.types import Trajectory


def lacks(
    lab: Lab,
    settings: MethodSettings,
    explored: Sequence[Trajectory],
    *,
    least_reward: float = 1.0,
    by_task: bool = True,
) -> str:
    """Why the method of `settings` can learn nothing from the episodes `explored`, and which methods could;
    "" where it can.

    by_task: rewards of one task are compared.
    """
    lacking = lacking_in(explored, lab.experts, least_reward=least_reward, by_task=by_task)
    if not lab.experts:
        lacking |= Need.EXPERTS
    if (need := unmet(settings, lacking)) is None:
        return ""
    alike = by_task and bool(need & (Need.SPREAD | Need.OWN_SPREAD))
    problem = f"{unmet_text(settings.name, need)}, but {_earned(explored, lab.experts, alike)}"
    return f"{problem}; {advice(lacking, settings.name)}"


def _earned(explored: Sequence[Trajectory], experts: Sequence[Trajectory], alike: bool) -> str:
    """What own episodes earn. alike: those of each task one reward."""
    rewards = sorted({each.reward for each in explored})
    if not rewards:
        return "no own episode was played"
    among = f"{rewards[0]:g}" if len(rewards) == 1 else f"between {rewards[0]:g} and {rewards[-1]:g}"
    if alike and len(rewards) > 1:
        among += ", those of a task alike"
    beside = "" if experts else ", and there are no experts"
    return f"its {len(explored)} own episodes earn {among}{beside}"
