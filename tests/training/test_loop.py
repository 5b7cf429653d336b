"""The optimisation loop, reached through cloning and preference training on a tiny model."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny import trajectory
from transformers import AutoModelForCausalLM

from eto.credit.contrast import shared_turns
from eto.errors import EngineFailure, InputError
from eto.settings import ContrastSettings, DpoSettings, GuardSettings, SftSettings, TrainingSettings
from eto.tokens.prefix_tree import build_tree
from eto.training import loop, memory
from eto.training import preference as dpo_module
from eto.training.backends.core_groups import CoreGroupBackend
from eto.training.batches import concurrent_passes, split
from eto.training.cloning import _objective as sft_objective
from eto.training.cloning import clonable, cloning, sft, sft_example
from eto.training.example import Example
from eto.training.guard import exceeded, misbehaves
from eto.training.learner import load_learner
from eto.training.log_probs import TreeLogProbs
from eto.training.optimiser import Optimiser
from eto.training.pair_examples import pair_example
from eto.training.preference import dpo, pair_loss, preference
from eto.types import Pair, StopReason

LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.0}
FAST = SftSettings(epochs=4, learning_rate=3e-3, batch_size=2, warmup_ratio=0.1)
PAIRED = DpoSettings(epochs=3, learning_rate=1e-3, batch_size=2)

EVERY_STEP = {"checkpoint_seconds": -1.0}
"""Keeps the state after every step."""


def episodes(count: int = 5):
    rooms = ("kitchen", "garden", "hallway", "sink", "table")
    return [
        trajectory(
            (f"go to the {rooms[n % 5]}", f"You are in the {rooms[n % 5]}."),
            *[("look around", "You see a door.")] * (n % 3),
            ("take the apple", ""),
            number=n,
            prompt=f"Task {n}: find the apple.",
        )
        for n in range(count)
    ]


def pairs(count: int = 4) -> list[Pair]:
    result = []
    for chosen in episodes(count):
        rejected = replace(
            chosen,
            turns=(chosen.turns[0], replace(chosen.turns[-1], action="wait")),
            source="sft",
            reward=0.0,
        )
        result.append(Pair(chosen.task, chosen, rejected, shared_turns(chosen, rejected)))
    return result


def policy(path: Path, **options):
    return load_learner(path, dtype="float32", **options)


def weights(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], within: float = 1e-6) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=within, rtol=0, msg=name)


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


class Interrupt(Exception):
    """Stands for a killed process."""


def rows(fit) -> list[dict[str, float]]:
    """The figures of the steps that are left to take."""
    return [step.row for step in fit]


def interrupt(fit, at: int) -> None:
    """Kill the training once it has taken step `at`."""
    for step in fit:
        if step.step == at:
            raise Interrupt


def test_cloning_learns(tiny_path):
    fit = cloning(policy(tiny_path), episodes(), FAST)
    losses = [step.figures["loss"] for step in fit]
    assert fit.step == fit.steps == len(losses) == 4 * 3
    assert np.mean(losses[-3:]) < 0.3 * np.mean(losses[:3])


def test_a_steps_loss_is_the_mean_over_its_agent_tokens(tiny_path):
    """Worked out with transformers' own loss on the same ids and masks."""
    learner = policy(tiny_path)
    total, tokens = 0.0, 0
    for episode in episodes(3):
        rendered = learner.renderer.render(episode)
        labels = torch.tensor([[i if m else -100 for i, m in zip(rendered.ids, rendered.mask, strict=True)]])
        count = sum(rendered.mask)
        loss = learner.model(input_ids=torch.tensor([rendered.ids]), labels=labels).loss
        total, tokens = total + float(loss.detach()) * count, tokens + count
    [row] = rows(cloning(learner, episodes(3), FAST.replace(epochs=1, batch_size=3)))
    assert row["loss"] == pytest.approx(total / tokens, rel=1e-5)


def test_failed_episodes_are_not_cloned(tiny_path):
    learner = policy(tiny_path)
    failed = [replace(e, stop=StopReason.ENVIRONMENT_FAILED) for e in episodes(2)]
    with pytest.raises(InputError, match="no expert trajectory"):
        sft(learner, failed, FAST)
    assert sft(learner, [*failed, *episodes(1)], FAST.replace(epochs=1)) == 1


