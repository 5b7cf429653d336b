"""The run directory: locks, stages, metrics and resume, with real processes and real files."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from eto.data.files import write_atomic
from eto.errors import InputError, MissingRequirement, RunConflict
from eto.experiment.recipe import load_recipe, parse_recipe
from eto.experiment.run import Run, split_hash
from eto.experiment.run_records import check_template
from eto.types import Message, Phase, StopReason, Task, Trajectory, Turn

SMALL = "name: small\nenvironment:\n  name: toy\n"
RECIPE = parse_recipe(SMALL)

HOLD = """
import sys, time
from eto.experiment.recipe import parse_recipe
from eto.experiment import stage as module
from eto.experiment.run import Run
module.SECONDS_BETWEEN_NOTES = 0.05
run = Run.open(sys.argv[1], parse_recipe(sys.argv[2]))
"""


@pytest.fixture
def process(tmp_path):
    """Start Python on HOLD and more code; returns it once it has printed a line."""
    started = []

    def start(code):
        command = [sys.executable, "-c", HOLD + code, str(tmp_path / "run"), SMALL]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(child)
        child.line = child.stdout.readline().strip()
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()
        child.stdout.close()


def test_a_run_keeps_its_chat_template(tmp_path):
    facts = {"fingerprint": "ab", "thoughts": "auto", "date": None}
    for _ in range(2):
        with Run.open(tmp_path / "run", RECIPE) as run:
            check_template(run.manifest, facts, run.directory)
            run.add_to_manifest(chat_template=facts)
    with (
        Run.open(tmp_path / "run", RECIPE) as run,
        pytest.raises(RunConflict, match="fingerprint: ab -> cd"),
    ):
        check_template(run.manifest, {**facts, "fingerprint": "cd"}, run.directory)


def test_a_stage_is_made_once_and_found_after(tmp_path):
    with Run.open(tmp_path / "run", RECIPE) as run:
        assert run.done("sft") is None
        with run.stage("sft") as stage:
            assert not stage.done
            (stage.directory / "weights").write_text("42")
            stage.note(loss=21.0)
            stage.note(steps=3)
            stage.played(Phase.parse("evaluate/sft/dev"))
            stage.played(Phase.parse("evaluate/sft/dev"))
            stage.makes("sft")
    with Run.open(tmp_path / "run", RECIPE) as run:
        with run.stage("sft") as stage:
            assert stage.done and (stage.directory / "weights").read_text() == "42"
            assert stage.metrics == {"loss": 21.0, "steps": 3}
            stage.note(loss=0.0)
        done = run.done("sft")
    assert done["metrics"] == {"loss": 21.0, "steps": 3} and done["stage"] == "sft" and done["seconds"] >= 0
    assert done["phases"] == ["evaluate/sft/dev"] and done["agent"] == "sft"


def test_a_value_returned_from_within_a_stage_ends_it_well(tmp_path):
    def made(run):
        with run.stage("sft") as stage:
            return stage.done

    with Run.open(tmp_path / "run", RECIPE) as run:
        assert made(run) is False and made(run) is True


def test_a_stage_that_raised_is_not_done_and_finds_its_files(tmp_path):
    with Run.open(tmp_path / "run", RECIPE) as run:
        with pytest.raises(KeyError), run.stage("a/b") as stage:
            (stage.directory / "checkpoint").write_text("half")
            raise KeyError("broken")
        assert run.done("a/b") is None
        with run.stage("a/b") as stage:
            assert not stage.done and (stage.directory / "checkpoint").read_text() == "half"


@pytest.mark.parametrize("name", ["", "/etc", "../out", "a//b", ".hidden"])
def test_stage_names_stay_inside(tmp_path, name):
    with Run.open(tmp_path / "run", RECIPE) as run, pytest.raises(ValueError, match="stage name"):
        run.stage_directory(name)


def test_seconds_of_a_killed_attempt_count(tmp_path, process):
    child = process("with run.stage('sft'):\n    print('in', flush=True)\n    time.sleep(60)")
    seconds = tmp_path / "run" / "stages" / "sft" / "seconds"
    deadline = time.monotonic() + 10
    while not (seconds.exists() and float(seconds.read_text()) >= 0.3):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.kill()
    child.wait()
    with Run.open(tmp_path / "run", RECIPE) as run:
        assert run.done("sft") is None
        with run.stage("sft"):
            pass
        assert 0.3 <= run.done("sft")["seconds"] < 11


def test_a_directory_in_use_is_refused_and_freed_by_a_kill(tmp_path, process):
    child = process("print('open', flush=True); time.sleep(60)")
    with pytest.raises(RunConflict, match=f"in use by pid {child.pid} "):
        Run.open(tmp_path / "run", RECIPE)
    child.kill()
    child.wait()
    Run.open(tmp_path / "run", RECIPE).close()


def test_a_forked_worker_does_not_keep_the_lock(tmp_path, process):
    child = process(
        """
