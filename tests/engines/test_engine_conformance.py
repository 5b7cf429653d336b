"""What every engine does. Another one joins with a line in `ENGINES`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from completion_server import serving
from token_server import TokenServer

from eto.engines.in_process import InProcessEngine
from eto.engines.opening import Needs, open_engine
from eto.engines.scripted import ScriptedEngine
from eto.protocols import Completion, Engine, EngineFault, Sampling
from eto.settings import RaySettings, RolloutSettings, ServerSettings
from eto.training.learner import load_learner

STOP = 7
GREEDY = Sampling(max_tokens=12)


@dataclass(frozen=True)
class Made:
    """An engine under test, and prompts for it."""

    engine: Engine
    prompts: list[list[int]]
    other_weights: Path
    """Weights with which it writes otherwise, where weights decide what it writes."""
    has_weights: bool = True
    stop: Callable[[], None] = lambda: None
    """Ends what it needs."""


def in_process(fast_paths: bool, drafting: bool) -> Callable[[Path, Path], Made]:
    def make(path: Path, other: Path) -> Made:
        learner = load_learner(path, dtype="float32")
        drafter = learner.drafter if drafting else None
        engine = InProcessEngine(learner.model, max_context=128, drafter=drafter, fast_paths=fast_paths)
        common = list(range(40, 70))
        return Made(engine, [[*common, *range(n, 2 * n)] for n in (3, 5, 9, 14)], other)

    return make


def server(path: Path, other: Path) -> Made:
    replicas = [serving(TokenServer(path)) for _ in range(2)]
    settings = ServerSettings(urls=[each.__enter__().url for each in replicas], seconds=20.0)
    engine = open_engine(
        RolloutSettings(engine="server", server=settings), Needs(128, "float32", path, print)
    )
    common = list(range(40, 70))
    asyncio.run(engine.greet(common))

    def stop() -> None:
        engine.wait_closed()
        for each in replicas:
            each.__exit__(None, None, None)

    return Made(engine, [[*common, *range(n, 2 * n)] for n in (3, 5, 9, 14)], other, stop=stop)


def scripted(_path: Path, other: Path) -> Made:
    engine = ScriptedEngine(lambda messages: "again " * len(messages))
    talks = [engine.renderer.talk([_message(n)]).ids for n in range(4)]
    return Made(engine, talks, other, has_weights=False)


def _message(number: int) -> Any:
    from eto.types import Message

    return Message("user", f"number {number}")


_on_ray: list[Any] = []
"""The engine on Ray, from one test to the next: it takes seconds to start."""


def on_ray(path: Path, other: Path) -> Made:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'eto-agent[ray]'")
    common = list(range(40, 70))
    if not _on_ray or _on_ray[0].closed:
        # Ray would end actors where others have taken the machine's memory.
        os.environ.update(RAY_memory_monitor_refresh_ms="0")
        settings = RolloutSettings(engine="ray", ray=RaySettings(object_store_mb=100))
        _on_ray[:] = [open_engine(settings, Needs(128, "float32", path, print))]
        asyncio.run(_on_ray[0].greet(common))
    asyncio.run(_on_ray[0].load(path))
    return Made(_on_ray[0], [[*common, *range(n, 2 * n)] for n in (3, 5, 9, 14)], other)


@pytest.fixture(scope="module", autouse=True)
def _ray_ends() -> Iterator[None]:
    yield
    for engine in _on_ray:
        engine.wait_closed()


ENGINES = {
    "in process": in_process(fast_paths=True, drafting=True),
    "in process, plain": in_process(fast_paths=False, drafting=False),
    "scripted": scripted,
    "two servers": server,
    "on ray": on_ray,
}


@pytest.fixture(params=ENGINES)
def made(request, tiny_path: Path, trained_path: Path) -> Iterator[Made]:
    made = ENGINES[request.param](tiny_path, trained_path)
    yield made
    made.stop()


def run(made: Made, *requests: tuple[list[int], Sampling, str | None]) -> list[Any]:
    """The answers to requests that are made at the same time."""

    async def all_of_them():
        return await asyncio.gather(
            *(made.engine.generate(ids, sampling, session=session) for ids, sampling, session in requests)
        )

    return asyncio.run(all_of_them())


def one(made: Made, ids: list[int], sampling: Sampling, session: str | None = None) -> Any:
    [answer] = run(made, (ids, sampling, session))
    return answer


def test_ids_and_log_probs_belong_together(made):
    for answer in run(made, *((prompt, GREEDY, None) for prompt in made.prompts)):
        assert isinstance(answer, Completion)
        assert 0 < len(answer.ids) == len(answer.log_probs) <= 12
        assert all(isinstance(token, int) for token in answer.ids)
        assert all(isinstance(each, float) and each <= 0 for each in answer.log_probs)


def test_the_last_id_is_a_stop_id_exactly_where_it_says_so(made):
    prompt = made.prompts[0]
    free = one(made, prompt, GREEDY)
    assert free.finish == "length"
    for place in (0, len(free.ids) - 1):
        token = free.ids[place]
        first = free.ids.index(token)
        stopped = one(made, prompt, replace(GREEDY, stop=(token,)))
        assert (stopped.ids, stopped.finish) == (free.ids[: first + 1], "stop")


@pytest.mark.parametrize("most", [1, 2, 5])
def test_max_tokens_are_respected(made, most):
    whole, cut = (one(made, made.prompts[1], replace(GREEDY, max_tokens=count)) for count in (12, most))
    assert cut.ids == whole.ids[:most]
    assert cut.finish == "length"


def test_a_context_that_fills_up_ends_the_continuation(made):
    if made.engine.max_context > 1000:
        pytest.skip("too long to fill")
    prompt = (made.prompts[0] * 10)[: made.engine.max_context - 3]
    answer = one(made, prompt, GREEDY)
    assert (len(answer.ids), answer.finish) == (3, "length")


def test_a_seed_decides_what_is_drawn(made):
    sampling = Sampling(12, temperature=1.0, seed=4)
    alone = [one(made, prompt, sampling) for prompt in made.prompts]
    assert [one(made, prompt, sampling).ids for prompt in made.prompts] == [each.ids for each in alone]
    together = run(made, *((prompt, sampling, None) for prompt in made.prompts))
    assert [each.ids for each in together] == [each.ids for each in alone]
    if made.has_weights:
        assert one(made, made.prompts[0], replace(sampling, seed=5)).ids != alone[0].ids
        assert all(each.log_probs != (0.0,) * len(each.ids) for each in alone)


def test_neither_sessions_nor_company_change_an_answer(made):
    """A session goes on, is laid out again, is asked twice at once, comes back after its release."""
    base = made.prompts[0]
    first = one(made, base, GREEDY)
    longer = [*base, *first.ids, *made.prompts[1][-3:]]
    rewritten = [*base[:-1], *made.prompts[2]]
    plain = [one(made, ids, GREEDY).ids for ids in (longer, rewritten, base)]
    assert one(made, base, GREEDY, "s").ids == first.ids
    assert one(made, longer, GREEDY, "s").ids == plain[0]
    assert one(made, rewritten, GREEDY, "s").ids == plain[1]
    twice = run(made, (base, GREEDY, "s"), (longer, GREEDY, "s"), (base, GREEDY, "t"))
    assert [each.ids for each in twice] == [plain[2], plain[0], plain[2]]
    asyncio.run(made.engine.release("s"))
    asyncio.run(made.engine.release("unknown"))
    assert one(made, longer, GREEDY, "s").ids == plain[0]


def test_log_probs_do_not_depend_on_temperature(made):
    """They are the model's own; a continuation drawn at any temperature is scored alike."""
    hot = one(made, made.prompts[0], Sampling(4, temperature=3.0, seed=1))
    ids = list(made.prompts[0])
    for token, log_prob in zip(hot.ids, hot.log_probs, strict=True):
        greedy = one(made, ids, replace(GREEDY, max_tokens=1))
        assert log_prob <= greedy.log_probs[0] + 1e-4
        if token == greedy.ids[0]:
            assert log_prob == pytest.approx(greedy.log_probs[0], abs=1e-4)
        ids.append(token)


