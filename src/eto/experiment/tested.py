"""Test episodes of an agent that two runs have in common.

Evaluation draws from the seed and the task alone, so an agent that was taken with its stage would play the
same episodes again. They are taken where nothing but settings of the method differs; a run on its own
(`eto run --from`) plays its test itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from eto.data.store import TrajectoryStore
from eto.experiment.fork import changed_fields, stages_of
from eto.experiment.recipe import free_fields
from eto.experiment.run import Run
from eto.experiment.run_records import read_manifest
from eto.types import Phase


def take_tests(source: Path, run: Run, taken: Iterable[str]) -> list[str]:
    """Take the test episodes of the agents made in the stages `taken` from the finished run in `source`;
    returns the agents' names. None where the two runs would not test them alike: other versions, other test
    tasks, or other fields than the method's."""
    theirs, ours = read_manifest(source), run.manifest
    alike = all(theirs[name] == ours[name] for name in ("versions", "splits"))
    free = free_fields(run.recipe)
    fields = (line.split(":")[0] for line in changed_fields(source, run.recipe))
    alike &= all(field in free or field.split(".")[0] == "method" for field in fields)
    if not alike or not (source / "stages" / "test" / "DONE").exists() or run.done("test"):
        return []
    of = set(taken)
    agents = [stage.agent for stage in stages_of(run.recipe) if stage.agent and stage.name in of]
    with TrajectoryStore(source / "trajectories.sqlite", read_only=True) as episodes:
        phases = {agent: Phase.evaluate(agent, "test") for agent in agents}
        found = [agent for agent in agents if phases[agent] in episodes.phases()]
        for agent in found:
            run.store.copy(phases[agent], episodes)
    return found
