"""Nearing: how near own episodes are to preferred ones of their task type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eto.credit.similarity import Embed, Key, closeness, key_of
from eto.data.files import read_json, write_json
from eto.data.hashed_words import turn_vectors
from eto.errors import InputError
from eto.experiment.lab import Lab
from eto.models.encoder import TurnEncoder
from eto.models.loading import find_model
from eto.settings.similarity import SimilaritySettings
from eto.types import Trajectory


def check_encoder(settings: SimilaritySettings) -> None:
    """Raises `InputError` where the encoder is not there, before anything is trained."""
    if settings.encoder is not None:
        try:
            find_model(settings.encoder)
        except InputError as error:
            where = f"method.similarity.encoder: {error.where}"
            raise InputError(error.problem, where=where, hint=error.hint) from error


def nearness(
    lab: Lab,
    explored: Sequence[Trajectory],
    preferred: Mapping[str, Sequence[Trajectory]],
    settings: SimilaritySettings,
    iteration: int = 1,
) -> dict[Key, float]:
    """Stage `nearness-<iteration>`: closeness of the episodes with a turn whose task type has a preferred
    set, by task id and sample number. The types without one are noted and shown."""
    with lab.run.stage(f"nearness-{iteration}") as stage:
        path = stage.directory / "closeness.json"
        if not stage.done:
            episodes = [each for each in explored if each.turns and not each.failed]
            without = sorted({each.task.kind for each in episodes} - preferred.keys())
            if without:
                lab.watch.say(f"nothing preferred of {', '.join(without)}: closeness says nothing there")
            embed = embedding(settings, lab)
            found: dict[str, dict[str, float]] = {}
            for kind, wanted in preferred.items():
                own = [each for each in episodes if each.task.kind == kind]
                for each, near in zip(own, closeness(own, wanted, embed, settings.bandwidth), strict=True):
                    task_id, sample = key_of(each)
                    found.setdefault(task_id, {})[str(sample)] = near
            write_json(path, found)
            sets = {kind: len(wanted) for kind, wanted in preferred.items()}
            stage.note(episodes=sum(map(len, found.values())), preferred=sets, without_preferred=without)
        kept = read_json(path)
    return {(task_id, int(sample)): near for task_id, each in kept.items() for sample, near in each.items()}


def embedding(settings: SimilaritySettings, lab: Lab) -> Embed:
    """How turns become points: hashed words, or a model that is loaded for as long as it is used."""
    if settings.encoder is None:
        return turn_vectors
    return TurnEncoder(settings.encoder, lab.learner.model.device)
