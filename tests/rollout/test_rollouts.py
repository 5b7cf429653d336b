"""Many episodes at once: order, admission, retries, on a guessing game."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from guessing import TURNS, Guessing, guess
from playing import how

from eto.credit.contrast import contrast_result
from eto.engines.actor import Actor, mark, unmark
from eto.engines.scripted import ScriptedEngine
from eto.environments.hosting.pool import EnvironmentPool
from eto.errors import InputError
from eto.protocols import EngineFault
from eto.rollout.episode import drift, episode_seed, turn_seed
from eto.rollout.rollouts import rollouts, stream_rollouts
from eto.rollout.simulators import Simulators
from eto.training.learner import load_learner
from eto.types import Message, StopReason, Turn


def here(**changes: Any) -> dict[str, Any]:
    """Simulators in this process, three episodes at once."""
    return how(**{"workers": 0, "slots": 3, **changes})


HERE = here()


class Counted(ScriptedEngine):
    """Keeps count of its sessions."""

    def __init__(self, respond, seconds: float = 0.0) -> None:
        super().__init__(respond)
        self.opened, self.released, self.most, self.seconds = [], [], 0, seconds

    async def generate(self, ids, sampling, *, session=None):
        if session not in self.opened:
            self.opened.append(session)
        self.most = max(self.most, len(self.opened) - len(self.released))
        time.sleep(self.seconds)
        return await super().generate(ids, sampling, session=session)

    async def release(self, session):
        assert session not in self.released
        self.released.append(session)


def bisecting(seconds: float = 0.0) -> Actor:
    """Guesses 0, 1, 2, ...: the number n takes n + 1 turns; `seconds` each."""
    engine = Counted(count_up, seconds)
    return Actor(engine, engine.renderer, "counter")


def count_up(messages) -> str:
    return f"guess {sum(message.role == 'assistant' for message in messages)}"


def keys(trajectories):
    return [(t.task.id, t.sample) for t in trajectories]


def stops(trajectories) -> dict[str, StopReason]:
    return {t.task.id: t.stop for t in trajectories}


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("slots", [1, 3, 64])
def test_every_episode_once_and_in_order(workers, slots):
    suite, policy = Guessing(), bisecting()
    tasks = suite.tasks("train")
    played = rollouts(policy, suite, tasks, samples=2, **how(workers=workers, slots=slots))
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
    assert policy.engine.most <= slots
    assert len(policy.engine.opened) == len(policy.engine.released) == 20


def test_standing_simulators_serve_one_call_after_the_other():
    suite = Guessing()
    tasks = suite.tasks("train")
    settings = how(workers=2, slots=3)
    with EnvironmentPool.within(suite, settings["limits"]) as pool:
        processes = [worker.process.pid for worker in pool._workers]
        first = rollouts(bisecting(), suite, tasks, **settings, pool=pool)
        second = rollouts(bisecting(), suite, tasks[::-1], **settings, pool=pool)
        assert [worker.process.pid for worker in pool._workers] == processes
    assert first == second[::-1] == rollouts(bisecting(), suite, tasks, **settings)


def test_done_episodes_are_left_out():
    suite = Guessing()
    done = frozenset({("guessing/0", 1), ("guessing/2", 0), ("guessing/2", 1)})
    played = rollouts(bisecting(), suite, suite.tasks("train")[:3], samples=2, **HERE, done=done)
    assert keys(played) == [("guessing/0", 0), ("guessing/1", 0), ("guessing/1", 1)]
    everything = frozenset((task.id, sample) for task in suite.tasks("train") for sample in (0, 1))
    assert rollouts(bisecting(), suite, suite.tasks("train"), samples=2, **HERE, done=everything) == []
    assert rollouts(bisecting(), suite, [], **HERE) == []


@pytest.mark.parametrize("slots", [1, 2])
def test_an_episode_is_handed_over_before_its_slot_is_used_again(slots):
    suite, handed = Guessing(), []
    for trajectory in stream_rollouts(bisecting(), suite, suite.tasks("train"), **here(slots=slots)):
        handed.append(trajectory)
        # No more episodes have begun than slots beyond those handed over.
        assert len(suite.resets) <= len(handed) - 1 + slots
    assert sorted(keys(handed)) == sorted((task.id, 0) for task in suite.tasks("train"))
    assert len(suite.resets) == 10
    if slots == 1:
        assert suite.resets == [t.task.id for t in handed]


def test_an_interrupted_call_is_resumed():
    suite, kept = Guessing(), []
    tasks = suite.tasks("train")
    for trajectory in stream_rollouts(bisecting(), suite, tasks, **HERE):
        kept.append(trajectory)
        if len(kept) == 4:
            break
    rest = rollouts(bisecting(), suite, tasks, **HERE, done=frozenset(keys(kept)))
    whole = rollouts(bisecting(), Guessing(), tasks, **HERE)
    assert sorted([*kept, *rest], key=lambda t: t.task.id) == sorted(whole, key=lambda t: t.task.id)


def test_a_slot_is_filled_as_soon_as_it_is_free():
    suite = Guessing()
    tasks = [guess("long", 5), guess("a", 0), guess("b", 0), guess("c", 0)]
    played = stream_rollouts(bisecting(), suite, tasks, **here(slots=2))
    assert [t.task.id for t in played] == [f"guessing/{name}" for name in ("a", "b", "c", "long")]


def test_the_environments_own_limit_is_out_of_turns():
    [played] = rollouts(bisecting(), Guessing(), [guess(0, 5, "truncates")], **HERE)
    assert (played.stop, len(played.turns), played.success) == (StopReason.OUT_OF_TURNS, 2, False)
    assert played.truncated and not played.failed


@pytest.mark.parametrize("fault", ["fail", "at reset"])
def test_a_failing_simulator_costs_one_retry(fault):
    suite, policy = Guessing(), bisecting()
    tasks = [guess("bad", 5, fault), guess("good", 3)]
    bad, good = rollouts(policy, suite, tasks, **HERE)
    assert bad.stop is StopReason.ENVIRONMENT_FAILED and bad.failed
    assert ("the simulator says no" if fault == "fail" else "it does not start") in bad.detail
    assert suite.resets.count("guessing/bad") == 2
    assert suite.resets.count("guessing/good") == 1
    assert (good.stop, len(good.turns)) == (StopReason.TERMINATED, 4)
    assert len(policy.engine.opened) == len(policy.engine.released)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_retry_may_succeed(retries):
    suite = Guessing()
    [played] = rollouts(bisecting(), suite, [guess("once", 5, "fail", times=1)], **here(retries=retries))
    assert played.stop is (StopReason.TERMINATED if retries else StopReason.ENVIRONMENT_FAILED)
    if retries:
        assert played == replace(
            rollouts(bisecting(), Guessing(), [guess("once", 5)], **HERE)[0], task=played.task
        ), "nothing of the failed try is left"


def test_a_simulator_too_slow_for_an_episode_fails():
    suite = Guessing()
    settings = here(episode_seconds=0.15)
    slow, once = [guess("slow", 5, "slow"), guess("once", 5, "slow", times=1)]
    assert set(stops(rollouts(bisecting(), suite, [slow, once], **settings)).values()) == {
        StopReason.ENVIRONMENT_FAILED,
        StopReason.TERMINATED,
    }
    assert [suite.resets.count(task.id) for task in (slow, once)] == [2, 2]


def test_a_slow_policy_is_not_the_simulators_fault():
    [played] = rollouts(bisecting(seconds=0.06), Guessing(), [guess("a", 5)], **here(episode_seconds=0.15))
    assert played.stop is StopReason.TERMINATED


@pytest.mark.parametrize("fault", ["crash", "hang"])
def test_a_dying_worker_is_charged_to_one_episode_alone(fault, tmp_path):
    """All share one worker; each of the two deaths takes the others down, and they are not charged."""
    suite, policy = Guessing(str(tmp_path)), bisecting()
    tasks = [guess("a", 5), guess("bad", 5, fault), guess("b", 4), guess("c", 5)]
    settings = how(workers=1, slots=4, step_seconds=0.5)
    played = rollouts(policy, suite, tasks, **settings)
    assert keys(played) == [(task.id, 0) for task in tasks]
    assert stops(played) == {
        "guessing/a": StopReason.TERMINATED,
        "guessing/bad": StopReason.ENVIRONMENT_FAILED,
        "guessing/b": StopReason.TERMINATED,
        "guessing/c": StopReason.TERMINATED,
    }
    assert (tmp_path / "guessing-bad").read_text() == "xx"
    assert [len(t.turns) for t in played if not t.failed] == [6, 5, 6]
    assert len(policy.engine.opened) == len(policy.engine.released) > 4


def test_a_worker_that_died_once_is_replaced(tmp_path):
    suite = Guessing(str(tmp_path))
    tasks = [guess("bad", 5, "crash", times=1), guess("a", 5)]
    played = rollouts(bisecting(), suite, tasks, **how(workers=1, slots=2))
    assert set(stops(played).values()) == {StopReason.TERMINATED}


def test_seeds_tell_episodes_apart():
    seeds = {episode_seed(s, task, n) for s in (0, 1) for task in ("a", "b", "a0") for n in (0, 1, 10)}
    assert len(seeds) == 18
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert episode_seed(0, "scienceworld/find-plant/17", 3) == 6924903281240303029


# -- with a language model ----------------------------------------------------------------


@pytest.fixture
def model(tiny_path):
    return load_learner(tiny_path, dtype="float32")


def model_here(**changes: Any) -> dict[str, Any]:
    return here(**{"max_action_tokens": 6, **changes})


def ids(played):
    return [[turn.action_ids for turn in t.turns] for t in played]


def same(played, others) -> bool:
    """Equal except for log-probs, which differ by rounding in batches of other sizes."""

    def without(t):
        return replace(t, turns=tuple(replace(turn, log_probs=None) for turn in t.turns))

    def log_probs(trajectories):
        return [p for t in trajectories for turn in t.turns for p in turn.log_probs]

    plain = [without(t) for t in played] == [without(t) for t in others]
    return plain and log_probs(played) == pytest.approx(log_probs(others), abs=1e-4)


def test_a_model_plays_the_same_in_any_company(model):
    suite, actor = Guessing(), model.actor("tiny")
    tasks = suite.tasks("train")[:4]

    def play(tasks, **changes):
        return rollouts(
            actor, suite, tasks, samples=2, temperature=1.0, **model_here(**{"seed": 7, **changes})
        )

    played = play(tasks, slots=1)
    assert keys(played) == [(task.id, sample) for task in tasks for sample in (0, 1)]
    assert all(t.tokenizer == model.tokenizer_id and t.source == "tiny" for t in played)
    assert len({t.actions for t in played}) == 8, "samples and tasks are drawn apart"
    assert same(play(tasks, slots=8), played)
    assert same(play(tasks[2:], slots=3), played[4:])
    assert ids(play(tasks, slots=1, seed=8)) != ids(played)
    for trajectory in played:
        rendered = model.renderer.render(trajectory)
        assert sum(rendered.mask) == sum(len(turn.action_ids) for turn in trajectory.turns)


def test_a_full_context_is_out_of_tokens(model, tiny_path):
    suite = Guessing()
    task = guess(0, 7)
    prompt = model.renderer.prompt_ids(suite.messages(task, "Guess a number from 0 to 7."))
    tight = load_learner(tiny_path, dtype="float32", max_context=len(prompt) + 30)
    [played] = rollouts(tight.actor("tight"), suite, [task], **model_here())
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

    policy = load_learner(tiny_path, dtype="float32")
    [played] = rollouts(policy.actor("a"), Talking(), [guess(0, 7)], **model_here())
    assert (played.stop, len(played.turns), played.failed) == (StopReason.OUT_OF_TOKENS, 1, False)


def test_a_prompt_that_does_not_fit_ends_its_episode_alone(tiny_path):
    class Wordy(Guessing):
        def messages(self, task, observation):
            long = " look" * 200 if task.id == "guessing/wordy" else ""
            return Message("system", "Guess."), Message("user", observation + long)

    policy = load_learner(tiny_path, dtype="float32", max_context=150)
    wordy, fits = rollouts(policy.actor("a"), Wordy(), [guess("wordy", 7), guess("fits", 7)], **model_here())
    assert (wordy.stop, wordy.turns, wordy.failed) == (StopReason.OUT_OF_TOKENS, (), False)
    assert "more than the context of 150 holds" in wordy.detail
    assert len(fits.turns) > 0
    assert contrast_result([fits], [wordy]).summary.empty == 1
    with pytest.raises(InputError, match="leaves no room for a prompt"):
        rollouts(policy.actor("a"), Wordy(), [], **here(max_action_tokens=150))


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([guess(1, 1), guess(1, 2)], "guessing/1 occurs 2 times"),
        ([replace(guess(1, 1), id=5)], "int and not text"),
        ([replace(guess(1, 1), id="half \ud83d")], "not valid Unicode text"),
        (["guessing/1"], "a task is str"),
    ],
)
def test_tasks_that_cannot_be_told_apart_or_written_down_are_refused(tasks, words):
    with pytest.raises(InputError, match=words):
        rollouts(bisecting(), Guessing(), tasks, **HERE)


# -- prefixes, faults and event loops -----------------------------------------------------


def test_an_episode_begins_with_its_prefix():
    suite, task = Guessing(), guess("five", 5)
    [whole] = rollouts(bisecting(), suite, [task], **HERE)
    recorded = tuple(replace(turn, observation="as told", log_probs=None) for turn in whole.turns[:2])
    actor = bisecting()
    [played] = rollouts(actor, suite, [task], prefixes={task.id: recorded}, **HERE)
    assert played.turns == whole.turns, "the observations are the simulator's"
    assert drift(recorded, played.turns) == 2 and drift(whole.turns, played.turns) == 0
    assert len(actor.engine.opened) == 1
    # Ended by the simulator within the prefix, it needs no actor.
    silent = Actor(ScriptedEngine(lambda _: pytest.fail("asked")), actor.renderer, "silent")
    [ended] = rollouts(silent, suite, [task], prefixes={task.id: whole.turns}, **HERE)
    assert (ended.turns, ended.stop) == (whole.turns, StopReason.TERMINATED)


def test_an_actors_prompt_ends_what_it_hears_and_what_is_kept():
    seen: list[str] = []

    def guess_five(messages) -> str:
        seen.append(messages[-1].content)
        return "guess 5"

    engine, suite, task = ScriptedEngine(guess_five), Guessing(), guess("a", 5)
    pool = EnvironmentPool.within(suite, HERE["limits"])
    with pool:  # simulators that others use as well
        [plain] = rollouts(Actor(engine, engine.renderer, "a"), suite, [task], pool=pool, **HERE)
        [played] = rollouts(Actor(engine, engine.renderer, "a", "Well."), suite, [task], pool=pool, **HERE)
    assert played.messages == mark(plain.messages, "Well.") and played.turns == plain.turns
    assert seen == [plain.messages[-1].content, f"{plain.messages[-1].content}\n\nWell."]


def test_an_episode_has_a_prompt_of_its_own():
    tasks = Guessing().tasks("train")[:2]
    texts = {(tasks[0].id, 1): "Here, count.", (tasks[1].id, 0): ""}
    actor = replace(bisecting(), prompt="Count well.")
    played = rollouts_with(actor, tasks, texts)
    plain = rollouts_with(actor, tasks, None)
    for each, without in zip(played, plain, strict=True):
        text = texts.get((each.task.id, each.sample))
        assert each.messages == (mark(without.messages, text) if text else without.messages)
        assert unmark(each.messages, text or "nothing") == without.messages
        assert without.messages[-1].content.endswith("\n\nCount well.")
    assert unmark(played[0].messages, "of another text") == played[0].messages


def rollouts_with(actor: Actor, tasks, prompts):
    found = stream_rollouts(actor, Guessing(), tasks, samples=2, temperature=1.0, prompts=prompts, **HERE)
    return sorted(found, key=lambda t: (t.task.id, t.sample))


def test_a_prefix_counts_for_the_cap_and_the_context(model):
    suite, task = Guessing(), guess("far", 7)
    wrong = tuple(Turn("guess 0", "") for _ in range(TURNS - 1))
    [played] = rollouts(bisecting(), suite, [task], prefixes={task.id: wrong}, **HERE)
    assert (len(played.turns), played.stop) == (TURNS, StopReason.OUT_OF_TURNS)
    model.max_context = 120
    [full] = rollouts(model.actor("m"), suite, [task], prefixes={task.id: wrong}, **model_here())
    assert (len(full.turns), full.stop) == (TURNS - 1, StopReason.OUT_OF_TOKENS)


def test_a_model_goes_on_after_a_prefix_as_it_did(model):
    suite, task = Guessing(), guess("far", 7)
    actor = model.actor("m")
    [whole] = rollouts(actor, suite, [task], temperature=1.0, **model_here())
    [again] = rollouts(
        actor, suite, [task], temperature=1.0, prefixes={task.id: whole.turns[:2]}, **model_here()
    )
    assert ids([again]) == ids([whole]), "each turn has its own seed"


class Faulty(ScriptedEngine):
    """Fails so often, then answers."""

    def __init__(self, times: int, retryable: bool) -> None:
        super().__init__(count_up)
        self.times, self.fault, self.asked = times, EngineFault("the server is gone", retryable), 0

    async def generate(self, ids, sampling, *, session=None):
        self.asked += 1
        if self.asked <= self.times:
            return self.fault
        return await super().generate(ids, sampling, session=session)


@pytest.mark.parametrize(
    ("times", "retryable", "stop", "asked"),
    [
        (1, True, StopReason.TERMINATED, 5),
        (2, True, StopReason.ENGINE_FAILED, 2),
        (1, False, StopReason.ENGINE_FAILED, 1),
    ],
)
def test_a_fault_of_the_engine_is_no_one_elses(times, retryable, stop, asked):
    suite, engine = Guessing(), Faulty(times, retryable)
    [played] = rollouts(Actor(engine, engine.renderer, "a"), suite, [guess("three", 3)], **HERE)
    assert (played.stop, engine.asked, len(suite.resets)) == (stop, asked, 1)
    if stop is StopReason.ENGINE_FAILED:
        assert played.failed and played.detail == "the server is gone"


@pytest.mark.parametrize("workers", [0, 1])
def test_callers_may_run_an_event_loop(workers):
    """As a notebook does."""

    async def cell():
        played = []
        for trajectory in stream_rollouts(bisecting(), suite, tasks, **how(workers=workers, slots=2)):
            played.append(trajectory)
            if len(played) == 3:
                break
        return played, rollouts(bisecting(), suite, tasks, **how(workers=workers, slots=2))

    suite = Guessing()
    tasks = suite.tasks("train")
    some, all_of_them = asyncio.run(cell())
    assert len(some) == 3 and set(keys(some)) <= set(keys(all_of_them))
    assert keys(all_of_them) == [(task.id, 0) for task in tasks]


@pytest.mark.parametrize("workers", [0, 2])
def test_standing_simulators_survive_a_call_that_was_left(workers):
    suite = Guessing()
    tasks, settings = suite.tasks("train"), how(workers=workers, slots=4)
    with EnvironmentPool.within(suite, settings["limits"]) as pool:
        for _ in range(3):
            next(stream_rollouts(bisecting(), suite, tasks, **settings, pool=pool))
        assert len(rollouts(bisecting(), suite, tasks, **settings, pool=pool)) == len(tasks)


def test_an_answer_that_nobody_waits_for_any_more_is_dropped():
    """A stop calls off everyone who waits; what simulators answer then must not show as a fault."""
    suite, settings = Guessing(), how(workers=1)
    faults: list[object] = []

    async def stopped(pool: EnvironmentPool) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
        with Simulators(pool) as simulators:
            waiting = [
                asyncio.ensure_future(simulators.slot(number).reset(suite.tasks("train")[0]))
                for number in (0, 1)
            ]
            await asyncio.sleep(0)
            assert simulators._waiting and not any(each.done() for each in waiting)
            for each in waiting:
                each.cancel()
            while simulators._waiting:
                await asyncio.sleep(0.01)
            assert (await simulators.slot(2).reset(suite.tasks("train")[0])).observation

    with EnvironmentPool.within(suite, settings["limits"]) as pool:
        asyncio.run(stopped(pool))
    assert faults == []


def test_what_an_engine_raises_ends_the_call_and_releases_the_others():
    engine = Counted(lambda said: 1 / 0 if "guess 1" in str(said) else count_up(said))
    with pytest.raises(ZeroDivisionError):
        rollouts(Actor(engine, engine.renderer, "a"), Guessing(), [guess("a", 5), guess("b", 5)], **HERE)
    assert sorted(engine.opened) == sorted(engine.released)


def test_turns_have_seeds_of_their_own():
    assert turn_seed(7, 0) == 7
    assert len({turn_seed(seed, turn) for seed in (7, 8) for turn in range(5)}) == 10