def test_loading_changes_version_and_output(made):
    before = one(made, made.prompts[0], GREEDY, "s")

    # What was asked before is answered by the weights of then.
    async def load_beside_a_request():
        under_way = asyncio.create_task(made.engine.generate(made.prompts[0], GREEDY, session="s"))
        await asyncio.sleep(0)
        await made.engine.load(made.other_weights)
        return await under_way

    under_way = asyncio.run(load_beside_a_request())
    after = one(made, made.prompts[0], GREEDY, "s")
    assert (under_way.ids, under_way.version) == (before.ids, before.version), (
        "what was asked before is answered by the weights of then"
    )
    assert after.version == before.version + 1
    if made.has_weights:
        assert after.ids != before.ids


def test_faults_are_values(made):
    too_long = (made.prompts[0] * (made.engine.max_context // len(made.prompts[0]) + 1))[
        : made.engine.max_context
    ]
    fault, answer = run(made, (too_long, GREEDY, None), (made.prompts[0], GREEDY, None))
    assert isinstance(fault, EngineFault) and fault.problem and not fault.retryable
    assert isinstance(answer, Completion), "it costs nobody else"


def test_an_engine_that_sleeps_wakes_with_a_load(made):
    before = one(made, made.prompts[0], GREEDY)
    asyncio.run(made.engine.sleep())
    fault = one(made, made.prompts[0], GREEDY)
    assert fault is not None
    if isinstance(fault, EngineFault):  # a server that cannot sleep answers
        assert not fault.retryable
    asyncio.run(made.engine.load(made.other_weights))
    assert one(made, made.prompts[0], GREEDY).version == before.version + 1


def test_a_request_that_is_called_off_disturbs_no_other(made):
    async def call_off():
        gone = asyncio.create_task(made.engine.generate(made.prompts[0], GREEDY, session="g"))
        kept = asyncio.create_task(made.engine.generate(made.prompts[1], GREEDY, session="k"))
        await asyncio.sleep(0)
        gone.cancel()
        return await kept

    assert asyncio.run(call_off()).ids == one(made, made.prompts[1], GREEDY).ids
    assert one(made, made.prompts[0], GREEDY, "g").ids == one(made, made.prompts[0], GREEDY).ids


def test_closing_is_safe_twice_and_final(made):
    asyncio.run(made.engine.close())
    asyncio.run(made.engine.close())
    assert isinstance(one(made, made.prompts[0], GREEDY), EngineFault)


def test_release_frees(tiny_path, trained_path):
    """Of the engine in this process: caches of sessions are kept until then, others are not kept at all."""
    made = in_process(fast_paths=True, drafting=True)(tiny_path, trained_path)
    run(made, (made.prompts[0], GREEDY, "a"), (made.prompts[1], GREEDY, "b"), (made.prompts[2], GREEDY, None))
    assert made.engine.sessions == 2
    asyncio.run(made.engine.release("a"))
    assert made.engine.sessions == 1
    asyncio.run(made.engine.sleep())
    assert made.engine.sessions == 0 and made.engine.decoder is None
