"""ETO (arXiv 2403.02502): clone an expert, then explore, contrast, prefer, and repeat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from eto.limits import Whole
from eto.protocols import Method
from eto.settings import (
    ContrastSettings,
    DpoSettings,
    ExploreSettings,
    GuardSettings,
    MethodSettings,
    SftSettings,
)
from eto.settings.base import Most


class EtoSettings(MethodSettings):
    """Cloning, then rounds of explore, contrast and preference training."""

    name: Literal["eto"] = "eto"
    """The method."""
    iterations: Annotated[Whole, Most(1000)] = 2
    """Rounds of explore, contrast and DPO; 0 only clones. Paper: 2 (ALFWorld 1)."""
    sft: SftSettings = SftSettings()
    """Behavioural cloning of the expert."""
    explore: ExploreSettings = ExploreSettings()
    """Collecting the agent's own episodes."""
    contrast: ContrastSettings = ContrastSettings()
    """Making pairs of them."""
    dpo: DpoSettings = DpoSettings()
    """Preference training on the pairs."""
    guard: GuardSettings = GuardSettings()
    """Bounds on preference training."""

    def needs_dev(self) -> str:
        if not self.iterations:
            return ""
        if self.guard.dev_every_epoch:
            return "guard.dev_every_epoch"
        return "guard.ship_only_if_better" if self.guard.ship_only_if_better else ""

    def without_effect(self) -> Mapping[str, str]:
        if self.iterations:
            return {}
        return dict.fromkeys(("explore", "contrast", "dpo", "guard"), "set method.iterations above 0")


METHOD = Method(name="eto", summary="explore, contrast with the expert, prefer", settings=EtoSettings)
