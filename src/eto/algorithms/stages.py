"""The stages of Algorithm 1, each kept in a workbench: made once, loaded afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from eto.algorithms.dpo import LeftOut, contrasted, dpo, no_pairs_left
from eto.algorithms.sft import sft
from eto.atomic import atomic_directory
from eto.contrast import ContrastResult, contrast_result
from eto.errors import InputError
from eto.files import read_json, read_object, write_json
from eto.formats import read_pairs, write_pairs
from eto.methods.eto import EtoSettings
from eto.settings import SftSettings
from eto.training.learner import Learner
from eto.types import Pair, Trajectory

T = TypeVar("T")
OnStep = Callable[[str, dict[str, float]], None]
DevReward = Callable[[Learner, str], float]


class Workbench(Protocol):
    """Where stages keep their results; `eto.run.Run` is one."""

    recipe: Any
    """Has the seed, and what else is not a setting of one stage."""

    def stage(
        self,
        name: str,
        function: Callable[[Path], T],
        *,
        load: Callable[[Path], T],
        metrics: Callable[[T], Mapping[str, Any]] | None = None,
    ) -> T: ...

    def stage_directory(self, name: str) -> Path: ...

    def log(self, stage: str, **fields: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Round:
    """What one iteration came to."""

    agent: str
    pairs: int
    fired: str | None
    """The guard's rule that stopped training, if any."""
    best_epoch: int
    dev_reward: float
    start_reward: float
    shipped: bool

    @property
    def reason(self) -> str:
        verdict = "better than" if self.dev_reward > self.start_reward else "not better than"
        return f"dev reward {self.dev_reward:.3f}, {verdict} the starting agent's {self.start_reward:.3f}"


def home(run: Workbench, agent: str) -> Path:
    """Where an agent's model is: `sft`, `eto-1`, ..."""
    stage = agent.replace("eto-", "dpo-")
    return run.stage_directory(stage) / "model"


def clone(
    policy: Learner,
    cloned: Sequence[Trajectory],
    settings: SftSettings,
    run: Workbench,
    on_step: OnStep | None = None,
) -> None:
    """Stage `sft`: behavioural cloning; `policy` becomes the cloned agent."""

    def make(directory: Path) -> None:
        sft(
            policy,
            cloned,
            settings,
            directory=directory,
            **_of_the_run(run),
            on_start=_starter("sft", on_step),
            on_step=_logger(run, "sft", on_step),
        )
        _save(policy, directory)
        policy.reload(directory / "model")

    run.stage("sft", make, load=lambda directory: policy.reload(directory / "model"))
    shutil.rmtree(run.stage_directory("sft") / "state", ignore_errors=True)
    policy.name = "sft"


def contrast(
    policy: Learner,
    expert: Sequence[Trajectory],
    explored: Sequence[Trajectory],
    settings: EtoSettings,
    run: Workbench,
    iteration: int,
) -> tuple[list[Pair], LeftOut]:
    """Stage `contrast-<iteration>`: the pairs that have something to contrast within the policy's context,
    and the others by reason. Raises `InputError` where that leaves the first round without any."""
    found: list[ContrastResult] = []

    def make(directory: Path) -> tuple[list[Pair], LeftOut]:
        found.append(contrast_result(expert, explored, settings.contrast, seed=run.recipe.seed))
        kept, left_out = contrasted(policy, found[0].pairs, settings.contrast, settings.dpo)
        if left_out and not kept and iteration == 1:
            raise no_pairs_left(left_out, policy.max_context)
        pairs = [pair for pair, _ in kept]
        write_pairs(directory / "pairs.jsonl", pairs)
        write_json(directory / "left_out.json", left_out)
        return pairs, left_out

    def load(directory: Path) -> tuple[list[Pair], LeftOut]:
        path, counts = directory / "pairs.jsonl", directory / "left_out.json"
        left_out = read_json(counts) if counts.exists() else {}
        return (read_pairs(path) if path.stat().st_size else []), left_out

    def metrics(made: tuple[list[Pair], LeftOut]) -> dict[str, Any]:
        counts = {reason: len(ids) for reason, ids in made[1].items()}
        return {"pairs": len(made[0]), "left_out": counts, "summary": asdict(found[0].summary)}

    return run.stage(f"contrast-{iteration}", make, load=load, metrics=metrics)


