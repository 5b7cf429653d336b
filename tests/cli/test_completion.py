"""Shells are offered runs, recipes, models, methods, environments and fixed words."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_run import make_run

from eto.cli import app, completion
from eto.methods import METHODS

RECIPE = "name: mine\nenvironment: {name: toy}\n"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with recipes, a run, a model, and files that are none of these."""
    place = tmp_path_factory.mktemp("place")
    make_run(place / "runs" / "mine")
    for name in ("recipes/mine.yaml", "recipes/methods/kto.yaml", "two words.yaml"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(RECIPE)
    (place / "mkdocs.yml").write_text("site_name: x\n")
    (place / ".hidden").mkdir()
    (place / ".hidden" / "a.yaml").write_text(RECIPE)
    for model in ("my-model", "runs/mine/stages/sft/model"):
        (place / model).mkdir(parents=True)
        (place / model / "config.json").write_text("{}")
    return place


@pytest.fixture
def place(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The filled directory, as the present one; only read."""
    monkeypatch.chdir(filled)
    return filled


def asked(shell: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys) -> list[str]:
    """What a shell is told for a line that ends where the cursor is."""
    for name, value in (
        ("_ETO_COMPLETE", f"complete_{shell}"),
        ("_TYPER_COMPLETE_ARGS", line),
        ("_TYPER_COMPLETE_FISH_ACTION", "get-args"),
    ):
        monkeypatch.setenv(name, value)
    words = line.split(" ")
    monkeypatch.setenv("COMP_WORDS", "\n".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        app(prog_name="eto")
    done = capsys.readouterr()
    assert end.value.code == 0 and done.err == "", done
    if shell == "zsh":
        inner = done.out.strip().removeprefix("_arguments '*: :((").removesuffix("))'")
        return [row.split('":"')[0].strip('"') for row in inner.splitlines() if row != "_files"]
    return [row.split("\t")[0] for row in done.out.splitlines()]


CASES = [
    ("eto sh", ["show", "show-mask"]),
    ("eto run rec", ["recipes/methods/kto.yaml", "recipes/mine.yaml"]),
    ("eto run recipes/mi", ["recipes/mine.yaml"]),
    ("eto evaluate --recipe recipes/methods/", ["recipes/methods/kto.yaml"]),
    ("eto compare recipes/mine.yaml recipes/m", ["recipes/methods/kto.yaml", "recipes/mine.yaml"]),
    ("eto show ", ["runs/mine"]),
    ("eto report runs/", ["runs/mine"]),
    ("eto export runs", ["runs/mine"]),
    ("eto run recipes/mine.yaml --from ", ["runs/mine"]),
    ("eto evaluate --model ", ["embedded", "my-model", "runs/mine/stages/sft/model"]),
    ("eto compare-models runs/mine em", ["embedded"]),
    ("eto compare recipes/mine.yaml --methods kto,pp", ["kto,ppo"]),
    ("eto evaluate --split ", ["train", "dev", "test"]),
    ("eto report runs/mine --format md,h", ["md,html"]),
    ("eto play text", ["textworld", "textworld-express"]),
    ("eto environments check web", ["webshop"]),
    ("eto explore --out x model.p", ["model.path=embedded", "model.path=my-model"]),
]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(("line", "offered"), CASES, ids=[line for line, _ in CASES])
def test_words_that_are_offered(
    line: str, offered: list[str], shell: str, place: Path, monkeypatch, capsys
) -> None:
    found = asked(shell, line, monkeypatch, capsys)
    wanted = [word for word in found if not word.startswith("model.path=runs")]
    assert sorted(wanted) == sorted(offered)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_methods_name(shell: str, place: Path, monkeypatch, capsys) -> None:
    assert asked(shell, "eto run x.yaml method.name=st", monkeypatch, capsys) == [
        "method.name=staggered",
        "method.name=step_agent",
    ]
    assert {f"method.name={name}" for name in METHODS} == set(
        asked(shell, "eto run x.yaml method.n", monkeypatch, capsys)
    )


def test_what_is_no_recipe_or_run_is_left_out(place: Path) -> None:
    assert completion.recipes("") == ["recipes/methods/kto.yaml", "recipes/mine.yaml", "two words.yaml"]
    assert completion.recipes(".hid") == [".hidden/a.yaml"]
    assert completion.runs(str(place)) == [str(place / "runs" / "mine")]
    assert completion.runs("nowhere/") == completion.recipes("~no/") == []


def test_a_key_press_does_not_read_a_whole_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(completion, "_MOST", 20)
    for number in range(30):
        (tmp_path / f"{number:02d}" / "deep").mkdir(parents=True)
    assert len(list(completion._below(""))) == 30, "what is nearest, and nothing below it"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_itself(place: Path, tmp_path: Path) -> None:
    """The script that `eto --show-completion` prints, in a real shell."""
    program = tmp_path / "bin" / "eto"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom eto.cli import main\nmain()\n")
    program.chmod(0o755)
    script = """
    eval "$(_ETO_COMPLETE=source_bash eto)"
    tried() {
      COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
      _eto_completion eto; echo "${COMPREPLY[*]}"
    }
    tried eto show runs/
    tried eto run recipes/mine.yaml method.name = kt
    tried eto run two
    complete -p eto
    """
    variables = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=place,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "runs/mine",
        "kto",
        "two words.yaml",
        "complete -o default -F _eto_completion eto",
    ]


def test_a_module_that_is_run_has_the_commands_name() -> None:
    """What `python -m eto --install-completion` writes is then a script that shells can read."""
    done = subprocess.run([sys.executable, "-m", "eto", "nosuch"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("Usage: eto [OPTIONS]")
