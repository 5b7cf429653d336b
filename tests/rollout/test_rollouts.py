"""Many episodes at once: order, admission, retries, on a guessing game."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from guessing import TURNS, Guessing, guess

from eto.contrast import contrast_result
from eto.errors import InputError
from eto.policies.scripted import ScriptedPolicy
from eto.policies.transformers import load_policy
from eto.rollout.rollouts import RolloutSettings, episode_seed, rollouts
from eto.types import Message, StopReason

HERE = RolloutSettings(workers=0, slots=3)
"""Simulators in this process."""


class Bisecting(ScriptedPolicy):
    """Guesses 0, 1, 2, ...: the number n takes n + 1 turns. Keeps count of its sessions."""

    def __init__(self) -> None:
        super().__init__(count_up, name="counter")
        self.opened, self.released, self.most = [], [], 0

    def open(self, messages, **options):
        session = super().open(messages, **options)
        self.opened.append(session)
        self.most = max(self.most, len(self.opened) - len(self.released))
        return session

    def release(self, session):
        assert session not in self.released
        self.released.append(session)
        super().release(session)


def count_up(messages) -> str:
    return f"guess {sum(message.role == 'assistant' for message in messages)}"


def keys(trajectories):
    return [(t.task.id, t.sample) for t in trajectories]


def stops(trajectories) -> dict[str, StopReason]:
    return {t.task.id: t.stop for t in trajectories}


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("slots", [1, 3, 64])
def test_every_episode_once_and_in_order(workers, slots):
    suite, policy = Guessing(), Bisecting()
    tasks = suite.tasks("train")
    played = rollouts(policy, suite, tasks, samples=2, settings=RolloutSettings(workers=workers, slots=slots))
    assert keys(played) == [(task.id, sample) for task in tasks for sample in (0, 1)]
    for trajectory in played:
        number = trajectory.task.payload["number"]
        solved = number < TURNS
        assert trajectory.actions == tuple(f"guess {n}" for n in range(min(number + 1, TURNS)))
        assert trajectory.stop is (StopReason.TERMINATED if solved else StopReason.OUT_OF_TURNS)
        assert trajectory.success is solved
        assert trajectory.reward == trajectory.turns[-1].reward == 1 / (1 + max(0, number - TURNS + 1))
        assert trajectory.score == 10 * trajectory.reward
        assert trajectory.turns[-1].observation == ("well done!" if solved else "too low")
        assert [m.role for m in trajectory.messages] == ["system", "user"]
        assert (trajectory.source, trajectory.tokenizer, trajectory.detail) == ("counter", None, "")
        assert trajectory.seed == episode_seed(0, trajectory.task.id, trajectory.sample)
    assert policy.most <= slots
    assert len(policy.opened) == len(policy.released) == 20


def test_standing_simulators_serve_one_call_after_the_other():
    suite = Guessing()
    tasks = suite.tasks("train")
    settings = RolloutSettings(workers=2, slots=3)
    with settings.pool(suite) as pool:
        processes = [worker.process.pid for worker in pool._workers]
        first = rollouts(Bisecting(), suite, tasks, settings=settings, pool=pool)
        second = rollouts(Bisecting(), suite, tasks[::-1], settings=settings, pool=pool)
        assert [worker.process.pid for worker in pool._workers] == processes
    assert first == second[::-1] == rollouts(Bisecting(), suite, tasks, settings=settings)


def test_done_episodes_are_left_out():
    suite = Guessing()
    done = frozenset({("guessing/0", 1), ("guessing/2", 0), ("guessing/2", 1)})
    played = rollouts(Bisecting(), suite, suite.tasks("train")[:3], samples=2, settings=HERE, done=done)
    assert keys(played) == [("guessing/0", 0), ("guessing/1", 0), ("guessing/1", 1)]
    everything = frozenset((task.id, sample) for task in suite.tasks("train") for sample in (0, 1))
    assert rollouts(Bisecting(), suite, suite.tasks("train"), samples=2, settings=HERE, done=everything) == []
    assert rollouts(Bisecting(), suite, [], settings=HERE) == []


@pytest.mark.parametrize("slots", [1, 2])
def test_an_episode_is_handed_over_before_its_slot_is_used_again(slots):
    suite, handed = Guessing(), []

    def on_trajectory(trajectory):
        handed.append(trajectory)
        # No more episodes have begun than slots beyond those handed over.
        assert len(suite.resets) <= len(handed) - 1 + slots

    settings = replace(HERE, slots=slots)
    played = rollouts(
        Bisecting(), suite, suite.tasks("train"), settings=settings, on_trajectory=on_trajectory
    )
    assert sorted(keys(handed)) == sorted(keys(played))
    assert len(suite.resets) == 10
    if slots == 1:
        assert suite.resets == [t.task.id for t in handed]


def test_an_interrupted_call_is_gone_on_with():
    suite, kept = Guessing(), []

    def on_trajectory(trajectory):
        kept.append(trajectory)
        if len(kept) == 4:
            raise KeyboardInterrupt

    tasks = suite.tasks("train")
    with pytest.raises(KeyboardInterrupt):
        rollouts(Bisecting(), suite, tasks, settings=HERE, on_trajectory=on_trajectory)
    rest = rollouts(Bisecting(), suite, tasks, settings=HERE, done=frozenset(keys(kept)))
    whole = rollouts(Bisecting(), Guessing(), tasks, settings=HERE)
    assert sorted([*kept, *rest], key=lambda t: t.task.id) == sorted(whole, key=lambda t: t.task.id)


def test_a_slot_is_filled_as_soon_as_it_is_free():
    suite = Guessing()
    handed = []
    tasks = [guess("long", 5), guess("a", 0), guess("b", 0), guess("c", 0)]
    rollouts(Bisecting(), suite, tasks, settings=replace(HERE, slots=2), on_trajectory=handed.append)
    assert [t.task.id for t in handed] == [f"guessing/{name}" for name in ("a", "b", "c", "long")]


def test_the_environments_own_limit_is_out_of_turns():
    [played] = rollouts(Bisecting(), Guessing(), [guess(0, 5, "truncates")], settings=HERE)
    assert (played.stop, len(played.turns), played.success) == (StopReason.OUT_OF_TURNS, 2, False)
    assert played.truncated and not played.failed


@pytest.mark.parametrize("fault", ["fail", "at reset"])
def test_a_failing_simulator_costs_one_retry(fault):
    suite, policy = Guessing(), Bisecting()
    tasks = [guess("bad", 5, fault), guess("good", 3)]
    bad, good = rollouts(policy, suite, tasks, settings=HERE)
    assert bad.stop is StopReason.ENVIRONMENT_FAILED and bad.failed
    assert ("the simulator says no" if fault == "fail" else "it does not start") in bad.detail
    assert suite.resets.count("guessing/bad") == 2
    assert suite.resets.count("guessing/good") == 1
    assert (good.stop, len(good.turns)) == (StopReason.TERMINATED, 4)
    assert len(policy.opened) == len(policy.released)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_retry_may_succeed(retries):
    suite = Guessing()
    [played] = rollouts(
        Bisecting(), suite, [guess("once", 5, "fail", times=1)], settings=replace(HERE, retries=retries)
    )
    assert played.stop is (StopReason.TERMINATED if retries else StopReason.ENVIRONMENT_FAILED)
    if retries:
        assert played == replace(
            rollouts(Bisecting(), Guessing(), [guess("once", 5)], settings=HERE)[0], task=played.task
        ), "nothing of the failed try is left"


def test_a_simulator_too_slow_for_an_episode_fails():
    suite = Guessing()
    settings = replace(HERE, episode_seconds=0.15)
    slow, once = [guess("slow", 5, "slow"), guess("once", 5, "slow", times=1)]
    assert set(stops(rollouts(Bisecting(), suite, [slow, once], settings=settings)).values()) == {
        StopReason.ENVIRONMENT_FAILED,
        StopReason.TERMINATED,
    }
    assert [suite.resets.count(task.id) for task in (slow, once)] == [2, 2]


def test_a_slow_policy_is_not_the_simulators_fault():
    class Slow(Bisecting):
        def poll(self):
            time.sleep(0.06)
            return super().poll()

    [played] = rollouts(Slow(), Guessing(), [guess("a", 5)], settings=replace(HERE, episode_seconds=0.15))
    assert played.stop is StopReason.TERMINATED


@pytest.mark.parametrize("fault", ["crash", "hang"])
def test_a_dying_worker_is_charged_to_one_episode_alone(fault, tmp_path):
    """All share one worker; each of the two deaths takes the others down, and they are not charged."""
    suite, policy = Guessing(str(tmp_path)), Bisecting()
    tasks = [guess("a", 5), guess("bad", 5, fault), guess("b", 4), guess("c", 5)]
    settings = RolloutSettings(workers=1, slots=4, step_seconds=0.5)
    played = rollouts(policy, suite, tasks, settings=settings)
    assert keys(played) == [(task.id, 0) for task in tasks]
    assert stops(played) == {
        "guessing/a": StopReason.TERMINATED,
        "guessing/bad": StopReason.ENVIRONMENT_FAILED,
        "guessing/b": StopReason.TERMINATED,
        "guessing/c": StopReason.TERMINATED,
    }
    assert (tmp_path / "guessing-bad").read_text() == "xx"
    assert [len(t.turns) for t in played if not t.failed] == [6, 5, 6]
    assert len(policy.opened) == len(policy.released) > 4


def test_a_worker_that_died_once_is_replaced(tmp_path):
    suite = Guessing(str(tmp_path))
    tasks = [guess("bad", 5, "crash", times=1), guess("a", 5)]
    played = rollouts(Bisecting(), suite, tasks, settings=RolloutSettings(workers=1, slots=2))
    assert set(stops(played).values()) == {StopReason.TERMINATED}


def test_seeds_tell_episodes_apart():
    seeds = {episode_seed(s, task, n) for s in (0, 1) for task in ("a", "b", "a0") for n in (0, 1, 10)}
    assert len(seeds) == 18
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert episode_seed(0, "scienceworld/find-plant/17", 3) == 6924903281240303029


# -- with a language model ----------------------------------------------------------------


@pytest.fixture
def model(tiny_path):
    return load_policy(tiny_path, name="tiny", dtype="float32", max_action_tokens=6)


def test_a_model_plays_the_same_in_any_company(model):
    suite = Guessing()
    tasks = suite.tasks("train")[:4]
    alone = replace(HERE, slots=1, temperature=1.0, seed=7)
    played = rollouts(model, suite, tasks, samples=2, settings=alone)
    assert keys(played) == [(task.id, sample) for task in tasks for sample in (0, 1)]
    assert all(t.tokenizer == model.tokenizer_id and t.source == "tiny" for t in played)
    assert len({t.actions for t in played}) == 8, "samples and tasks are drawn apart"
    assert rollouts(model, suite, tasks, samples=2, settings=replace(alone, slots=8)) == played
    assert rollouts(model, suite, tasks[2:], samples=2, settings=replace(alone, slots=3)) == played[4:]
    assert rollouts(model, suite, tasks, samples=2, settings=replace(alone, seed=8)) != played
    for trajectory in played:
        rendered = model.renderer.render(trajectory)
        assert sum(rendered.mask) == sum(len(turn.action_ids) for turn in trajectory.turns)


def test_a_full_context_is_out_of_tokens(model, tiny_path):
    suite = Guessing()
    task = guess(0, 7)
    prompt = model.open(suite.messages(task, "Guess a number from 0 to 7.")).ids
    tight = load_policy(tiny_path, dtype="float32", max_action_tokens=6, max_context=len(prompt) + 30)
    [played] = rollouts(tight, suite, [task], settings=HERE)
    assert played.stop is StopReason.OUT_OF_TOKENS
    assert 0 < len(played.turns) < TURNS
    assert not played.success and played.truncated and not played.failed
    assert len(tight.renderer.render(played).ids) <= tight.max_context


def test_an_observation_beyond_the_context_ends_its_episode(tiny_path):
    class Talking(Guessing):
        def environment(self):
            made = super().environment()
            step = made.step
            made.step = lambda action: replace(step(action), observation="look " * 100_000)
            return made

    policy = load_policy(tiny_path, dtype="float32", max_action_tokens=6)
    [played] = rollouts(policy, Talking(), [guess(0, 7)], settings=HERE)
    assert (played.stop, len(played.turns), played.failed) == (StopReason.OUT_OF_TOKENS, 1, False)


def test_a_prompt_that_does_not_fit_ends_its_episode_alone(tiny_path):
    class Wordy(Guessing):
        def messages(self, task, observation):
            long = " look" * 200 if task.id == "guessing/wordy" else ""
            return Message("system", "Guess."), Message("user", observation + long)

    policy = load_policy(tiny_path, dtype="float32", max_action_tokens=6, max_context=150)
    wordy, fits = rollouts(policy, Wordy(), [guess("wordy", 7), guess("fits", 7)], settings=HERE)
    assert (wordy.stop, wordy.turns, wordy.failed) == (StopReason.OUT_OF_TOKENS, (), False)
    assert "more than the context of 150 holds" in wordy.detail
    assert len(fits.turns) > 0
    assert contrast_result([fits], [wordy]).summary.empty == 1
    with pytest.raises(InputError, match="leaves no room for a prompt"):
        load_policy(tiny_path, dtype="float32", max_action_tokens=150, max_context=150)


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([guess(1, 1), guess(1, 2)], "guessing/1 is there 2 times"),
        ([replace(guess(1, 1), id=5)], "int and not text"),
        ([replace(guess(1, 1), id="half \ud83d")], "no whole text"),
        (["guessing/1"], "a task is str"),
    ],
)
def test_tasks_that_cannot_be_told_apart_or_written_down_are_refused(tasks, words):
    with pytest.raises(InputError, match=words):
        rollouts(Bisecting(), Guessing(), tasks, settings=HERE)
