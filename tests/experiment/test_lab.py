"""What a method sees of a run."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest

from eto.errors import InputError
from eto.experiment import lab as lab_module
from eto.experiment.lab import Lab
from eto.experiment.recipe import parse_recipe
from eto.experiment.run import Run
from eto.experiment.watch import Silent
from eto.protocols import Agent
from eto.types import StopReason, Task, Trajectory, Turn


class Model:
    """In a circle, as modules are: counting of references alone does not free it."""

    def __init__(self) -> None:
        self.self = self


def test_a_lab_that_begins_again_holds_one_model_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = parse_recipe("name: a\nenvironment: {name: b}\n")
    first = Model()
    earlier = weakref.ref(first)

    def load(_: object) -> Model:
        assert earlier() is None, "the earlier model is still there while the next is loaded"
        return Model()

    monkeypatch.setattr(lab_module, "policy_of", load)
    with Run.open(tmp_path / "run", recipe) as run:
        lab = Lab(recipe, run, None, {}, [], first, None, Silent(), current=Agent("nat", tmp_path))
        del first
        lab.begin_again()
        assert isinstance(lab.learner, Model) and lab.current is None


def test_experts_of_which_none_is_left_to_clone_are_an_error(tmp_path: Path) -> None:
    recipe = parse_recipe("{name: a, environment: {name: b}, tasks: {explore_unseen: 0.9}}")
    task = Task("b/1", "b", "any", "train")
    expert = Trajectory(task, (), (Turn("go", "", 1.0),), 1.0, True, StopReason.TERMINATED, "expert")
    with Run.open(tmp_path / "run", recipe) as run:
        lab = Lab(recipe, run, None, {}, [expert], Model(), None, Silent())
        with pytest.raises(InputError, match=r"0\.9 leaves none of the 1 experts") as caught:
            _ = lab.cloned
        assert caught.value.where == "tasks.explore_unseen" and "lower it" in caught.value.hint
        lab.experts = []
        assert lab.cloned == [], "who has none clones none"