import os
ready, tell = os.pipe()
worker = os.fork()
if worker:
    os.read(ready, 1)
    print(worker, flush=True)
else:
    os.write(tell, b"x")
time.sleep(60)
"""
    )
    child.kill()
    child.wait()
    try:
        Run.open(tmp_path / "run", RECIPE).close()
    finally:
        os.kill(int(child.line), signal.SIGKILL)


def test_the_same_process_cannot_open_twice_but_can_reopen(tmp_path):
    with Run.open(tmp_path / "run", RECIPE) as run:
        with pytest.raises(RunConflict, match=f"pid {os.getpid()}"):
            Run.open(tmp_path / "run", RECIPE)
        run.close()
    Run.open(tmp_path / "run", RECIPE).close()


def test_another_recipe_is_refused_with_the_difference(tmp_path):
    Run.open(tmp_path / "run", RECIPE).close()
    other = parse_recipe(SMALL, ["method.sft.epochs=9", "seed=4"])
    with pytest.raises(RunConflict) as caught:
        Run.open(tmp_path / "run", other)
    assert "method.sft.epochs: 3 -> 9" in caught.value.problem and "seed: 0 -> 4" in caught.value.problem
    assert "another directory" in caught.value.hint
    Run.open(tmp_path / "run", RECIPE).close()  # the refusal let go of the lock


def test_fields_that_change_no_result_may_change(tmp_path):
    Run.open(tmp_path / "run", RECIPE).close()
    other = parse_recipe(SMALL, ["environment.workers=7", "checkpoint_seconds=5"])
    with Run.open(tmp_path / "run", other) as run:
        assert run.notes == ["checkpoint_seconds: 120 -> 5", "environment.workers: 2 -> 7"]
        assert [start["changed"] for start in run.manifest["starts"]] == [[], run.notes]
    assert load_recipe(tmp_path / "run" / "recipe.yaml") == RECIPE


def test_manifest_says_what_and_where(tmp_path):
    with Run.open(tmp_path / "run", RECIPE) as run:
        manifest = run.manifest
    assert {"created", "versions", "platform", "cpus", "memory_gb", "seeds", "starts"} <= manifest.keys()
    assert manifest["versions"].keys() >= {"python", "torch", "transformers"}
    assert manifest["starts"][0]["command"] == sys.argv


def test_new_versions_are_noted(tmp_path):
    Run.open(tmp_path / "run", RECIPE).close()
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(manifest))
    with Run.open(tmp_path / "run", RECIPE) as run:
        assert len(run.notes) == 1 and run.notes[0].startswith("versions.torch: 1.0 -> ")


def test_changed_splits_are_refused(tmp_path):
    with Run.open(tmp_path / "run", RECIPE) as run:
        run.record_splits({"train": ["b", "a"], "test": ["c"]})
        run.record_splits({"train": ["a", "b"]})
        assert run.manifest["splits"]["train"] == {"tasks": 2, "sha256": split_hash(["a", "b"])}
        with pytest.raises(RunConflict, match=r"train: 2 tasks .* -> 1 tasks"):
            run.record_splits({"train": ["a"]})
        assert set(run.manifest["splits"]) == {"train", "test"}


def test_split_hash_tells_ids_apart():
    assert split_hash(["a", "b"]) == split_hash(["b", "a"]) != split_hash(["ab"])


def test_a_half_written_line_is_cut_and_logged_again(tmp_path):
    with Run.open(tmp_path / "run", RECIPE) as run:
        run.log("sft", step=1, loss=1.0)
        run.log("sft", step=2, loss=0.5)
    path = tmp_path / "run" / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    with Run.open(tmp_path / "run", RECIPE) as run:
        assert [row["step"] for row in run.logged("sft")] == [1]
        run.log("sft", step=1, loss=9.0)
        run.log("sft", step=2, loss=0.5)
        assert run.logged("sft") == [
            {"stage": "sft", "step": 1, "loss": 1.0},
            {"stage": "sft", "step": 2, "loss": 0.5},
        ]


def test_rows_differ_by_stage_and_agent(tmp_path):
    with Run.open(tmp_path / "run", RECIPE) as run:
        for agent in ("sft", "dpo-1/epoch-1", "sft"):
            run.log("dev", agent=agent, step=0, reward=0.5)
        run.log("sft", step=0, loss=float("nan"))
        run.log("note", text="a")
        run.log("note", text="a")
        assert [row["agent"] for row in run.logged("dev")] == ["sft", "dpo-1/epoch-1"]
        assert run.logged("sft")[0]["loss"] is None
        assert len(run.logged()) == 5


def test_a_damaged_line_names_its_number(tmp_path):
    with Run.open(tmp_path / "run", RECIPE) as run:
        run.log("sft", step=1)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl:2"):
        Run.open(tmp_path / "run", RECIPE)


def test_the_store_outlives_the_run(tmp_path):
    task = Task("toy/k/1", "toy", "k", "train")
    episode = Trajectory(
        task, (Message("user", "go"),), (Turn("a", "b"),), 1.0, True, StopReason.TERMINATED, "sft"
    )
    with Run.open(tmp_path / "run", RECIPE) as run:
        run.store.add(Phase.parse("explore/1"), episode)
    with Run.open(tmp_path / "run", RECIPE) as run:
        assert run.store.get(Phase.parse("explore/1")) == [episode]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="cannot write here"):
            Run.open(directory, RECIPE)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk(tmp_path):
    with Run.open(tmp_path / "run", RECIPE) as run:
        (tmp_path / "run" / "metrics.jsonl").symlink_to("/dev/full")
        with pytest.raises(MissingRequirement, match="free disk space"):
            run.log("sft", step=1)
        with pytest.raises(MissingRequirement), run.stage("sft"), open("/dev/full", "w") as file:
            file.write("x")


def test_a_stages_own_file_errors_are_not_blamed_on_the_run_directory(tmp_path):
    with (
        Run.open(tmp_path / "run", RECIPE) as run,
        pytest.raises(FileNotFoundError),
        run.stage("sft") as stage,
    ):
        (stage.directory / "missing" / "x").read_text()


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "new \ud800")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


DEEP = "[" * 100_000
DAMAGE = ["", "{", "[]", "null", DEEP, '{"a": ' + "9" * 5000 + "}", "{}", b"\xff\xfe"]


@pytest.mark.parametrize("content", DAMAGE, ids=range(len(DAMAGE)))
@pytest.mark.parametrize("name", ["manifest.json", "stages/sft/DONE", "recipe.yaml", "stages/sft/seconds"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    with Run.open(tmp_path / "run", RECIPE) as run, run.stage("sft"):
        pass
    path = tmp_path / "run" / name
    if name.endswith("seconds"):
        (path.parent / "DONE").unlink()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((InputError, RunConflict), match=path.name if name != "recipe.yaml" else "run"):  # noqa: SIM117
        with Run.open(tmp_path / "run", RECIPE) as run:
            with run.stage("sft"):
                pass
            _ = run.manifest


def test_a_run_does_not_write_between_the_files_of_others(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: mine\n")
    with pytest.raises(RunConflict, match=r"holds files and no run: recipe\.yaml"):
        Run.open(tmp_path, RECIPE)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_names_that_the_file_system_refuses(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for place in (tmp_path / ("n" * 300), tmp_path / "loop" / "run"):
        with pytest.raises(InputError, match="cannot write here"):
            Run.open(place, RECIPE)


@pytest.mark.parametrize("content", ["", "[]", '{"one": 0.5}', '{"1": "high"}', DEEP])
def test_damaged_dev_checks_are_named(tmp_path, content):
    from eto.experiment.stage import OpenStage
    from eto.steps.selecting import Checks

    (tmp_path / "checks.json").write_text(content)
    checks = Checks(None, OpenStage("dpo-1", tmp_path, False), 0.0)
    with pytest.raises(InputError, match=r"checks\.json"):
        _ = checks.rewards
