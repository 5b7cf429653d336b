"""A run that begins with the finished stages of another; the runs are made here, without a model."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from eto.data.store import TrajectoryStore
from eto.errors import InputError, RunConflict
from eto.evaluation import build_results, markdown
from eto.experiment import fork as reuse
from eto.experiment.fork import FIRST_STAGE, first_stage, fork_stages, forkable_stages
from eto.experiment.recipe import Recipe, free_fields, parse_recipe
from eto.experiment.run import Run
from eto.methods import METHODS, load_method
from eto.methods.eto import EtoSettings
from eto.protocols import Method, Stage
from eto.types import Message, Phase, StopReason, Task, Trajectory, Turn

ROUNDS = [f"{step}-{number}" for number in (1, 2) for step in ("explore", "contrast", "dpo")]
STAGES = ["expert", "sft", "dev-sft", *ROUNDS, "test"]
PHASES = {
    "expert": ["expert"],
    "dev-sft": ["evaluate/sft/dev"],
    "explore-1": ["explore/1"],
    "dpo-1": ["evaluate/dpo-1/epoch-1/dev", "evaluate/dpo-1/epoch-2/dev"],
    "explore-2": ["explore/2"],
    "dpo-2": ["evaluate/dpo-2/epoch-1/dev"],
    "test": ["evaluate/sft/test", "evaluate/eto-1/test"],
}
TRAIN, DEV, TEST = ["toy/a", "toy/b"], ["toy/c"], ["toy/d"]
SPLITS = {"train": TRAIN, "dev": DEV, "test": TEST}


def recipe(tmp_path: Path, name: str = "new", *overrides: str) -> Recipe:
    text = f"name: {name}\nrun_directory: {tmp_path / name}\nenvironment: {{name: toy}}\n"
    return parse_recipe(text, overrides)


def episode(task: str, *, failed: bool = False) -> Trajectory:
    turns = () if failed else (Turn("look", "seen", 0.5, (1, 2)),)
    stop = StopReason.ENVIRONMENT_FAILED if failed else StopReason.OUT_OF_TURNS
    prompt, tokenizer = (Message("user", "Do it."),), None if failed else "tok"
    task_of = Task(task, "toy", "kind", "train")
    return Trajectory(task_of, prompt, turns, 0.5 if turns else 0.0, None, stop, "sft", tokenizer=tokenizer)


def finish(run: Run, stage: str) -> None:
    """What a real stage leaves behind, with a file of resumption beside it."""

    with run.stage(stage) as made:
        for phase in map(Phase.parse, PHASES.get(stage, ())):
            run.store.add(phase, episode("toy/a"))
            run.store.add(phase, episode("toy/b", failed=True))
            if phase.split == "dev":
                run.log("dev", agent=phase.name, step=0, reward=0.5)
        if stage == "sft" or stage.startswith("dpo"):
            for step in (1, 2):
                run.log(stage, step=step, loss=1 / step)
            for name in ("model", "state"):
                (made.directory / name).mkdir()
                (made.directory / name / "weights").write_text(f"{stage} of {run.recipe.name}")
        (made.directory / "made").write_text(run.recipe.name)
        made.note(reward=0.5)


def texts(store: TrajectoryStore) -> list[str]:
    return [phase.text for phase in store.phases()]


Make = Callable[..., Path]


@pytest.fixture
def source(tmp_path: Path) -> Make:
    def make(*overrides: str, stages: Sequence[str] = STAGES, splits: dict = SPLITS) -> Path:
        with Run.open(tmp_path / "old", recipe(tmp_path, "old", *overrides)) as run:
            run.record_splits(splits)
            for stage in stages:
                finish(run, stage)
        return tmp_path / "old"

    return make


@pytest.fixture
def start(tmp_path: Path):
    """Open the new run of a recipe with overrides."""

    def make(*overrides: str, splits: dict = SPLITS) -> Run:
        run = Run.open(tmp_path / "new", recipe(tmp_path, "new", *overrides))
        opened.append(run)
        run.record_splits(splits)
        return run

    opened: list[Run] = []
    yield make
    for run in opened:
        run.close()


def content(directory: Path) -> dict[str, Any]:
    """Everything a run knows, except for its starts."""
    with TrajectoryStore(directory / "trajectories.sqlite", read_only=True) as store:
        episodes = {phase: (store.get(phase), store.failures(phase)) for phase in store.phases()}
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest.pop("starts")
    files = {str(path): path.stat().st_ino for path in (directory / "stages").rglob("*") if path.is_file()}
    return {"episodes": episodes, "metrics": (directory / "metrics.jsonl").read_text()} | manifest | files


# Which stages.


def test_every_field_of_a_recipe_has_a_rule() -> None:
    known = parse_recipe("name: x\nenvironment: {name: x}\nmodel: {lora: {}}\n")
    values, free = known.model_dump(), free_fields(known)
    del values["method"]

    def leaves(values: dict, path: str = "") -> list[str]:
        found = []
        for name, value in values.items():
            found += leaves(value, f"{path}{name}.") if value and isinstance(value, dict) else [path + name]
        return found

    fields = leaves(values)
    assert {"tasks.explore_unseen", "model.lora.rank", "environment.options"} <= set(fields)
    sections = {field: {field, field.split(".")[0], ".".join(field.split(".")[:2])} for field in fields}
    assert [f for f in fields if f not in free and not sections[f] & set(FIRST_STAGE)] == []
    assert set(FIRST_STAGE) - {"method"} <= {place for places in sections.values() for place in places}


@pytest.mark.parametrize("name", ["eto", "ipr", "nat", "practice", "rft", "sft"])
def test_a_method_declares_what_each_of_its_settings_decides(name: str) -> None:
    method = load_method(name)
    settings = method.settings(**({"iterations": 2} if "iterations" in method.extent else {}))
    stages = method.stages(settings)
    declared = {setting.split(".")[0] for stage in stages for setting in stage.settings}
    assert declared | {"name", *method.extent} == set(method.settings.model_fields)
    assert len({stage.name for stage in stages}) == len(stages)
    assert stages[0].agent == "sft" and "test" not in {stage.name for stage in stages}


@pytest.mark.parametrize(
    ("method", "field", "stage"),
    [
        ("name: eto", "accumulate", "dpo-2"),
        ("name: eto, iterations: 1", "accumulate", "test"),
        ("name: ipr", "accumulate", "dpo-2"),
        ("name: ipr, iterations: 1", "accumulate", "test"),
        ("name: practice, iterations: 2", "accumulate", "dpo-2"),
        ("name: practice", "accumulate", "test"),
        ("name: practice", "fresh_pairs", "contrast-1"),
        ("name: practice, fresh_pairs: true", "fresh_pairs", "explore-2"),
        ("name: practice", "dpo", "dpo-1"),
        ("name: practice, dpo: null", "dpo", "test"),
        ("name: practice, dpo: null, iterations: 2", "dpo", "explore-2"),
        ("name: practice, dpo: null, iterations: 2", "contrast.per_task", "test"),
        ("name: practice, dpo: null, iterations: 2", "guard", "test"),
    ],
)
def test_what_decides_pairs_of_rounds(method: str, field: str, stage: str) -> None:
    known = parse_recipe(f"name: x\nenvironment: {{name: x}}\nmethod: {{{method}}}\n")
    assert first_stage(f"method.{field}", known) == stage


@pytest.mark.parametrize(
    ("override", "last"),
    [
        ("model.dtype=float32", "expert"),
        ("model.lora.rank=4", "expert"),
        ("method.sft.max_grad_norm=9", "expert"),
        ("tasks.explore_unseen=0.5", "expert"),
        ("rollout.slots=3", "sft"),
        ("rollout.max_action_tokens=8", "sft"),
        ("tasks.dev_per_kind=1", "sft"),
        ("method.contrast.turns=from_divergence", "explore-1"),
        ("method.dpo.rehearsal_weight=1", "contrast-1"),
        ("method.guard.patience=1", "contrast-1"),
        ("method.iterations=1", "dpo-1"),
        ("method.iterations=3", "dpo-2"),
        ("tasks.test_per_kind=1", "dpo-2"),
        ("checkpoint_seconds=7", "dpo-2"),
        ("environment.workers=7", "dpo-2"),
    ],
)
def test_stages_before_the_first_that_a_differing_field_decides(
    tmp_path: Path, source: Make, override: str, last: str
) -> None:
    stages = forkable_stages(source(), recipe(tmp_path, "new", override))
    assert stages == STAGES[: STAGES.index(last) + 1]


def test_the_earliest_of_several_fields_counts(tmp_path: Path, source: Make) -> None:
    changed = recipe(
        tmp_path, "new", "method.dpo.beta=1", "method.explore.temperature=1", "method.guard.patience=1"
    )
    assert forkable_stages(source(), changed) == ["expert", "sft", "dev-sft"]


def test_a_field_of_another_version_decides_all() -> None:
    known = parse_recipe("name: x\nenvironment: {name: x}\n")
    assert first_stage("method.sft.gone", known) == first_stage("method.gone", known) == "sft"
    assert first_stage("gone", known) == first_stage("explore.gone", known) == "expert"


def test_another_method_takes_what_comes_before_it(tmp_path: Path, source: Make) -> None:
    old, ours = source(), load_method("eto").settings().explore
    explore = f"explore: {{samples: {ours.samples}, temperature: {ours.temperature}}}"

    def taken(method: str, *overrides: str) -> list[str]:
        return forkable_stages(old, recipe(tmp_path, "new", f"method={{{method}}}", *overrides))

    alike = ["expert", "sft", "dev-sft", "explore-1"]
    assert taken(f"name: rft, {explore}") == alike
    assert taken("name: rft") == alike[:3], "other episodes"
    assert taken(f"name: rft, {explore}, sft: {{epochs: 9}}") == alike[:1]
    assert taken(f"name: rft, {explore}", "rollout.slots=3") == alike[:2]
    assert taken("name: best_of_n") == taken("name: early_experience") == taken("name: sft") == alike[:3]


@pytest.mark.parametrize("ours", ["name: practice, dpo: null", "name: practice"])
def test_practice_with_pairs_and_without_are_alike_up_to_them(
    tmp_path: Path, source: Make, ours: str
) -> None:
    theirs = "name: practice" if "null" in ours else "name: practice, dpo: null"
    alike = ["expert", "sft", "dev-sft", "explore-1", "rft-1", "dev-rft-1"]
    old = source(
        f"method={{{theirs}}}", stages=[*alike, "contrast-1", "dpo-1"][: None if "null" in ours else 6]
    )
    assert forkable_stages(old, recipe(tmp_path, "new", f"method={{{ours}}}")) == alike


def test_pairs_of_another_method_are_never_taken(tmp_path: Path, source: Make) -> None:
    """A stage of one name and the same settings may rest on other data."""
    contrasting = [Stage.clone("sft", "sft"), Stage.contrast(1, "contrast")]
    with foreign_method("other", contrasting, EtoSettings):
        made = source("method={name: other}", stages=["expert", "sft", "contrast-1"])
        assert forkable_stages(made, recipe(tmp_path, "new", "method={name: other}"))[-1] == "contrast-1"
        with foreign_method("third", contrasting, EtoSettings):
            third = recipe(tmp_path, "new", "method={name: third}")
            assert forkable_stages(made, third) == ["expert", "sft"]


def test_a_setting_that_no_stage_declares_decides_all(tmp_path: Path, source: Make) -> None:
    with foreign_method("other", [Stage.clone("sft", "sft"), Stage.dev("sft")], EtoSettings):
        old = source()
        assert forkable_stages(old, recipe(tmp_path, "new", "method={name: other}"))[-1] == "dev-sft"
        undeclared = recipe(tmp_path, "new", "method={name: other, contrast: {min_gap: 0.7}}")
        assert forkable_stages(old, undeclared) == ["expert"]
        shutil.rmtree(old)
        old = source("method={name: other}", stages=["expert", "sft", "dev-sft"])
        assert forkable_stages(old, undeclared) == ["expert"]


def test_all_methods_share_no_more_than_what_is_common() -> None:
    for name in METHODS:
        method = load_method(name)
        shared = [stage.name for stage in method.stages(method.settings()) if stage.common]
        assert shared[:2] == ["sft", "dev-sft"], name


@contextmanager
def foreign_method(name: str, stages: Sequence[Stage], base: type) -> Iterator[None]:
    """A method of another package, with the settings of `base`."""
    settings = type("Other", (base,), {"__annotations__": {"name": Literal[name]}, "name": name})
    METHODS[name] = Method(name, "", settings, lambda lab, settings: None, lambda settings: stages)
    try:
        yield
    finally:
        del METHODS[name]


@pytest.mark.parametrize(
    ("field", "stage"),
    [
        ("method.least_reward", "rft"),
        ("method.explore.samples", "explore-1"),
        ("method.sft.epochs", "sft"),
        ("tasks.dev_per_kind", "dev-sft"),
        ("rollout.slots", "dev-sft"),
        ("tasks.test_per_kind", "test"),
        ("name", None),
    ],
)
def test_the_stages_of_another_method(field: str, stage: str | None) -> None:
    known = parse_recipe("name: x\nenvironment: {name: x}\nmethod: {name: rft}\n")
    assert first_stage(field, known) == stage


@pytest.mark.parametrize(
    ("finished", "taken"),
    [
        (["expert", "sft", "explore-1"], ["expert", "sft"]),
        ([*STAGES[:6], "test"], STAGES[:6]),
        (["expert"], ["expert"]),
    ],
)
def test_finished_stages_without_a_gap(
    tmp_path: Path, source: Make, finished: list[str], taken: list[str]
) -> None:
    assert forkable_stages(source(stages=finished), recipe(tmp_path)) == taken


def test_a_stage_under_way_is_not_taken(tmp_path: Path, source: Make) -> None:
    old = source(stages=["expert", "sft"])
    (old / "stages" / "sft" / "DONE").unlink()
    assert forkable_stages(old, recipe(tmp_path)) == ["expert"]


def test_without_dev_tasks_no_dev_check_is_missed(source: Make, start) -> None:
    same = [
        "tasks.dev_per_kind=0",
        "method.guard.dev_every_epoch=false",
        "method.guard.ship_only_if_better=false",
    ]
    splits = {**SPLITS, "dev": []}
    stages = ["expert", "sft", "explore-1", "contrast-1"]
    assert fork_stages(source(*same, stages=stages, splits=splits), start(*same, splits=splits)) == stages


def test_a_dev_check_on_other_tasks_is_not_taken(source: Make, start) -> None:
    assert fork_stages(source(), start(splits={**SPLITS, "dev": ["toy/x"]})) == ["expert", "sft"]


# Taking them.


def test_a_run_goes_on_from_what_it_took(tmp_path: Path, source: Make, start) -> None:
    old, run = source(), start("method.contrast.min_gap=0.1")
    before = content(old)
    taken = fork_stages(old, run)
    assert taken == ["expert", "sft", "dev-sft", "explore-1"]

    for name in taken:
        with run.stage(name) as stage:
            assert stage.done and (stage.directory / "made").read_text() == "old"
    assert run.done("sft") == json.loads((old / "stages" / "sft" / "DONE").read_text())
    finish(run, "contrast-1")
    assert (run.directory / "stages" / "contrast-1" / "made").read_text() == "new"
    run.close()
    assert content(old) == before
    results = build_results(run.directory)
    assert [s["stage"] for s in results["stages"]] == [*taken, "contrast-1"]
    assert f"`{old}`, with their times: expert, sft, dev-sft, explore-1." in markdown(results)


def test_episodes_failed_ones_included_and_metrics_come_along(source: Make, start) -> None:
    run = start("method.iterations=1")
    fork_stages(source(), run)
    dpo = PHASES["dpo-1"]
    assert texts(run.store) == sorted(["expert", "explore/1", "evaluate/sft/dev", *dpo])
    for phase in run.store.phases():
        assert run.store.get(phase) == [episode("toy/a")]
        assert run.store.failures(phase) == [episode("toy/b", failed=True)]
    rows = [(row["stage"], row.get("agent"), row["step"]) for row in run.logged()]
    trained = [(stage, None, step) for stage in ("sft", "dpo-1") for step in (1, 2)]
    measured = [("dev", agent, 0) for agent in ("sft", "dpo-1/epoch-1", "dpo-1/epoch-2")]
    assert sorted(rows, key=str) == sorted(trained + measured, key=str)


def test_the_manifest_names_the_origin_and_keeps_the_rest(source: Make, start) -> None:
    run, old = start("method.sft.epochs=1"), source()
    manifest = json.loads((old / "manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    (old / "manifest.json").write_text(json.dumps(manifest))
    before = run.manifest
    fork_stages(old, run)
    origin = run.manifest["taken_from"]
    assert run.manifest == {**before, "taken_from": origin}
    assert (origin["directory"], origin["stages"]) == (str(old), ["expert"])
    assert origin["changed"][0].startswith("versions.torch: 1.0 -> ")


def test_a_second_call_changes_nothing(source: Make, start) -> None:
    old, run = source(), start()
    first = fork_stages(old, run)
    before = content(run.directory)
    assert fork_stages(old, run) == first
    run.close()
    again = start()
    assert fork_stages(old, again) == first
    assert content(again.directory) == before


def test_a_second_call_takes_what_was_finished_since(tmp_path: Path, source: Make, start) -> None:
    run = start()
    assert fork_stages(source(stages=["expert"]), run) == ["expert"]
    with Run.open(tmp_path / "old", recipe(tmp_path, "old")) as old:
        finish(old, "sft")
    assert fork_stages(tmp_path / "old", run) == ["expert", "sft"]
    assert run.manifest["taken_from"]["stages"] == ["expert", "sft"]


def test_files_are_shared_and_those_of_resumption_left_out(source: Make, start) -> None:
    old, run = source(), start()
    (old / "stages" / "sft" / ".made.1.2.tmp").write_text("half")
    fork_stages(old, run)
    directory = run.stage_directory("sft")
    assert {str(p.relative_to(directory)) for p in directory.rglob("*")} == {
        *("DONE", "made", "model", "model/weights")
    }
    for name in ("DONE", "made", "model/weights"):
        assert (directory / name).samefile(old / "stages" / "sft" / name)
    shutil.rmtree(old)
    assert (directory / "model" / "weights").read_text() == "sft of old"


def test_files_are_copied_where_links_are_refused(source: Make, start, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    old, run = source(), start()
    fork_stages(old, run)
    mine, theirs = (d / "stages" / "sft" / "model" / "weights" for d in (run.directory, old))
    assert mine.read_text() == theirs.read_text() and not mine.samefile(theirs)


@pytest.mark.parametrize("at", [1, 3, 4, 6])
def test_a_kill_in_the_middle_leaves_nothing_half(source: Make, start, monkeypatch, at: int) -> None:
    """The kill comes before the `at`-th file is linked; a stage is there as a whole or not at all."""
    old, run = source(), start()
    link, calls = reuse._link, []

    def dies(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == at:
            raise KeyboardInterrupt
        link(source, target)

    monkeypatch.setattr(reuse, "_link", dies)
    with pytest.raises(KeyboardInterrupt):
        fork_stages(old, run)
    stages = run.directory / "stages"
    assert all((path / "DONE").exists() for path in stages.iterdir())
    assert len(list(stages.iterdir())) == len(build_results(run.directory)["stages"]) < 4
    monkeypatch.setattr(reuse, "_link", link)
    run.close()
    again = start()
    assert fork_stages(old, again) == STAGES[:-1]
    assert list(again.directory.glob(".*.tmp")) == []
    keys = [(row["stage"], row.get("agent"), row["step"]) for row in again.logged()]
    assert len(keys) == len(set(keys))
    assert all(again.store.count(phase) == 1 for phase in again.store.phases())


def test_a_kill_before_the_rename_is_mended(source: Make, start, monkeypatch) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    old, run = source(), start()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("os.rename", dies)
        fork_stages(old, run)
    assert run.done("expert") is None
    assert fork_stages(old, run) == STAGES[:-1]


def test_a_stage_of_its_own_ends_the_taking(tmp_path: Path, source: Make, start) -> None:
    """The new run went on from `sft` by itself while the other had not come further."""
    run = start()
    fork_stages(source(stages=["expert", "sft"]), run)
    run.stage_directory("dev-sft").mkdir()
    with Run.open(tmp_path / "old", recipe(tmp_path, "old")) as old:
        finish(old, "dev-sft")
        finish(old, "explore-1")
    assert fork_stages(tmp_path / "old", run) == ["expert", "sft"]
    finish(run, "dev-sft")
    assert fork_stages(tmp_path / "old", run) == ["expert", "sft"]
    assert texts(run.store) == ["evaluate/sft/dev", "expert"]


# What is refused.


@pytest.mark.parametrize("begun", [True, False], ids=["under way", "done"])
def test_a_run_with_experts_of_its_own(source: Make, start, begun: bool) -> None:
    run = start()
    finish(run, "expert")
    if begun:
        (run.stage_directory("expert") / "DONE").unlink()
    with pytest.raises(RunConflict, match=r"(?s)new: the run has begun its stage 'expert'.*hint: .*name"):
        fork_stages(source(), run)
    assert "taken_from" not in run.manifest


@pytest.mark.parametrize("missing", ["recipe.yaml", "manifest.json", ""])
def test_no_run(tmp_path: Path, source: Make, missing: str) -> None:
    old = source()
    if missing:
        (old / missing).unlink()
    else:
        old = tmp_path / "nowhere"
    with pytest.raises(InputError, match=rf"(?s){old}: there is no run here.*hint: .*recipe.yaml"):
        forkable_stages(old, recipe(tmp_path))


def test_a_damaged_recipe(tmp_path: Path, source: Make) -> None:
    old = source()
    (old / "recipe.yaml").write_text("a: [")
    with pytest.raises(InputError, match=r"old/recipe.yaml:1: not valid YAML"):
        forkable_stages(old, recipe(tmp_path))


def test_the_run_itself(tmp_path: Path, source: Make) -> None:
    old, own = source(), recipe(tmp_path, "old")
    with pytest.raises(InputError, match="from itself"):
        forkable_stages(tmp_path / "." / "old", own)
    (tmp_path / "link").symlink_to(old)
    with Run.open(old, own) as run, pytest.raises(InputError, match="from itself"):
        fork_stages(tmp_path / "link", run)


def test_nothing_to_take_names_the_deciding_fields(tmp_path: Path, source: Make) -> None:
    changed = recipe(tmp_path, "new", "seed=3", "environment.options.kinds=[a]", "method.dpo.beta=1")
    with pytest.raises(RunConflict) as error:
        forkable_stages(source(), changed)
    lines = error.value.problem.split("\n  ")[1:]
    options = ["environment.options: {} -> (absent)", "environment.options.kinds: (absent) -> ['a']"]
    assert sorted(lines) == sorted([*options, "seed: 0 -> 3"])
    assert error.value.where.endswith("old/recipe.yaml") and "--from" in error.value.hint


def test_nothing_is_finished(tmp_path: Path, source: Make) -> None:
    with pytest.raises(InputError, match="no finished stage"):
        forkable_stages(source(stages=[]), recipe(tmp_path))


def test_other_training_tasks(source: Make, start) -> None:
    run = start(splits={**SPLITS, "train": ["toy/a"]})
    with pytest.raises(RunConflict, match=r"manifest.json: splits.train: .*: 2 tasks \w{12} -> 1 tasks"):
        fork_stages(source(), run)
    assert list((run.directory / "stages").iterdir()) == []


# The store.


def test_a_phase_is_copied_as_add_would(tmp_path: Path) -> None:
    failed = replace(episode("a", failed=True), detail="gone")
    with TrajectoryStore(tmp_path / "a.sqlite") as here, TrajectoryStore(tmp_path / "b.sqlite") as there:
        for task in ("a", "b"):
            there.add(Phase("p"), episode(task))
        there.add(Phase("p"), replace(failed, sample=1))
        there.add(Phase("other"), episode("a"))
        here.add(Phase("p"), failed)
        mine = replace(episode("b"), seed=9)
        here.add(Phase("p"), mine)
        for _ in range(2):
            here.copy(Phase("p"), there)
            assert here.get(Phase("p")) == [episode("a"), mine]
            assert here.failures(Phase("p")) == [replace(failed, sample=1)]
        assert texts(here) == ["p"]


# The command.


def test_a_wrong_source_is_told_before_anything_is_made(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from eto.cli import app

    file = tmp_path / "new.yaml"
    file.write_text(f"name: new\nrun_directory: {tmp_path / 'new'}\nenvironment: {{name: scienceworld}}\n")
    done = CliRunner().invoke(app, ["run", str(file), "seed=1", "--from", str(tmp_path / "nowhere")])
    assert isinstance(done.exception, InputError) and "no run here" in str(done.exception)
    assert not (tmp_path / "new").exists()
