"""The model loads beside the expert stage: early progress, late failures told, nothing left behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from coin_game import environment_of_child, save_model, write_recipe

from eto.cli.compose import read_recipe
from eto.experiment.loading import sure_to_load
from eto.experiment.run import Run
from eto.models import embedded


@pytest.fixture
def cached(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small model (512 tokens of context) in the cache, in the embedded one's place."""
    monkeypatch.setenv("ETO_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(model, embedded.model_path())
    embedded._write_manifest(folder)
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "recipe.yaml", "embedded", tmp_path / "run")


@pytest.mark.parametrize(
    ("override", "sure"),
    [
        ("model.path=embedded", True),
        ("model.max_context=512", True),
        ("model.max_context=513", False),
        ("model.lora={rank: 4}", True),
        ("model.lora={rank: 577}", False),
        ("model.lora={target_modules: [q_prj]}", False),
        ("model.path=./embedded", False),
    ],
)
def test_the_embedded_model_in_the_cache_need_not_be_tried(
    override: str, sure: bool, recipe: Path, cached: Path
) -> None:
    assert sure_to_load(read_recipe(recipe, [override])) is sure


def test_a_damaged_cache_is_mended_first(recipe: Path, cached: Path) -> None:
    (cached / "model.safetensors").write_bytes(b"")
    assert not sure_to_load(read_recipe(recipe, []))


def test_a_context_larger_than_the_embedded_models(
    recipe: Path, cached: Path, tmp_path: Path, command
) -> None:
    command.fails("run", recipe, "model.max_context=513", says=["model.max_context", "513", "512"])
    assert not (tmp_path / "run").exists()


def test_progress_before_the_model_and_nothing_left_after_ctrl_c(
    recipe: Path, cached: Path, tmp_path: Path
) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "eto", "run", str(recipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment_of_child(),
    )
    try:
        assert run.stdout.readline().startswith("coin: ")
        assert run.stdout.readline().split()[:2] == ["expert", "0/48"]
        below = psutil.Process(run.pid).children(recursive=True)
        assert below, "no simulator was started"
        run.send_signal(signal.SIGINT)
        _, error = run.communicate(timeout=30)
    finally:
        run.kill()
    assert run.returncode == 130 and error.startswith("stopped; the same command resumes"), error
    assert psutil.wait_procs(below, timeout=10)[1] == []


def test_a_failure_beside_the_expert_stage_ends_it_with_the_same_error(tmp_path: Path, command) -> None:
    model = save_model(tmp_path / "model")
    recipe = write_recipe(tmp_path / "recipe.yaml", model, tmp_path / "run")
    Run.open(tmp_path / "run", read_recipe(recipe, [])).close()  # it goes on: the directory has the recipe
    (model / "model.safetensors").unlink()
    before = psutil.Process().children()
    command.fails("run", recipe, says=[str(model), "no weights here", "hint: "])
    assert not (tmp_path / "run" / "stages" / "expert" / "DONE").exists()
    assert psutil.Process().children() == before
