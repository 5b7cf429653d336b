"""The model, loaded in a thread while simulators start and the expert's trajectories are collected."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING

from eto.errors import InputError
from eto.experiment.compose import policy_of
from eto.experiment.recipe import Recipe
from eto.experiment.recipe_fields import learned_optimisers, training_sections
from eto.methods import declared_stages
from eto.settings.distributed import unfit

if TYPE_CHECKING:
    from pathlib import Path

    from eto.training.learner import Learner

IMPORTS = ("torch", "transformers", "transformers.modeling_utils", "eto.training.learner")
"""What loading spends most of its time on, in steps of a second or two."""
LARGEST_RANK = 576
"""Rank that a weight matrix of the embedded model can have."""


class PolicyLoading:
    """Loads the recipe's policy in a thread, once it is asked to.

    Used as a context manager. Left early, it calls off the steps that have not begun; the
    process ends with the step under way, for a thread stopped inside torch may abort it.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load-policy")
        self._policy: Future[Learner] | None = None

    def __enter__(self) -> PolicyLoading:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def start(self) -> Future[Learner]:
        """Begin to load, if that was not begun before."""
        if self._policy is None:
            for module in IMPORTS:
                self._thread.submit(import_module, module)  # where one fails, policy_of raises it again
            self._policy = self._thread.submit(policy_of, self.recipe)
            self._thread.shutdown(wait=False)  # the thread ends after these, and with it its OpenMP team
        return self._policy

    @property
    def under_way(self) -> bool:
        return self._policy is not None and not self._policy.done()

    def raise_failure(self) -> None:
        """Raises what loading has failed with, if it has; does not wait."""
        if self._policy is not None and self._policy.done():
            self._policy.result()

    def policy(self) -> Learner:
        """The policy, waited for. Raises what loading it raises: `InputError`, `MissingRequirement`."""
        return self.start().result()

    def forget(self) -> None:
        """Hold the policy no longer: those who asked for it have it."""
        self._policy = None


def check_for_training(policy: Learner, out: Path, agents: int = 0, *, learned: bool = False) -> None:
    """Raises `InputError` for a model that can only act, `MissingRequirement` where the disk of `out` has no
    room for it: once or, with `agents`, for a run that saves so many. learned: by a learned optimiser."""
    from eto.models.adapters import trained_bytes
    from eto.models.disk_room import LEARNED_STATE, STATE, check_room, needed_bytes
    from eto.models.saving import model_bytes
    from eto.training.probe import check_training

    check_training(policy.model, plain=not policy.fast_paths)
    whole = model_bytes(policy.model)
    state = LEARNED_STATE if learned else STATE
    needed = needed_bytes(whole, trained_bytes(policy.model), agents, state) if agents else whole
    check_room(out, needed - _states(out))


def check_optimisers(recipe: Recipe) -> None:
    """Raises `InputError` for a file of a learned optimiser that is missing or holds none, and for an
    accelerate config that cannot be used; `MissingRequirement` for the package of an optimiser, or of weights
    in 4 bits."""
    if recipe.train.accelerate_config is not None:
        from eto.training.backends.sharded_config import counted

        train = counted(recipe.train)
        for name, section in training_sections(recipe.method).items():
            if problem := unfit(train, section):
                text, _, hint = problem
                raise InputError(f"method.{name}: {text}", where=recipe.train.accelerate_config, hint=hint)
    if recipe.model.lora is not None and recipe.model.lora.frozen == "nf4":
        from eto.models import frozen

        frozen.check_installed()
    if any(each.optimiser == "adamw8bit" for each in training_sections(recipe.method).values()):
        from eto.training.optimiser import check_installed

        for section in training_sections(recipe.method).values():
            check_installed(section)
    for section in learned_optimisers(recipe.method).values():
        from eto.training.learned_optimiser import load_rule

        load_rule(section.optimiser_file)


def agents_left(recipe: Recipe) -> int:
    """Models that the recipe's run has yet to save."""
    saved = len(list(recipe.directory.glob("stages/*/model/config.json")))
    return max(0, sum(bool(stage.agent) for stage in declared_stages(recipe.method)) - saved)


def check_embedded_room(recipe: Recipe) -> None:
    """`check_for_training`, of the disk alone, for a model that `sure_to_load` knows. Imports no torch."""
    from eto.models.disk_room import check_room, directory_bytes, needed_bytes
    from eto.models.embedded import model_path

    whole = directory_bytes(model_path())
    trained = 0 if recipe.model.lora else whole
    needed = needed_bytes(whole, trained, agents_left(recipe))
    check_room(recipe.directory, needed - _states(recipe.directory))


def _states(directory: Path) -> int:
    """Bytes of the training states that a stage under way has left in a run's directory."""
    from eto.models.disk_room import directory_bytes

    return sum(directory_bytes(state) for state in directory.glob("stages/*/state*"))


def sure_to_load(recipe: Recipe) -> bool:
    """Whether the recipe's model need not be tried: the embedded one, whole in the cache, in a context that
    it has, with adapters wherever they fit. Imports neither torch nor transformers."""
    from eto.models.embedded import cached_context

    model = recipe.model
    if model.path != "embedded":
        return False
    usual = model.lora is None or (model.lora.target_modules is None and model.lora.frozen == "float32")
    if not usual or (model.lora and model.lora.rank > LARGEST_RANK):
        return False
    context = cached_context()
    return context is not None and (model.max_context or 0) <= context
