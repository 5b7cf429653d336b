"""Who writes the actions of a run: the learner in this process, or an engine that gets its weights."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Coroutine
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from eto.errors import EngineFailure
from eto.experiment.recipe import Recipe
from eto.experiment.watch import Watcher
from eto.rollout.blocking import blocking

if TYPE_CHECKING:
    from eto.engines.actor import Actor
    from eto.engines.opening import OutsideEngine
    from eto.engines.server.replica import Served
    from eto.training.learner import Learner

T = TypeVar("T")


class Acting:
    """Makes actors of a learner with the engine that the recipe names. A context manager: left, it ends what
    the engine started.

    An engine outside this process reads the weights from files, whenever they have changed since it acted
    last, and is then checked to act with them.
    """

    def __init__(self, recipe: Recipe, watch: Watcher, directory: Path | None = None) -> None:
        """`directory`: for the weights it reads and its logs; None: a temporary one."""
        self._settings, self._watch, self._directory = recipe.rollout, watch, directory
        self._temporary: Path | None = None
        self._engine: OutsideEngine | None = None
        self._weights: object = None
        self._known: list[tuple[Served, list[float]]] = []
        """What each server made of the fixed text last, and the log-probs it should have given."""

    def __enter__(self) -> Acting:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._engine is not None:
            _finished(self._engine.close())
        if self._directory is not None:
            shutil.rmtree(self._directory / "weights", ignore_errors=True)
        if self._temporary is not None and kind is None:  # after an error its logs are of use
            shutil.rmtree(self._temporary, ignore_errors=True)

    def actor(self, learner: Learner, name: str) -> Actor:
        """An agent called `name` that acts with the learner's weights as they are now.

        Raises `InputError`, `MissingRequirement` and `EngineFailure` where the engine cannot be used.
        """
        from eto.engines.actor import Actor

        if self._settings.engine == "in_process":
            return learner.actor(name)
        engine = self._engine
        if engine is None or engine.max_context != learner.max_context:
            engine = self._open(learner)
        if learner.weights is not self._weights:
            self._load(engine, learner)
        return Actor(engine, learner.renderer, name)

    # -- inside -----------------------------------------------------------------------

    @property
    def _place(self) -> Path:
        if self._directory is not None:
            return self._directory
        if self._temporary is None:
            self._temporary = Path(mkdtemp(prefix="acting-"))
        return self._temporary

    def _open(self, learner: Learner) -> OutsideEngine:
        from eto.engines.opening import Needs, open_engine
        from eto.engines.server.wire import LARGEST

        if self._engine is not None:
            _finished(self._engine.close())
        dtype = str(learner.dtype).removeprefix("torch.")
        self._place.mkdir(parents=True, exist_ok=True)
        ids = learner.renderer.embeddings or LARGEST
        needs = Needs(learner.max_context, dtype, self._place.absolute(), self._watch.say, ids)
        self._engine = engine = open_engine(self._settings, needs)
        self._weights, self._known = None, []
        _finished(engine.greet(_probe(learner)))
        return engine

    def _load(self, engine: OutsideEngine, learner: Learner) -> None:
        directory = learner.saved
        if directory is None:
            directory = self._place / "weights"
            learner.save(directory)
        self._weights = None
        _finished(engine.load(directory.absolute()))
        if (problem := self._problem(engine, learner)) is not None:
            self._watch.say(f"the engine did not take the new weights and begins again: {problem}")
            _finished(engine.renew(directory.absolute()))
            self._known = []
            if (problem := self._problem(engine, learner)) is not None:
                raise EngineFailure(
                    f"it does not act with the weights it was given: {problem}",
                    where=f"rollout.engine {self._settings.engine}",
                    hint="it must support the model and its tokenizer, in the dtype of the recipe",
                )
        self._weights = learner.weights

    def _problem(self, engine: OutsideEngine, learner: Learner) -> str | None:
        """How some server's answers show that it acts with other weights than the learner's."""
        from eto.engines.served import differs, unchanged

        dtype = str(learner.dtype).removeprefix("torch.")
        answers = _finished(engine.served(_probe(learner)))
        now = [(answer, _log_probs(learner, answer.ids)) for answer in answers]
        before = {answer.url: (answer, expected) for answer, expected in self._known}
        self._known = now
        for answer, expected in now:
            if (problem := differs(answer, expected, dtype)) is not None:
                return f"{answer.url}: {problem}"
            earlier = before.get(answer.url)
            if earlier is not None and unchanged(earlier[0], answer, earlier[1], expected):
                return f"{answer.url}: its log-probs of a fixed text are those of the old weights"
        return None


def _probe(learner: Learner) -> list[int]:
    """The ids of the fixed text by which weights are told apart."""
    from eto.engines.served import TEXT, TOKENS

    ids = list(learner.tokenizer(TEXT * 8)["input_ids"])
    return ids[: min(TOKENS, learner.max_context - 2)]


def _log_probs(learner: Learner, ids: tuple[int, ...]) -> list[float]:
    from eto.tokens.prefix_tree import build_tree

    tree = build_tree([(ids, [-1] + [0] * (len(ids) - 1))])
    [[scores]] = learner.score([tree])
    return [float(score) for score in scores]


def _finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """Its result, for callers with or without an event loop."""

    async def only() -> AsyncGenerator[T]:
        yield await coroutine

    [result] = list(blocking(only()))
    return result