def optimise(
    policy: Learner,
    pairs: Sequence[Pair],
    expert: Sequence[Trajectory],
    start_reward: float,
    dev_reward: DevReward,
    settings: EtoSettings,
    run: Workbench,
    iteration: int,
    on_step: OnStep | None = None,
) -> Round:
    """Stage `dpo-<iteration>`; `policy` becomes its best epoch on dev, better than before or not."""
    stage, agent = f"dpo-{iteration}", f"eto-{iteration}"
    paired = {pair.task.id for pair in pairs}

    def make(directory: Path) -> Round:
        checks = _Checks(policy, directory, stage, start_reward, dev_reward, settings)
        result = dpo(
            policy,
            pairs,
            settings.dpo,
            contrast=settings.contrast,
            rehearsal=[t for t in expert if t.task.id not in paired]
            if settings.dpo.rehearsal_weight
            else None,
            guard=settings.guard,
            directory=directory,
            **_of_the_run(run),
            on_start=_starter(stage, on_step),
            on_step=_logger(run, stage, on_step),
            on_epoch=checks,
        )
        if not checks.made:  # the guard ended training before the only check
            checks.measure(settings.dpo.epochs)
        epoch, reward = checks.best()
        ships = reward > start_reward or not settings.guard.ship_only_if_better
        done = Round(agent, len(pairs), result.fired, epoch, reward, start_reward, ships)
        write_json(directory / "round.json", asdict(done))
        return load(directory)

    def load(directory: Path) -> Round:
        policy.reload(directory / "model")
        names = [field.name for field in fields(Round)]
        noted = read_object(directory / "round.json", *names)
        return Round(**{name: noted[name] for name in names})

    def metrics(done: Round) -> dict[str, Any]:
        return {
            "guard": done.fired,
            "best_epoch": done.best_epoch,
            "dev_reward": done.dev_reward,
            "start_reward": done.start_reward,
        }

    done = run.stage(stage, make, load=load, metrics=metrics)
    shutil.rmtree(run.stage_directory(stage) / "state", ignore_errors=True)
    policy.name = agent
    return done


class _Checks:
    """After an epoch: dev reward; keeps the best checkpoint, says when patience is at its end."""

    def __init__(
        self,
        policy: Learner,
        directory: Path,
        stage: str,
        start_reward: float,
        dev_reward: DevReward,
        settings: EtoSettings,
    ) -> None:
        self.policy, self.directory, self.stage = policy, directory, stage
        self.start_reward, self.dev_reward, self.settings = start_reward, dev_reward, settings
        self._path = directory / "checks.json"

    def __call__(self, epoch: int) -> bool:
        if not self.settings.guard.dev_every_epoch and epoch < self.settings.dpo.epochs:
            return False
        return self.measure(epoch)

    def measure(self, epoch: int) -> bool:
        """Play dev with the weights as they are; True when patience is at its end."""
        earlier = self._seen()
        earlier.pop(epoch, None)
        reward = self.dev_reward(self.policy, f"{self.stage}/epoch-{epoch}")
        if reward > max(earlier.values(), default=float("-inf")):
            _save(self.policy, self.directory)
        seen = {**earlier, epoch: reward}
        write_json(self._path, {str(e): r for e, r in seen.items()})
        patience = self.settings.guard.patience
        best_epoch = max([0, *seen], key=lambda e: (self.start_reward if e == 0 else seen[e], -e))
        return patience is not None and epoch - best_epoch >= patience

    @property
    def made(self) -> bool:
        return bool(self._seen())

    def best(self) -> tuple[int, float]:
        """(epoch, dev reward) of the checkpoint kept; the earlier of equals."""
        seen = self._seen()
        epoch = max(seen, key=lambda e: (seen[e], -e))
        return epoch, seen[epoch]

    def _seen(self) -> dict[int, float]:
        if not self._path.exists():
            return {}
        noted = read_object(self._path)
        if not all(e.isdecimal() and isinstance(r, int | float) for e, r in noted.items()):
            mend = "restore it from a copy, or delete the stage's directory to train it anew"
            raise InputError("is no record of dev checks", where=str(self._path), mend=mend)
        return {int(epoch): reward for epoch, reward in noted.items()}


def _save(policy: Learner, directory: Path) -> None:
    with atomic_directory(directory / "model") as fresh:
        policy.save(fresh)


def _of_the_run(run: Workbench) -> dict[str, Any]:
    recipe = run.recipe
    return {
        "seed": recipe.seed,
        "checkpoint_seconds": float(recipe.checkpoint_seconds),
        "activation_checkpointing": recipe.model.activation_checkpointing,
    }


def _starter(stage: str, on_step: OnStep | None) -> Callable[[dict[str, float]], object] | None:
    return None if on_step is None else lambda figures: on_step(stage, figures)


def _logger(run: Workbench, stage: str, on_step: OnStep | None) -> Callable[[dict[str, float]], None]:
    def log(figures: dict[str, float]) -> None:
        run.log(stage, **figures)
        if on_step is not None:
            on_step(stage, figures)

    return log
