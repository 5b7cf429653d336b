"""Episodes that go on from given turns, kept in a store."""

from __future__ import annotations

from pathlib import Path

import pytest
from guessing import Guessing, guess

from eto.data.store import TrajectoryStore
from eto.engines.actor import Actor
from eto.engines.scripted import ScriptedEngine
from eto.environments.hosting.pool import EnvironmentPool
from eto.experiment.play import by_prefix, play_on
from eto.experiment.recipe import parse_recipe
from eto.experiment.watch import Silent
from eto.settings import EnvironmentLimits
from eto.types import Phase, Prefix, Turn

RECIPE = parse_recipe("name: a\nenvironment: {name: b}\n")
PHASE = Phase.continued("values-1")


def actor(respond) -> Actor:
    engine = ScriptedEngine(respond)
    return Actor(engine, engine.renderer, "guesser")


def test_what_the_store_holds_is_not_played_again(tmp_path: Path) -> None:
    task, suite = guess("five", 5), Guessing()
    prefixes = [Prefix(task, (Turn(f"guess {n}", ""),)) for n in (1, 2, 3)]

    def on(some, respond, samples: int = 2):
        return play_on(
            actor(respond),
            suite,
            some,
            RECIPE,
            progress=Silent(),
            phase=PHASE,
            samples=samples,
            temperature=1.0,
            seed=0,
            store=store,
            pool=pool,
        )

    limits = EnvironmentLimits(workers=0)
    with TrajectoryStore(tmp_path / "s.sqlite") as store, EnvironmentPool.within(suite, limits) as pool:
        first = on(prefixes[:2], lambda _: "guess 5")
        asked = []
        whole = on(prefixes, lambda messages: asked.append(1) or "guess 5")
        assert whole[:2] == first and len(asked) == 2, "of the third prefix alone"
        for number, episodes in enumerate(whole, start=1):
            assert [t.actions for t in episodes] == [(f"guess {number}", "guess 5")] * 2
        assert by_prefix(store.get(PHASE), prefixes, 2) == whole
        assert on(prefixes, lambda _: pytest.fail("asked")) == whole
        assert PHASE.text == "continue/values-1" and store.phases() == [PHASE]


def test_a_failed_episode_is_missing_from_its_prefix(tmp_path: Path) -> None:
    good, broken = guess("good", 5), guess("broken", 5, "fail")
    prefixes = [Prefix(task, (Turn("guess 1", ""),)) for task in (good, broken)]
    suite = Guessing()
    limits = EnvironmentLimits(workers=0)
    with TrajectoryStore(tmp_path / "s.sqlite") as store, EnvironmentPool.within(suite, limits) as pool:
        one, none = play_on(
            actor(lambda _: "guess 5"),
            suite,
            prefixes,
            RECIPE,
            progress=Silent(),
            phase=PHASE,
            samples=1,
            temperature=0.0,
            seed=0,
            store=store,
            pool=pool,
        )
    assert len(one) == 1 and none == []
