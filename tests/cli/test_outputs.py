"""Outputs cost no file: refused before the work, with the option that is to be changed."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from eto.cli.outputs import MARKDOWN, check_directory, check_file, inputs_of, new_model
from eto.errors import InputError


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "given.jsonl.gz"
    path.write_text("kept")
    return path


def refused(out: Path, says: str, **options: object) -> None:
    settings = {"overwrite": True, "inputs": {}, **options}
    with pytest.raises(InputError, match=says) as caught:
        check_file(out, **settings)
    assert caught.value.where and caught.value.hint


def spellings(path: Path) -> dict[str, Path]:
    """Other names of one file."""
    (path.parent / "link").symlink_to(path.name)
    os.link(path, path.parent / "hard")
    (path.parent / "folder").symlink_to(path.parent, target_is_directory=True)
    return {
        "itself": path,
        "dots": path.parent / "." / "x" / ".." / path.name,
        "symlink": path.parent / "link",
        "hard link": path.parent / "hard",
        "linked folder": path.parent / "folder" / path.name,
        "relative": Path(os.path.relpath(path)),
    }


def test_an_input_is_never_an_output(given):
    (given.parent / "x").mkdir()
    for out in spellings(given).values():
        refused(out, "this is --expert too", inputs=inputs_of(expert=given))
    assert given.read_text() == "kept"


def test_an_adapters_base_is_never_an_output(tmp_path):
    adapter, base = tmp_path / "adapter", tmp_path / "base"
    adapter.mkdir()
    base.mkdir()
    (base / "config.json").write_text("{}")
    for named in ("../base", str(base)):
        (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": named}))
        with pytest.raises(InputError, match="this is the base of --model too"):
            check_directory(base, overwrite=True, inputs=inputs_of(model=adapter))
        refused(base / "out.jsonl", "lies in the base of --model", inputs=inputs_of(model=adapter))
    (adapter / "adapter_config.json").write_text("{}")
    check_directory(base, overwrite=True, inputs=inputs_of(model=adapter))


def test_standard_output_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(Path("-"), "nothing is written to standard output")
    assert not list(tmp_path.iterdir())


def test_two_outputs_are_two_files(tmp_path):
    out = tmp_path / "new" / ".." / "a.jsonl"
    refused(out, "this is --out too", option="--failed", inputs=inputs_of(out=tmp_path / "a.jsonl"))


def test_what_is_there_stays_without_overwrite(given):
    refused(given, "something here already", overwrite=False)
    check_file(given, overwrite=True, inputs={})
    (given.parent / "dangling").symlink_to("nowhere")
    refused(given.parent / "dangling", "something here already", overwrite=False)
    assert given.read_text() == "kept"


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.csv", "a.CSV", "a.jsonl.zip", "a.csv.gz", "a.safetensors", "a.yaml", "a.pdf"]
)
def test_a_name_that_promises_another_form(name, tmp_path):
    refused(tmp_path / name, "the name promises")


@pytest.mark.parametrize(
    "name", ["a", "[v2]", "a.jsonl", "a.jsonl.gz", "a.json", "run.v2", "a b", "ä.jsonl", ".x"]
)
def test_names_that_may_be(name, tmp_path):
    check_file(tmp_path / "deep" / name, overwrite=False, inputs={})


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.md.gz", "a.html"])
def test_a_table_is_markdown(name, tmp_path):
    refused(tmp_path / name, "but Markdown is written", form=MARKDOWN)
    check_file(tmp_path / "a.md", overwrite=False, inputs={}, form=MARKDOWN)


def test_places_that_are_none(tmp_path, given):
    refused(tmp_path, "this is a directory")
    refused(Path(os.devnull), "a device or a pipe")
    refused(tmp_path / ("n" * 300), "name")
    refused(tmp_path / ("n" * 240), "there is room for")
    refused(given / "x.jsonl", "cannot write here")
    (tmp_path / "loop").symlink_to("loop")
    refused(tmp_path / "loop" / "x.jsonl", "cannot write here")
    assert Path(os.devnull).is_char_device()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    for name in ("config.json", "model-00001-of-00002.safetensors", "adapter_config.json", "notes.txt"):
        (path / name).write_text("old")
    return path


def refused_directory(out: Path, says: str, overwrite: bool = True, **inputs: object) -> None:
    with pytest.raises(InputError, match=says):
        check_directory(out, overwrite=overwrite, inputs=inputs_of(**inputs))


def test_directories_for_a_model(model, tmp_path):
    refused_directory(model, "this is --model too", model=model)
    refused_directory(model / "better", "this lies in --model", model=model)
    refused_directory(tmp_path, "--model lies in here", model=model)
    refused_directory(tmp_path, "holds other files and no model")
    refused_directory(model, "something here already", overwrite=False)
    refused_directory(model / "notes.txt", "this is a file already")
    check_directory(model, overwrite=True, inputs=inputs_of(model="someone/model"))
    check_directory(tmp_path / "a" / "b", overwrite=False, inputs={})
    assert (tmp_path / "a" / "b").is_dir()


def test_a_new_model_leaves_nothing_of_the_old_one(model):
    with new_model(model) as fresh:
        (fresh / "config.json").write_text("new")
        (fresh / "model.safetensors").write_text("new")
    found = {path.name: path.read_text() for path in model.iterdir()}
    assert found == {"config.json": "new", "model.safetensors": "new", "notes.txt": "old"}


def test_folders_of_a_model_take_the_place_of_earlier_ones(model):
    for weights in ("old", "new"):
        with new_model(model) as fresh:
            (fresh / "adapters").mkdir()
            (fresh / "adapters" / "adapters.safetensors").write_text(weights)
            (fresh / "config.json").write_text(weights)
    assert (model / "adapters" / "adapters.safetensors").read_text() == "new"


@pytest.mark.parametrize("moved", range(4))
def test_a_model_stopped_as_it_is_written_may_be_written_again(moved, tmp_path, monkeypatch):
    """Killed before a file was moved, between two, and after the last."""
    out, replace, left = tmp_path / "new", Path.replace, iter(range(moved))

    def save() -> None:
        with new_model(out) as fresh:
            for name in ("config.json", "model.safetensors", "tokenizer.json"):
                (fresh / name).write_text("new")

    def killed(path: Path, target: Path) -> Path:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with nullcontext() if moved == 3 else pytest.raises(KeyboardInterrupt):
        save()
    assert (out / "config.json").exists() == (moved == 3), "what looks whole is whole"
    monkeypatch.undo()
    check_directory(out, overwrite=moved == 3, inputs={})
    save()
    assert {path.name for path in out.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}


def test_models_of_runs_are_not_replaced(model):
    stage = model.parent / "run" / "stages" / "sft"
    stage.mkdir(parents=True)
    (stage / "DONE").write_text("{}")
    model.rename(stage / "model")
    (model.parent / "link").symlink_to(stage / "model")
    for out in (stage / "model", stage / "other", model.parent / "link"):
        refused_directory(out, "belongs to a stage of a run")


def test_a_save_that_fails_leaves_the_old_model(model):
    before = sorted(path.name for path in model.iterdir())
    with pytest.raises(RuntimeError), new_model(model) as fresh:
        (fresh / "config.json").write_text("half")
        raise RuntimeError
    assert sorted(path.name for path in model.iterdir()) == before
    assert (model / "config.json").read_text() == "old"
