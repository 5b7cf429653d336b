"""Pairs are judged by what the context leaves of them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from test_loop import PAIRED, changed, episodes, policy, weights
from tiny import trajectory

from eto import steps
from eto.credit.contrast import shared_turns
from eto.errors import InputError
from eto.experiment.lab import Lab
from eto.experiment.recipe import parse_recipe
from eto.experiment.run import Run
from eto.experiment.watch import Silent
from eto.methods.eto import EtoSettings
from eto.settings import ContrastSettings, SftSettings
from eto.training.cloning import sft
from eto.training.pair_examples import contrasted
from eto.training.preference import dpo
from eto.types import Pair, Trajectory

STEP = ("go north", "You are in a long hallway with a door.")
LONG = trajectory(*[STEP] * 5, ("open the door", ""), number=1)
LOST = replace(trajectory(*[STEP] * 5, ("wait", ""), number=1), reward=0.0, source="sft")


def pair(chosen: Trajectory, rejected: Trajectory) -> Pair:
    return Pair(chosen.task, chosen, rejected, shared_turns(chosen, rejected))


def sides(chosen: str, rejected: str, number: int = 0) -> Pair:
    """Actions by their first letter, with one observation throughout; the last has none."""
    words = {"o": "open the door", "t": "take the apple", "w": "wait", "n": "go north"}
    made = [
        trajectory(
            *[(words[a], "You see a door." if n + 1 < len(actions) else "") for n, a in enumerate(actions)],
            number=number,
        )
        for actions in (chosen, rejected)
    ]
    return pair(made[0], replace(made[1], reward=0.0, source="sft"))


def context(learner, turns: int) -> int:
    """Tokens that hold so many turns of `LONG`, and no more."""
    rendered = learner.renderer.render(LONG)
    return rendered.turns.index(turns) if turns < len(LONG.turns) else len(rendered.ids)


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ("ot", "ot", "equal sides"),
        ("ot", "o", "prefix of the other"),
        ("o", "ot", "prefix of the other"),
    ],
)
@pytest.mark.parametrize(
    "weighting",
    [
        ContrastSettings(),
        ContrastSettings(turns="from_divergence"),
        ContrastSettings(turns="window", window=2),
        ContrastSettings(discount=0.5),
        ContrastSettings(discount_kind="dmpo"),
        ContrastSettings(discount=0.5, discount_kind="dmpo", repeats=False),
    ],
    ids=str,
)
def test_sides_that_are_alike_are_left_out(tiny_path, chosen, rejected, reason, weighting):
    learner, sound = policy(tiny_path), sides("ot", "wt", number=1)
    before = weights(learner.model)
    with pytest.raises(InputError, match="no pair is left"):
        dpo(learner, [sides(chosen, rejected)], PAIRED, contrast=weighting)
    assert not changed(before, weights(learner.model))
    with pytest.warns(UserWarning, match="1 of 2 pairs are left out"):
        kept, left_out = contrasted(
            learner, [sides(chosen, rejected), sound], weighting, PAIRED.replace(sft_weight=1.0)
        )
    assert [each for each, _ in kept] == [sound]
    [(reported, ids)] = left_out.items()
    assert (reason in reported or "no contrast of its own" in reported) and ids == ["tiny/0"]


def test_equality_is_judged_after_the_cut(tiny_path):
    learner = policy(tiny_path)
    assert len(contrasted(learner, [pair(LONG, LOST)], ContrastSettings(), PAIRED)[0]) == 1
    learner.max_context = context(learner, 5)
    with (
        pytest.warns(UserWarning, match="last 1 of 6 turns"),
        pytest.raises(InputError, match=r"1 with equal sides \('tiny/1'\)") as caught,
    ):
        dpo(learner, [pair(LONG, LOST)], PAIRED)
    assert caught.value.exit_code == 2 and "max_context" in caught.value.hint


def test_a_parting_beyond_the_context_leaves_no_contrast(tiny_path):
    learner = policy(tiny_path)
    shorter = replace(LOST, turns=LOST.turns[:3])
    learner.max_context = context(learner, 4)
    with pytest.warns(UserWarning, match="last 2 of 6 turns"), pytest.raises(InputError, match="prefix"):
        dpo(learner, [pair(LONG, shorter)], PAIRED)


def test_a_side_that_only_repeats_itself_has_no_contrast(tiny_path):
    with pytest.raises(InputError, match="no contrast of its own"):
        dpo(policy(tiny_path), [sides("ot", "oo")], PAIRED, contrast=ContrastSettings(repeats=False))


def test_a_side_that_does_not_fit_at_all_costs_its_pair_alone(tiny_path):
    learner, long = policy(tiny_path), "You see a door. " * 200
    wide = trajectory(("wait", ""), ("go north", ""), prompt=long)
    with pytest.warns(UserWarning, match="1 with a side without a turn that carries loss"):
        result = dpo(learner, [pair(wide, LOST), sides("ot", "wt")], PAIRED.replace(epochs=1))
    assert result.steps == 1


def test_turns_without_loss_are_no_contrast(tiny_path):
    learner, one = policy(tiny_path), sides("ot", "ow")
    mute = replace(one.rejected, turns=(one.rejected.turns[0], replace(one.rejected.turns[1], loss=False)))
    with pytest.raises(InputError, match="no pair is left"):
        dpo(learner, [replace(one, rejected=mute)], PAIRED)
    silent = replace(one.rejected, turns=tuple(replace(turn, loss=False) for turn in one.rejected.turns))
    with pytest.raises(InputError, match="without a turn that carries loss"):
        dpo(learner, [replace(one, rejected=silent)], PAIRED)


def test_a_trajectory_that_does_not_fit_is_left_out_of_cloning(tiny_path):
    wide = trajectory(("wait", ""), prompt="You see a door. " * 200)
    with pytest.warns(UserWarning, match="1 of 2 trajectories are left out of cloning"):
        assert sft(policy(tiny_path), [wide, *episodes(1)], SftSettings(epochs=1)) == 1
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(InputError, match="no turn to clone is left"),
    ):
        sft(policy(tiny_path), [wide], SftSettings(epochs=1))


def test_a_run_counts_them_and_its_first_round_needs_a_pair(tiny_path, tmp_path: Path):
    learner, settings = policy(tiny_path), EtoSettings()
    recipe = parse_recipe("name: a\nenvironment: {name: b}\n")
    expert = [LONG, sides("ot", "wt").chosen]
    explored = [LOST, sides("ot", "wt").rejected]
    learner.max_context = context(learner, 5)

    def made(run: Run, expert: list[Trajectory], explored: list[Trajectory], iteration: int):
        lab = Lab(recipe, run, None, {}, expert, learner, None, Silent())
        return steps.contrast(lab, expert, explored, settings.contrast, settings.dpo, iteration)

    with Run.open(tmp_path / "one", recipe) as run, warnings.catch_warnings(record=True) as reported:
        warnings.simplefilter("always")
        pairs, why = made(run, expert, explored, 1)
        assert [each.task.id for each in pairs] == ["tiny/0"] and not why
        assert any("1 of 2 pairs are left out" in str(each.message) for each in reported)
        again = made(run, expert, explored, 1)
        assert [each.task.id for each in again[0]] == ["tiny/0"] and not again[1]
        assert run.done("contrast-1")["metrics"]["left_out"] == {"equal sides": 1}
        assert made(run, [LONG], [LOST], 2) == ([], "pairs left out: 1 with equal sides")
        assert made(run, [], explored, 3) == ([], "own episodes: 2 without an expert")
    with Run.open(tmp_path / "two", recipe) as run, pytest.raises(InputError, match="no pair is left"):
        made(run, [LONG], [LOST], 1)


def test_a_pair_counts_by_its_reward_difference(tiny_path):
    learner, wide, narrow = policy(tiny_path), sides("ot", "wt"), sides("ot", "wt", number=1)
    narrow = replace(narrow, rejected=replace(narrow.rejected, reward=0.5))
    weighed, _ = contrasted(learner, [wide, narrow], ContrastSettings(gap_weights=True), PAIRED)
    # Differences 1 and 0.5 over their mean 0.75.
    assert [example.size for _, example in weighed] == pytest.approx([4 / 3, 2 / 3])
    plain, _ = contrasted(learner, [wide, narrow], ContrastSettings(), PAIRED)
    assert [example.size for _, example in plain] == [1.0, 1.0]
    with pytest.raises(InputError, match="without a reward difference"):
        tied = replace(narrow, rejected=replace(narrow.rejected, reward=narrow.chosen.reward))
        contrasted(learner, [tied], ContrastSettings(gap_weights=True), PAIRED)
