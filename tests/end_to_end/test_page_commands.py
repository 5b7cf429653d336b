"""The commands of the pages, as they are written, on small stand-ins for what they name.

A recipe keeps its method and its numbers of tasks and epochs; its environment is the example of the pages,
its model a tiny one. What cannot run so stands in `NOT_HERE` with the reason.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import CHATML

from eto.data.formats import read_pairs, read_trajectories
from eto.evaluation import build_results

ROOT = Path(__file__).resolve().parents[2]
GAME = "examples/countdown/countdown.py:Countdown"
EXECUTED = "first_run mask templates recipes view models environments methods/evolve scale".split()
"""Pages of docs/, in the order in which their commands are given. own_data.md and python.md have tests of
their own (test_own_data.py, test_api.py)."""

LONG = "plays simulators with the shipped model, for minutes or hours"
MANY = "as many runs as test_compare.py and test_sweep.py make, for minutes"
CHAT = "needs a chat server; tests/engines/test_chat.py has one"
SERVES = "goes on until it is stopped; tests/viewer and tests/environments/remote start and ask it"
NOT_HERE = {
    "eto compare *": MANY,
    "eto sweep *": MANY,
    "eto join-comparisons *": MANY,
    "eto view*": SERVES,
    "eto show runs/first/*": "of `make quickstart`; tests/cli/test_show.py looks at a small run",
    "eto serve-environment *": SERVES,
    "eto report runs/seed-0 *": MANY,
    "eto report runs/scienceworld_six *": LONG,
    "eto report runs/quickstart-seeds/*": MANY,
    "eto export runs/mine --format inspect *": "test_own_data.py writes such logs",
    "eto doctor": "looks at the machine; tests/cli/test_doctor.py",
    "eto recipes --out recipes": "tests/experiment/test_shipped.py writes them",
    "eto compare-models runs/mine embedded *": LONG,
    "eto run recipes/scienceworld_six.yaml*": LONG,
    "eto run recipes/scienceworld_six.yaml name=animals *": "its option is one of ScienceWorld",
    "eto run recipes/scienceworld.yaml*": LONG,
    "eto run recipes/alfworld.yaml": LONG,
    "eto run recipes/webshop.yaml": LONG,
    "eto run recipes/bandit.yaml*": LONG,
    "eto evaluate --recipe recipes/bandit.yaml *": LONG,
    "eto run recipes/lope.yaml": LONG,
    "eto run recipes/rama.yaml *": LONG,
    "eto run recipes/7b_*": "asks the Hub for a model; test_large_recipes.py has its configuration",
    "eto run recipes/optim4rl.yaml *": "needs an optimiser that hours have trained; "
    "test_learned_optimiser_run.py trains a small one",
    "eto replay webshop_sft.json *": "needs data from elsewhere; tests/rollout/test_replay.py makes some",
    "eto explore --recipe recipe.yaml *": CHAT,
    "eto replay played.jsonl --recipe recipe.yaml *": CHAT,
    "eto sft --expert expert.jsonl --out cloned": "trains the shipped model, for minutes",
    "eto evaluate --recipe recipe.yaml *": CHAT,
    "eto environments": "starts every simulator that is installed; tests/environments do",
    "eto environments check textworld *": "plays for a minute; tests/environments/textworld does",
    "eto environments check countdown": "needs the example installed; test_declared.py makes such a package",
    "eto expert --out experts.jsonl environment.name=countdown": "the same",
    "eto play *": "waits for a user's actions; test_play.py types some",
}
"""Commands, with `*` for any end, and why the test does not give them."""


def commands(page: str) -> list[str]:
    """Lines of a page's shell blocks that call `eto`, without comments and outlines."""
    found = re.findall(r"^```sh\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    lines = "".join(found).replace("\\\n", " ").splitlines()
    called = (re.sub(r"^(\$ )?(\.venv/bin/)?", "", line).partition(" #")[0].strip() for line in lines)
    return [line for line in called if line.startswith("eto ") and not re.search(r"\.\.\.|…|\[[A-Z]", line)]


def fits(line: str, known: str) -> bool:
    return line.startswith(known[:-1]) if known.endswith("*") else line == known


def why_not(line: str) -> str:
    return next((why for known, why in NOT_HERE.items() if fits(line, known)), "")


def stand_in(recipe: dict[str, Any], model: Path) -> str:
    """A recipe on the example and a tiny model."""
    changes = {
        "model": {"path": str(model), "dtype": "float32"},
        "environment": {"name": GAME, "workers": 1},
        "rollout": {"max_action_tokens": 8},
    }
    return yaml.safe_dump({**recipe, **changes}, sort_keys=False)


@pytest.fixture
def place(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that has what the pages name."""
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(ROOT / "examples", target_is_directory=True)
    shutil.copytree(tiny_path, "my-model")
    Path("my-model/chat_template.jinja").write_text(CHATML + "{% if enable_thinking %}{% endif %}")
    [own] = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs/first_run.md").read_text("utf-8"), re.M | re.S)
    Path("mine.yaml").write_text(stand_in(yaml.safe_load(own), tiny_path))
    Path("recipes").mkdir()
    for path in (ROOT / "recipes").glob("*.yaml"):
        text = path.read_text("utf-8")
        Path("recipes", path.name).write_text(text)
    # The tiny model wins nothing that practice could clone: ETO, with the expert's side of each pair.
    six = yaml.safe_load((ROOT / "recipes/scienceworld_six.yaml").read_text("utf-8")) | {"name": "quickstart"}
    Path("recipes/quickstart.yaml").write_text(stand_in(six, tiny_path))
    Path("mine.jinja").write_text(CHATML)
    said = ["Count down from 2 to 0.", "1", "You are at 1."]
    items = {"expert.jsonl": [*said, "0"], "mine.jsonl": [*said, "7"]}
    for name, texts in items.items():
        messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
        item = {"id": "countdown/2", "messages": messages, "reward": float(name == "expert.jsonl")}
        Path(name).write_text(json.dumps(item) + "\n")
    return tmp_path


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_pages_as_they_are_written(place: Path, command) -> None:
    command.succeeds("run", "recipes/quickstart.yaml")
    executed, failed = [], {}
    for page in EXECUTED:
        for line in commands(f"docs/{page}.md"):
            if not why_not(line):
                done = command(*shlex.split(line)[1:])
                executed.append(line)
                failed |= {f"{page}: {line}": done.error} if done.code else {}
    assert not failed, "\n".join(f"{line}\n  {error}" for line, error in failed.items())
    assert len(executed) > 20
    # They did what the pages say.
    assert len(read_pairs("pairs.jsonl")) == 1 and Path("better-model/metrics.jsonl").exists()
    names = {"quickstart", "quickstart-seed1", "lora", "mine", "mine-2"}
    assert {path.parent.name for path in Path("runs").glob("*/results.json")} == names
    assert build_results("runs/mine-2")["seeds"]["seed"] == 1
    assert (place / "runs/quickstart/report.html").stat().st_size > 10_000
    assert list(Path("runs/quickstart/tables").glob("*.csv")) and Path("my-agent/README.md").exists()
    assert len(read_trajectories("experts.jsonl")) == 4
    assert Path("runs/quickstart/stages/dpo-1/pair_log_probs.jsonl").stat().st_size > 100


def test_each_command_of_a_page_is_executed_or_has_a_reason() -> None:
    pages = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")]
    pages += ["README.md", "CONTRIBUTING.md"]
    elsewhere = {f"docs/{page}.md" for page in (*EXECUTED, "own_data")}
    left = [
        f"{page}: {line}"
        for page in pages
        if page not in elsewhere
        for line in commands(page)
        if not why_not(line)
    ]
    assert left == []
    every = [line for page in pages for line in commands(page)]
    unused = [known for known in NOT_HERE if not any(fits(line, known) for line in every)]
    assert unused == []
