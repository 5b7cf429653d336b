"""Preference training without pairs: trajectories that are desirable, and some that are not (KTO, arXiv
2402.01306)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eto.errors import InputError, NothingLeft
from eto.losses.preference import kto_loss, kto_reference_point, sequence_log_prob
from eto.settings.training import KtoSettings
from eto.tokens.prefix_tree import Tree
from eto.training.backends import Backend, ScoringProgress
from eto.training.backends.sharded import Sharded
from eto.training.cloning import sft_example
from eto.training.example import Example
from eto.training.learner import Learner
from eto.training.log_probs import TokenOutputs
from eto.training.loop import Fit
from eto.training.preference import REFERENCE, with_reference
from eto.types import Trajectory

DESIRABLE = "desirable"


def unpaired(
    learner: Learner,
    desirable: Sequence[Trajectory],
    undesirable: Sequence[Trajectory],
    settings: KtoSettings,
    *,
    seed: int = 0,
    directory: Path | None = None,
    checkpoint_seconds: float = 120.0,
    activation_checkpointing: bool | None = None,
    progress: ScoringProgress | None = None,
) -> Fit:
    """Training of `learner` in place on trajectories of both sorts, step by step as it is iterated over; the
    learner as it comes in is the reference.

    The reference point is 0, its value at the start, or with `kl_samples` estimated before each step. Raises
    `InputError` where one of the two sorts is not there, for then nothing holds the other back, and where
    `kl_samples` are wanted of a single task.
    """
    examples = []
    for wanted, group in ((1.0, desirable), (0.0, undesirable)):
        made = _examples(learner, group, wanted)
        if not made:
            sort = "desirable" if wanted else "undesirable"
            raise InputError(
                f"no {sort} trajectory to train on",
                where="method.least_reward",
                hint="choose it between the rewards that the agent earns",
            )
        examples += made
    mismatched = _mismatched(learner, [*desirable, *undesirable], settings.kl_samples, seed)
    if settings.kl_samples and not mismatched:
        raise InputError(
            "all trajectories are of one task: none can stand under another's prompt",
            where="method.kto.kl_samples",
            hint="train on more tasks, or set it to 0",
        )
    known = with_reference(learner, examples + mismatched, settings.micro_batch_tokens, directory, progress)
    return KtoFit(
        learner,
        known[: len(examples)],
        known[len(examples) :],
        settings,
        seed=seed,
        activation_checkpointing=activation_checkpointing,
        checkpoint_seconds=checkpoint_seconds,
        directory=directory,
    )


class KtoFit(Fit):
    """Sets the reference point before each step, from the weights alone: a resumed training has what the
    undisturbed one has."""

    def __init__(
        self,
        learner: Learner,
        examples: Sequence[Example],
        mismatched: Sequence[Example],
        settings: KtoSettings,
        **arguments: Any,
    ) -> None:
        """`mismatched`: what the reference point is estimated from. `arguments`: of `Fit`."""
        self._scores, self._mismatched, self._kto = learner.score, mismatched, Kto(settings)
        labels = tuple(_wanted(example) for example in examples)
        weights = settings.desirable_weight, settings.undesirable_weight
        decisive = ("kto", settings.beta, *weights, len(mismatched), labels)
        super().__init__(learner, examples, self._kto, settings, objective_settings=decisive, **arguments)

    def _update(self, backend: Backend, rate: float) -> dict[str, float]:
        if self._mismatched:
            trees = [example.tree for example in self._mismatched]
            scored = self._scored(backend, trees)
            ratios = [
                float((now[0] - example.references[REFERENCE][0]).sum())
                for now, example in zip(scored, self._mismatched, strict=True)
            ]
            self._kto.reference_point = kto_reference_point(torch.tensor(ratios))
        figures = super()._update(backend, rate)
        drifts = [figures.get(name) for name in (f"{DESIRABLE}_drift", f"un{DESIRABLE}_drift")]
        if drifts[0] is not None and drifts[1] is not None:
            figures["margin"] = self._kto.settings.beta * (drifts[0] - drifts[1])
        return figures

    def _scored(self, backend: Backend, trees: Sequence[Tree]) -> list[list[np.ndarray]]:
        """Log-probs under the weights as they are, by those processes that have them."""
        if isinstance(backend, Sharded):
            return backend.score(trees, self._tokens, values=False)
        return self._scores(trees, self.settings.micro_batch_tokens)


class Kto:
    """The loss of one trajectory, given the reference point."""

    def __init__(self, settings: KtoSettings) -> None:
        self.settings = settings
        self.reference_point = 0.0
        """How far the policy is from the reference in general, in nats."""

    def __call__(self, example: Example, outputs: Sequence[TokenOutputs]) -> tuple[Tensor, dict[str, float]]:
        """Figures: `reference_point`, and by the trajectory's sort `desirable_drift` or `undesirable_drift`,
        its log-ratio in nats; `desirable_drift_per_token` its mean. A step that has both sorts has a
        `margin` too, beta times the difference of the drifts."""
        log_probs, settings, wanted = outputs[0].log_probs, self.settings, _wanted(example)
        reference = torch.from_numpy(example.references[REFERENCE][0]).to(log_probs.device)
        ratio = sequence_log_prob(log_probs) - sequence_log_prob(reference)
        weight = settings.desirable_weight if wanted else settings.undesirable_weight
        desirable = torch.tensor(wanted, device=ratio.device)
        loss = weight * kto_loss(ratio, desirable, settings.beta, self.reference_point)
        sort = "desirable_drift" if wanted else "undesirable_drift"
        drift = float(ratio.detach())
        figures = {"reference_point": self.reference_point, sort: drift}
        return loss, figures | ({f"{sort}_per_token": drift / len(log_probs)} if wanted else {})


def _wanted(example: Example) -> bool:
    return bool(example.references[DESIRABLE][0][0])


def _examples(learner: Learner, trajectories: Sequence[Trajectory], wanted: float) -> list[Example]:
    examples = []
    for trajectory in trajectories:
        if not trajectory.failed and trajectory.turns:
            with suppress(NothingLeft):
                label = {DESIRABLE: (np.array([wanted], dtype=np.float32),)}
                examples.append(replace(sft_example(learner, trajectory, size=1.0), references=label))
    return examples


def _mismatched(learner: Learner, trajectories: Sequence[Trajectory], count: int, seed: int) -> list[Example]:
    """At most `count` trajectories under the prompts of other tasks, drawn by `seed`."""
    order = np.random.default_rng((seed, len(trajectories))).permutation(len(trajectories)).tolist()
    drawn = [trajectories[number] for number in order]
    moved = [
        replace(one, messages=other.messages, tools=other.tools)
        for one, other in zip(drawn, drawn[1:] + drawn[:1], strict=True)
        if one.task.id != other.task.id
    ]
    return _examples(learner, moved[:count], wanted=0.0)
