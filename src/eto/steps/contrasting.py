"""Contrasting: pairs of the expert's and the agent's trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from eto.credit.contrast import contrast_result
from eto.data.files import read_json, write_json
from eto.data.formats import read_pairs, write_pairs
from eto.experiment.lab import Lab
from eto.protocols import Stage
from eto.settings import ContrastSettings, DpoSettings
from eto.training.pair_examples import LeftOut, contrasted, no_pairs_left
from eto.types import Pair, Trajectory


def contrast(
    lab: Lab,
    expert: Sequence[Trajectory],
    explored: Sequence[Trajectory],
    settings: ContrastSettings,
    dpo: DpoSettings,
    iteration: int = 1,
    *,
    further: Sequence[Pair] = (),
) -> tuple[list[Pair], LeftOut]:
    """Stage `contrast-<iteration>`: the pairs that have something to contrast within the learner's context,
    and the others by reason. Raises `InputError` where that leaves the first round without any.

    dpo: how the pairs will be trained on, which decides what of them counts. further: pairs that were made
    otherwise, which come after those.
    """
    with lab.run.stage(Stage.contrast(iteration).name) as stage:
        path, counts = stage.directory / "pairs.jsonl", stage.directory / "left_out.json"
        if stage.done:
            left_out = read_json(counts) if counts.exists() else {}
            return (read_pairs(path) if path.stat().st_size else []), left_out
        result = contrast_result(expert, explored, settings, seed=lab.recipe.seed)
        kept, left_out = contrasted(lab.learner, [*result.pairs, *further], settings, dpo)
        if left_out and not kept and iteration == 1:
            raise no_pairs_left(left_out, lab.learner.max_context)
        pairs = [pair for pair, _ in kept]
        write_pairs(path, pairs)
        write_json(counts, left_out)
        by_reason = {reason: len(ids) for reason, ids in left_out.items()}
        stage.note(pairs=len(pairs), left_out=by_reason, summary=asdict(result.summary))
        return pairs, left_out
