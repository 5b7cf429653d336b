"""Behavioural cloning alone (ETO, arXiv 2403.02502, section 3.1): the baseline of the other methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from eto import steps
from eto.protocols import Method, Need, Outcome, Stage
from eto.settings import MethodSettings, SftSettings

if TYPE_CHECKING:
    from eto.experiment.lab import Lab


class CloningSettings(MethodSettings):
    """Cloning of the expert, and no more."""

    name: Literal["sft"] = "sft"
    """The method."""
    sft: SftSettings = SftSettings()
    """Behavioural cloning of the expert."""


def train(lab: Lab, settings: CloningSettings) -> Outcome:
    """One agent, cloned from the experts."""
    agent = steps.clone(lab, lab.cloned, settings.sft)
    return steps.select(lab, {agent: steps.evaluate(lab, agent)})


def stages(settings: CloningSettings) -> list[Stage]:
    """`train` as stages."""
    return [Stage.clone("sft", "sft"), Stage.dev("sft")]


METHOD = Method(
    name="sft",
    summary="clone the expert",
    settings=CloningSettings,
    train=train,
    stages=stages,
    needs=lambda settings: [Need.EXPERTS],
)
