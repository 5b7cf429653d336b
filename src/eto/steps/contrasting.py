"""Contrasting: pairs of the expert's and the agent's trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from eto.credit.contrast import accumulated, contrast_result
from eto.data.files import write_json
from eto.data.formats import read_pairs, write_pairs
from eto.experiment.lab import Lab
from eto.protocols import Stage
from eto.settings import ContrastSettings, DpoSettings
from eto.training.pair_examples import contrasted, no_pairs_left
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
) -> tuple[list[Pair], str]:
    """Stage `contrast-<iteration>`: the pairs that have something to contrast within the learner's context,
    and why there are none, "" where there are some. Raises `InputError` where the context leaves the first
    round without any.

    dpo: how the pairs will be trained on, which decides what of them counts. further: pairs that were made
    otherwise, which come after those; a pair that both ways give counts once.
    """
    with lab.run.stage(Stage.contrast(iteration).name) as stage:
        path, counts = stage.directory / "pairs.jsonl", stage.directory / "left_out.json"
        if stage.done:
            pairs = read_pairs(path) if path.stat().st_size else []
            return pairs, "" if pairs else why_none(stage.metrics)
        result = contrast_result(expert, explored, settings, seed=lab.recipe.seed)
        kept, left_out = contrasted(lab.learner, accumulated(result.pairs, further), settings, dpo)
        if left_out and not kept and iteration == 1:
            raise no_pairs_left(left_out, lab.learner.max_context)
        pairs = [pair for pair, _ in kept]
        write_pairs(path, pairs)
        write_json(counts, left_out)
        by_reason = {reason: len(ids) for reason, ids in left_out.items()}
        stage.note(pairs=len(pairs), left_out=by_reason, summary=asdict(result.summary))
        return pairs, "" if pairs else why_none(stage.metrics)


WORDS = {
    "ties": "tied",
    "no_partner": "without an expert",
    "prompt_differs": "with another prompt than the other side's",
    "no_parting": "that nothing parts from the other side",
    "wins_unused": "better than the expert, which contrast.both_directions leaves out",
    "empty": "without a turn",
    "failed": "failed",
}
"""What is said of a number of explored episodes with an outcome that gives no pair."""


def why_none(noted: Mapping[str, Any]) -> str:
    """Why a stage that noted this has no pairs."""
    summary = noted.get("summary", {})
    given = {
        "own episodes": {words: summary.get(name, 0) for name, words in WORDS.items()},
        "pairs left out": {f"with {reason}": count for reason, count in noted.get("left_out", {}).items()},
    }
    told = [
        f"{what}: " + ", ".join(f"{count} {words}" for words, count in counts.items() if count)
        for what, counts in given.items()
        if any(counts.values())
    ]
    return "; ".join(told) or "nothing differs in reward"