def test_what_earned_nothing_is_not_cloned_unless_asked_for(tiny_path):
    [won, lost, dull] = episodes(3)
    lost = replace(lost, reward=0.0)
    dull = replace(dull, turns=tuple(replace(turn, loss=False) for turn in dull.turns))
    with pytest.warns(UserWarning, match="1 of reward 0, 1 without a turn that carries loss, of 3"):
        assert clonable([won, lost, dull]) == [won]
    with pytest.warns(UserWarning, match="1 without a turn"):
        assert clonable([won, lost, dull], zero_reward=True) == [won, lost]
    for chosen in (FAST, FAST.replace(zero_reward=True)):
        with pytest.raises(InputError, match="no expert trajectory to clone: 1 without"):
            sft(policy(tiny_path), [dull], chosen)
    with pytest.raises(InputError, match=r"1 of reward 0\n.*method.sft.zero_reward=true"):
        sft(policy(tiny_path), [lost], FAST)
    assert sft(policy(tiny_path), [lost], FAST.replace(epochs=1, zero_reward=True)) == 1


def test_preferences_are_learnt(tiny_path):
    figures = rows(preference(policy(tiny_path), pairs(), PAIRED))
    result = dpo(policy(tiny_path), pairs(), PAIRED)
    assert result.steps == len(figures) == 3 * 2
    assert figures[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert figures[0]["margin"] == pytest.approx(0.0, abs=1e-5)
    assert figures[-1]["loss"] < 0.5
    assert figures[-1]["accuracy"] == 1.0
    assert result.fired is None
    assert result.figures["loss"] == figures[-1]["loss"]


def test_replay_is_weighed_and_not_counted_among_the_pairs(tiny_path):
    agent = policy(tiny_path)
    settings = DpoSettings(epochs=1, batch_size=100, learning_rate=1e-3, rehearsal_weight=0.5)
    [row] = rows(preference(agent, pairs(), settings, rehearsal=episodes(2)))
    [bare] = rows(preference(policy(tiny_path), pairs(), settings.replace(rehearsal_weight=0.0)))
    assert (row["margin"], row["chosen_drift"]) == pytest.approx((0.0, 0.0), abs=1e-5)
    nll = [
        float(-log_probs.detach().mean())
        for e in episodes(2)
        for [log_probs] in TreeLogProbs(policy(tiny_path).model)([sft_example(agent, e).tree])
    ]
    count = len(pairs())
    expected = (count * bare["loss"] + 0.5 * sum(nll)) / (count + 2)
    assert row["loss"] == pytest.approx(expected, rel=1e-4), "mean over pairs and replayed alike"


def test_a_step_of_replay_alone_passes_the_guard(tiny_path):
    settings = DpoSettings(epochs=1, batch_size=1, rehearsal_weight=1.0)
    seen = rows(preference(policy(tiny_path), pairs(), settings, rehearsal=episodes(2)))
    assert [exceeded(row, GuardSettings(max_margin=1e-9)) for row in seen if "margin" not in row] == [
        None
    ] * 2
    assert len(seen) == len(pairs()) + 2


def test_replay_keeps_a_won_episode_likely(tiny_path):
    won = episodes(5)[-1:]
    drift = {}
    for weight in (0.0, 5.0):
        agent = policy(tiny_path)
        tree = sft_example(agent, won[0]).tree
        with torch.no_grad():
            before = TreeLogProbs(agent.model)([tree])[0][0].sum()
        dpo(
            agent,
            pairs(),
            DpoSettings(epochs=4, batch_size=3, learning_rate=3e-3, beta=0.5, rehearsal_weight=weight),
            rehearsal=won if weight else None,
        )
        with torch.no_grad():
            drift[weight] = float(TreeLogProbs(agent.model)([tree])[0][0].sum() - before)
    assert drift[5.0] > max(0.0, drift[0.0])


def test_a_second_round_starts_from_a_new_reference(tiny_path):
    learner = policy(tiny_path)
    dpo(learner, pairs(), PAIRED)
    figures = rows(preference(learner, pairs(), PAIRED))
    assert figures[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.parametrize("interrupted", [1, 2, 5, 12])
def test_an_interrupted_cloning_ends_as_the_undisturbed(tiny_path, tmp_path, interrupted):
    undisturbed = policy(tiny_path)
    sft(undisturbed, episodes(), FAST)
    with pytest.raises(Interrupt):
        fit = cloning(policy(tiny_path), episodes(), FAST, directory=tmp_path, **EVERY_STEP)
        interrupt(fit, interrupted)
    resumed = policy(tiny_path)
    fit = cloning(resumed, episodes(), FAST, directory=tmp_path, **EVERY_STEP)
    assert (fit.step, fit.steps) == (interrupted - 1, 12)
    seen = [step.step for step in fit]
    assert seen == list(range(interrupted, 13)), "only the step in flight is repeated"
    assert_same(weights(resumed.model), weights(undisturbed.model))


def test_a_finished_call_is_not_repeated(tiny_path, tmp_path):
    first, again = policy(tiny_path), policy(tiny_path)
    sft(first, episodes(), FAST, directory=tmp_path, **EVERY_STEP)
    fit = cloning(again, episodes(), FAST, directory=tmp_path, **EVERY_STEP)
    assert fit.done and rows(fit) == []
    assert fit.step == 12
    assert_same(weights(again.model), weights(first.model), within=0.0)


def test_a_save_cut_short_falls_back_to_the_state_before(tiny_path, tmp_path):
    undisturbed = policy(tiny_path)
    sft(undisturbed, episodes(), FAST)
    with pytest.raises(Interrupt):
        interrupt(cloning(policy(tiny_path), episodes(), FAST, directory=tmp_path, **EVERY_STEP), 4)
    (tmp_path / "state").rename(tmp_path / "state.old")
    (tmp_path / "state.new").mkdir()
    (tmp_path / "state.new" / "trained.safetensors").write_bytes(b"cut")
    resumed = policy(tiny_path)
    seen = rows(cloning(resumed, episodes(), FAST, directory=tmp_path, **EVERY_STEP))
    assert seen[0]["step"] == 4
    assert_same(weights(resumed.model), weights(undisturbed.model))


@pytest.mark.parametrize("interrupted", [1, 3, 6])
def test_an_interrupted_preference_training_ends_as_the_undisturbed(tiny_path, tmp_path, interrupted):
    undisturbed = policy(tiny_path)
    wanted = rows(preference(undisturbed, pairs(), PAIRED))
    with pytest.raises(Interrupt):
        fit = preference(policy(tiny_path), pairs(), PAIRED, directory=tmp_path, **EVERY_STEP)
        interrupt(fit, interrupted)
    resumed = policy(tiny_path)
    if interrupted > 1:  # weights and reference are the kept ones, whatever comes in
        with torch.no_grad():
            for parameter in resumed.model.parameters():
                parameter *= 1.1
    seen = rows(preference(resumed, pairs(), PAIRED, directory=tmp_path, **EVERY_STEP))
    assert_same(weights(resumed.model), weights(undisturbed.model))
    for one, other in zip(seen, wanted[interrupted - 1 :], strict=True):
        assert one["margin"] == pytest.approx(other["margin"], abs=1e-5), "the reference is that of the start"


def test_an_interruption_at_an_epochs_end_repeats_its_check(tiny_path, tmp_path):
    undisturbed = policy(tiny_path)
    dpo(undisturbed, pairs(), PAIRED)

    def epochs(learner, die_after: int = 0):
        for epoch in preference(
            learner, pairs(), PAIRED, directory=tmp_path, checkpoint_seconds=1e9
        ).epochs():
            steps = [step.step for step in epoch]
            if epoch.number == die_after:
                raise Interrupt
            yield epoch.number, steps

    with pytest.raises(Interrupt):
        list(epochs(policy(tiny_path), die_after=2))
    resumed = policy(tiny_path)
    assert list(epochs(resumed)) == [(2, []), (3, [5, 6])]
    assert_same(weights(resumed.model), weights(undisturbed.model))


def test_an_epochs_check_may_stop(tiny_path):
    fit = preference(policy(tiny_path), pairs(), PAIRED)
    for epoch in fit.epochs():
        rows(epoch)
        if epoch.number == 2:
            break
    assert fit.step == 4 and not fit.done


@pytest.mark.parametrize("taken", [0, 1])
def test_leaving_an_epoch_early_ends_the_epochs(tiny_path, taken):
    fit = preference(policy(tiny_path), pairs(), PAIRED)
    seen = []
    for epoch in itertools.islice(fit.epochs(), 5):
        seen.append(epoch.number)
        assert len(list(itertools.islice(epoch, taken))) == taken
    assert (seen, fit.step, fit.done) == ([1], taken, False)


def test_the_guard_stops(tiny_path):
    settings = PAIRED.replace(epochs=20)
    figures = rows(preference(policy(tiny_path), pairs(), settings))
    result = dpo(policy(tiny_path), pairs(), settings, guard=GuardSettings(max_margin=0.5))
    assert "above max_margin 0.5" in result.fired
    assert result.steps < len(figures) == 40
    margins = [row["margin"] for row in figures[: result.steps]]
    assert margins[-1] > 0.5 >= max(margins[:-1])


def test_a_stop_is_remembered(tiny_path, tmp_path):
    """The dev check after the guard is long, and the likeliest place to be killed in."""

    def training():
        return preference(policy(tiny_path), pairs(), PAIRED.replace(epochs=20), directory=tmp_path)

    with pytest.raises(Interrupt):
        fit = training()
        for epoch in fit.epochs():
            for step in epoch:
                if step.step == 3:
                    fit.stop("bound exceeded")
            if fit.stopped:
                raise Interrupt
    fit = training()
    assert (fit.step, fit.stopped, fit.done) == (3, "bound exceeded", True)
    assert [(epoch.number, rows(epoch)) for epoch in fit.epochs()] == [(2, [])], "its check comes again"
    assert rows(training()) == []


def test_leaving_a_training_releases_it_and_iterating_again_resumes_it(tiny_path):
    undisturbed, learner = policy(tiny_path), policy(tiny_path)
    sft(undisturbed, episodes(), FAST)
    fit = cloning(learner, episodes(), FAST)
    first = next(iter(fit))
    assert first.step == 1
    rest = rows(fit)
    assert [row["step"] for row in rest] == list(range(2, 13))
    assert_same(weights(learner.model), weights(undisturbed.model))


def test_actors_between_steps_have_the_weights_of_that_step(tiny_path):
    learner, engines = policy(tiny_path), []
    for step in cloning(learner, episodes(), FAST):
        if step.step in (1, 3):
            engines.append(learner.actor("now").engine)
    assert engines[0] is not engines[1]
    assert learner.actor("later").engine not in engines


def test_an_optimiser_may_outlive_a_training(tiny_path):
    """Two trainings with one optimiser end elsewhere than with two: its averages go on."""
    ended = []
    for kept in (True, False):
        learner = policy(tiny_path)
        examples = [sft_example(learner, episode) for episode in episodes()]
        chosen = TrainingSettings(epochs=1, learning_rate=1e-3, batch_size=5, schedule="constant")
        optimiser = Optimiser(learner.model, chosen)
        for _ in range(2):
            rows(learner.fit(examples, sft_objective, chosen, optimiser=optimiser if kept else None))
        steps = {int(state["step"]) for state in optimiser.algorithm.state.values()}
        assert steps == ({2} if kept else set())
        ended.append(weights(learner.model))
    assert changed(*ended)
    with pytest.raises(InputError, match="other weights"):
        other = policy(tiny_path)
        other.fit(examples, sft_objective, chosen, optimiser=optimiser)


@pytest.mark.parametrize(
    ("bounds", "figures", "fired"),
    [
        ({}, (9.9, -19.9, -500.0), None),
        ({}, (10.1, 0.0, 0.0), "margin 10.10 above max_margin 10"),
        ({}, (0.0, -20.5, 0.0), "chosen lost 20.50 nats, max_chosen_drop is 20"),
        ({}, (0.0, 50.0, 0.0), None),
        ({"max_drift": 30.0}, (0.0, 0.0, -31.0), "log-ratio moved 31.00 nats, max_drift is 30"),
        ({"max_drift": 30.0}, (0.0, 31.0, 0.0), "log-ratio moved 31.00 nats, max_drift is 30"),
        ({"max_chosen_drop_per_token": 0.2}, (0.0, -3.0, 0.0), None),
        ({"max_chosen_drop_per_token": 0.2}, (0.0, -6.0, 0.0), "chosen lost 0.30 nats a token, max_chosen"),
        ({"max_margin": None, "max_chosen_drop": None}, (1e9, -1e9, -1e9), None),
    ],
)
def test_guard_bounds(bounds, figures, fired):
    names = ("margin", "chosen_drift", "rejected_drift")
    row = dict(zip(names, figures, strict=True)) | {"chosen_drift_per_token": figures[1] / 20}
    bound = exceeded(row, GuardSettings(**bounds))
    assert bound == fired or (fired and bound.startswith(fired))


@pytest.mark.parametrize(
    ("bounds", "fired"),
    [
        ({}, None),
        ({"max_repeated": 0.4, "max_malformed": 0.1, "max_verb_share": 0.9, "min_action_entropy": 1.0}, None),
        (
            {"max_repeated": 0.3},
            "40% of the actions repeat an earlier one of their episode, max_repeated is 0.3",
        ),
        ({"max_malformed": 0.0}, "10% of the actions are malformed, max_malformed is 0"),
        ({"max_verb_share": 0.8}, "90% of the actions begin with the same word, max_verb_share is 0.8"),
        ({"min_action_entropy": 1.5}, "the actions' entropy is 1.00 nats, min_action_entropy is 1.5"),
    ],
)
def test_bounds_on_actions(bounds, fired):
    figures = {"repeated": 0.4, "malformed": 0.1, "verb_share": 0.9, "action_entropy": 1.0}
    assert misbehaves(figures, GuardSettings(**bounds)) == fired
    assert misbehaves({}, GuardSettings(**bounds)) is None, "no action, nothing to judge"


def test_a_loss_that_is_no_number_is_an_engines_failure(tiny_path):
    learner = policy(tiny_path)
    sft(learner, episodes(1), FAST.replace(epochs=1))  # damaged before the first training, it is refused
    with torch.no_grad():
        learner.model.get_output_embeddings().weight[3] = torch.nan
    with pytest.raises(EngineFailure, match="not a number"):
        sft(learner, episodes(), FAST)


def test_a_gradient_that_is_no_number_moves_no_weight(tiny_path):
    """The last step's loss may be finite and its gradient not; no further loss would tell."""

    def steep(example, outputs):
        return (0.0 * outputs[0].log_probs.sum()).sqrt(), {}

    learner = policy(tiny_path)
    before = [weight.clone() for weight in learner.model.parameters()]
    fit = learner.fit([sft_example(learner, episodes(1)[0])], steep, FAST.replace(epochs=1))
    with pytest.raises(EngineFailure, match="gradient is not a number"):
        list(fit)
    assert all(map(torch.equal, before, learner.model.parameters()))


def test_no_pairs_is_an_error(tiny_path):
    with pytest.raises(InputError, match="no pairs"):
        dpo(policy(tiny_path), [])


# -- batches ------------------------------------------------------------------------------

lengths = st.lists(st.integers(2, 40), min_size=1, max_size=30)


def bare_examples(sizes) -> list[Example]:
    return [Example(build_tree([(range(n), [0] * n)]), ()) for n in sizes]


@given(lengths, st.integers(1, 6), st.none() | st.integers(1, 120), st.integers(1, 3), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_an_epoch_takes_each_example_once(sizes, batch_size, batch_tokens, epochs, seed):
    size = batch_size if batch_tokens is None else None
    chosen = TrainingSettings(epochs=epochs, batch_size=size, batch_tokens=batch_tokens)
    plan = loop._plan(bare_examples(sizes), chosen, seed)
    assert [epoch for epoch, _ in plan] == sorted(epoch for epoch, _ in plan)
    for epoch in range(epochs):
        batches = [batch for e, batch in plan if e == epoch]
        assert sorted(i for batch in batches for i in batch) == list(range(len(sizes)))
        for batch in batches:
            if batch_tokens is None:
                assert len(batch) <= batch_size
            else:
                assert sum(sizes[i] for i in batch) <= batch_tokens or len(batch) == 1
    assert plan == loop._plan(bare_examples(sizes), chosen, seed)


def test_epochs_and_seeds_have_orders_of_their_own():
    examples = bare_examples([5] * 30)
    orders = [
        [
            i
            for e, batch in loop._plan(examples, TrainingSettings(epochs=2), seed)
            if e == epoch
            for i in batch
        ]
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 4


@given(lengths, st.integers(1, 120), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_lanes_hold_each_tree_once_within_bounds(sizes, tokens, lanes):
    found = split([example.tree for example in bare_examples(sizes)], tokens, lanes)
    assert 1 <= len(found) <= min(lanes, len(sizes))
    assert sorted(i for groups in found for group in groups for i in group) == list(range(len(sizes)))
    for groups in found:
        for group in groups:
            assert len(group) == 1 or sum(sizes[i] for i in group) <= tokens // lanes
    # No lane has more than its share and half of a tree at either end.
    shares = [sum(sizes[i] for group in groups for i in group) for groups in found]
    assert max(shares) <= sum(sizes) / lanes + max(sizes)
    passes = concurrent_passes(found)
    assert sorted(i for together in passes for i in together) == list(range(len(sizes)))
    assert len(passes) == max(map(len, found))


def step_gradients(model, examples, objective, tokens: int, lanes: int):
    model = copy.deepcopy(model)
    with CoreGroupBackend(model, lanes) as computing:
        computing.begin(torch.float32)
        figures = computing.gradients(examples, objective, tokens)
        found = {name: p.grad.clone() for name, p in model.named_parameters()}
    return found, figures


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_passes_and_lanes_do_not_change_the_step(tiny_path, lanes, threads):
    threads(3)
    learner = policy(tiny_path)
    cloned = [sft_example(learner, episode) for episode in episodes()]
    paired = [pair_example(learner, pair, ContrastSettings(), PAIRED) for pair in pairs()]
    paired = dpo_module.with_reference(learner, paired, 512, None)
    with torch.no_grad():
        for parameter in learner.model.parameters():
            parameter *= 1.05
    for examples, objective in (
        (cloned, sft_objective),
        (paired, lambda example, leaves: pair_loss(example, leaves, PAIRED)),
    ):
        trees = [example.tree for example in examples]
        assert sum(map(len, split(trees, 1, lanes))) == len(examples)
        assert [len(groups) for groups in split(trees, 10**6, lanes)] == [1] * lanes
        one, figures = step_gradients(learner.model, examples, objective, 1, lanes)
        other, same = step_gradients(learner.model, examples, objective, 10**6, 1)
        assert_same(one, other, within=1e-5)
        assert max(float(g.abs().max()) for g in one.values()) > 1e-2
        assert figures == pytest.approx(same, abs=1e-5)


def test_an_error_in_a_lane_is_raised(tiny_path):
    learner = policy(tiny_path)
    examples = [sft_example(learner, episode) for episode in episodes()]

    def broken(example, leaves):
        raise Interrupt

    with pytest.raises(Interrupt):
        rows(learner.fit(examples, broken, TrainingSettings(epochs=1, learning_rate=1e-3)))


def test_early_stop_and_figures(tiny_path):
    learner, seen = policy(tiny_path), []
    examples = [sft_example(learner, episode) for episode in episodes()]
    chosen = TrainingSettings(epochs=3, learning_rate=1e-3, batch_size=2, schedule="cosine", warmup_ratio=0.2)
    for step in learner.fit(examples, sft_objective, chosen):
        seen.append(step.row)
        if step.step == 4:
            break
    assert [f["epoch"] for f in seen] == [1, 1, 1, 2]
    assert all(f["steps"] == 9 and f["grad_norm"] > 0 and f["tokens_per_second"] > 0 for f in seen)
    rates = [f["learning_rate"] for f in seen]
    assert rates[0] < rates[1] == pytest.approx(1e-3) and rates[2] > rates[3]


# -- adapters -----------------------------------------------------------------------------


def logits(model, ids) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_lora_trains_adapters_alone_and_saves_them_merged(tiny_path, tmp_path):
    learner = policy(tiny_path, lora=LORA)
    before = weights(learner.model)
    losses = [row["loss"] for row in rows(cloning(learner, episodes(), FAST.replace(learning_rate=2e-2)))]
    assert losses[-1] < 0.6 * losses[0]
    moved = changed(before, weights(learner.model))
    assert moved == {name for name in before if "lora_" in name}
    learner.save(tmp_path / "model")
    names = load_file(tmp_path / "model" / "model.safetensors")
    assert not [name for name in names if "lora" in name or "base_layer" in name]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    ids = learner.renderer.render(episodes()[0]).ids
    trained = logits(learner.model, ids)
    torch.testing.assert_close(logits(loaded, ids), trained, atol=1e-4, rtol=1e-4)
    assert (trained - logits(AutoModelForCausalLM.from_pretrained(tiny_path), ids)).abs().max() > 0.1

    learner.load(tmp_path / "model")
    torch.testing.assert_close(logits(learner.model, ids), trained, atol=1e-4, rtol=1e-4)
    figures = rows(preference(learner, pairs(), PAIRED.replace(epochs=1)))
    assert figures[0]["loss"] == pytest.approx(math.log(2), abs=1e-5), "reference: the model merged before"


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_lora_with_dropout_resumes_exactly(tiny_path, tmp_path):
    adapters = {**LORA, "dropout": 0.3}
    chosen = FAST.replace(learning_rate=2e-2)
    undisturbed = policy(tiny_path, lora=adapters)
    sft(undisturbed, episodes(), chosen)
    with pytest.raises(Interrupt):
        agent = policy(tiny_path, lora=adapters)
        interrupt(cloning(agent, episodes(), chosen, directory=tmp_path, **EVERY_STEP), 5)
    resumed = policy(tiny_path, lora=adapters)
    sft(resumed, episodes(), chosen, directory=tmp_path)
    assert_same(weights(resumed.model), weights(undisturbed.model))


def test_a_saved_model_is_a_plain_one(tiny_path, tmp_path):
    """Training swaps the attention; the files do not know."""
    learner = policy(tiny_path)
    sft(learner, episodes(2), FAST.replace(epochs=1))
    learner.save(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config._attn_implementation in {"sdpa", "eager"}
    assert "eto" not in (tmp_path / "config.json").read_text()
    assert_same(weights(loaded), weights(learner.model), within=0.0)
    assert load_learner(tmp_path, dtype="float32").tokenizer_id == learner.tokenizer_id


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recomputed_activations_change_no_weight(tiny_path, dtype):
    fits, states = [], []
    for checkpointing in (False, True):
        learner = policy(tiny_path)
        learner.dtype = dtype
        examples = [sft_example(learner, episode) for episode in episodes()]
        chosen = TrainingSettings(epochs=2, learning_rate=1e-3, batch_size=2)
        fits.append(learner.fit(examples, sft_objective, chosen, activation_checkpointing=checkpointing))
        assert (fits[-1].step, fits[-1].steps) == (0, 6)
        rows(fits[-1])
        states.append(dict(learner.model.named_parameters()))
        assert not any(getattr(m, "gradient_checkpointing", False) for m in learner.model.modules())
    assert_same(*states, within=1e-6)
    assert [fit.recomputes for fit in fits] == [False, True]
    assert 0 < fits[1].memory.total < fits[0].memory.total < 1e9


def test_activations_are_recomputed_where_memory_asks_for_it(tiny_path, monkeypatch):
    learner = policy(tiny_path)
    examples = [sft_example(learner, episode) for episode in episodes()]
    monkeypatch.setattr(memory, "free_memory", lambda device: 1)
    fit = learner.fit(examples, sft_objective, TrainingSettings(epochs=1, learning_rate=1e-3))
    assert fit.recomputes
