"""Data in and out by the commands: the tutorial as it is written, runs, filters, mistakes, a hub."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from tiny import save_tiny, trajectory

from eto.data.formats import read_pairs, read_trajectories, write_pairs, write_trajectories
from eto.data.jsonfiles import read_items
from eto.data.store import TrajectoryStore
from eto.types import Pair, Phase, StopReason

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own_data.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("ignore:.*rewards taken from")
def test_the_tutorial_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny(Path("my-model"))
    [given] = blocks("jsonl")
    Path("mine.jsonl").write_text(given)
    printed: dict[str, str] = {}
    for line in "".join(blocks("sh")).splitlines():
        program, name, *arguments = line.split()
        assert program == "eto"
        printed[name] = command.succeeds(name, *arguments)
    assert len(read_trajectories("data/successes.jsonl")) == 2
    assert len(read_trajectories("data/failures.jsonl")) == 3
    assert len(read_pairs("data/pairs.jsonl")) == 2 and "losses: 2" in printed["pairs"]
    from transformers import AutoModelForCausalLM, AutoTokenizer

    cloned, better = (
        AutoModelForCausalLM.from_pretrained(name).state_dict() for name in ("cloned", "better")
    )
    assert any(not (cloned[name] == better[name]).all() for name in cloned)
    assert AutoTokenizer.from_pretrained("better").chat_template
    assert [pair.task.id for pair in read_pairs("pairs.parquet")] == ["shop/lamp", "shop/mug"]
    assert read_trajectories("for-openai.jsonl")[0].success is True
    assert "license: cc-by-4.0" in Path("my-data/README.md").read_text()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What is exported of a run: its store, its experts and its pairs."""
    directory = tmp_path / "run"
    good, bad = trajectory(("take cup", "ok"), number=1), trajectory(("wait", "no"), number=1, source="sft")
    bad = trajectory(("wait", "no"), number=1, source="sft", reward=0.0, success=False)
    lost = trajectory(
        ("wait", ""), number=2, source="sft", reward=0.0, success=None, stop=StopReason.ENGINE_FAILED
    )
    with TrajectoryStore(directory / "trajectories.sqlite") as store:
        store.add(Phase.expert(), good)
        store.add(Phase.explore(1), bad)
        store.add(Phase.explore(1), lost)
        store.add(Phase.evaluate("sft", "test"), trajectory(("take", ""), number=3, source="sft", reward=0.5))
    (directory / "stages" / "expert").mkdir(parents=True)
    write_trajectories(directory / "stages" / "expert" / "expert.jsonl", [good])
    write_pairs(directory / "stages" / "contrast-1" / "pairs.jsonl", [Pair(good.task, good, bad, 0)])
    return directory


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ((), ["tiny/3", "tiny/1", "tiny/1"]),
        (("--phase", "explore/*"), ["tiny/1"]),
        (("--task", "*/3"), ["tiny/3"]),
        (("--outcome", "lost"), ["tiny/1"]),
        (("--min-reward", "0.5", "--max-reward", "0.9"), ["tiny/3"]),
        (("--what", "experts"), ["tiny/1"]),
    ],
)
def test_what_is_taken_of_a_run(run: Path, tmp_path: Path, command, options: tuple, ids: list[str]) -> None:
    out = tmp_path / "out.jsonl"
    printed = command.succeeds("export", run, "--out", out, *options)
    found = [each.task.id for each in read_trajectories(out)]
    assert sorted(found) == sorted(ids) and f"{len(ids)} trajectories written" in printed


def test_pairs_of_a_run_as_a_table(run: Path, tmp_path: Path, command) -> None:
    printed = command.succeeds(
        "export", run, "--what", "pairs", "--format", "trl", "--out", tmp_path / "p.parquet"
    )
    assert "no place for rewards" in printed
    [(_, item)] = read_items(tmp_path / "p.parquet")
    assert item["chosen"] == [{"role": "assistant", "content": "take cup"}] and "tools" not in item


def test_logs_for_inspect(run: Path, tmp_path: Path, command) -> None:
    out = tmp_path / "all.eval"
    printed = command.succeeds("export", run, "--format", "inspect", "--out", out)
    assert "3 trajectories written" in printed and "no place for token ids" in printed
    with ZipFile(out) as archive:
        head = json.loads(archive.read("header.json"))
    assert head["eval"]["task"] == "run" and head["eval"]["metadata"]["agents"] == ["sft", "expert"]
    command.fails("export", run, "--format", "inspect", "--out", out, says=["something here already"])
    command.fails("export", run, "--out", tmp_path / "b.eval", says=["the name promises .eval"])
    logs = tmp_path / "logs"
    for more in ((), ("--overwrite",)):
        command.succeeds("export", run, "--format", "inspect", "--out", logs, "--phase", "e*", *more)
    assert len(list(logs.glob("*.eval"))) == 3
    command.fails("export", run, "--format", "inspect", "--out", logs, says=["something here already"])
    command.succeeds("export", run, "--out", tmp_path / "mine.jsonl")
    command.succeeds("export", tmp_path / "mine.jsonl", "--format", "inspect", "--out", tmp_path / "m.eval")


def test_a_damaged_episode_is_left_out(run: Path, tmp_path: Path, command) -> None:
    with TrajectoryStore(run / "trajectories.sqlite") as store:
        store._db.execute("UPDATE episodes SET record = '{' WHERE phase = 'expert'")
    with pytest.warns(UserWarning, match=r"damaged episodes left out .*phase expert, task tiny/1.*: 1$"):
        command.succeeds("export", run, "--out", tmp_path / "a.jsonl")
    assert len(read_trajectories(tmp_path / "a.jsonl")) == 2


def test_a_recipe_that_is_no_text_is_told_before_a_card(run: Path, tmp_path: Path, command) -> None:
    (run / "recipe.yaml").write_bytes(b"name: caf\xe9\n")
    command.fails("export", run, "--out", tmp_path / "data", "--card", says=["recipe.yaml", "not UTF-8"])
    assert not (tmp_path / "data").exists()
    command.succeeds("export", run, "--out", tmp_path / "data.jsonl")


def test_a_run_that_goes_on_is_read(run: Path, tmp_path: Path, command) -> None:
    """Another connection has the store open, with an episode that stands in its log alone."""
    with TrajectoryStore(run / "trajectories.sqlite") as store:
        store.add(Phase.explore(2), trajectory(("look", ""), number=9, source="sft"))
        command.succeeds("export", run, "--phase", "explore/2", "--out", tmp_path / "a.jsonl")
    assert [each.task.id for each in read_trajectories(tmp_path / "a.jsonl")] == ["tiny/9"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--format", "csv"), ["trajectories have no form 'csv'", "agenttraj"]),
        (("--what", "turns"), ["--what", "episodes, experts, pairs"]),
        (("--outcome", "good"), ["--outcome", "won, lost"]),
        (("--phase", "play/*"), ["--phase play/*", "explore/1", "evaluate/sft/test"]),
        (("--what", "pairs", "--outcome", "won"), ["pairs have no single outcome"]),
        (("--task", "none"), ["no trajectories to write", "filters"]),
        (("--card",), ["--out", "a file", "directory"]),
        (("--format", "inspect"), ["the name promises .jsonl", "let it end in .eval"]),
        (("--format", "inspect", "--card"), ["--card", "no data set"]),
        (("--format", "inspect", "--what", "pairs"), ["pairs have no form 'inspect'", "sharegpt, trl"]),
    ],
)
def test_mistakes_of_an_export(run: Path, tmp_path: Path, command, arguments: tuple, says: list[str]) -> None:
    command.fails("export", run, "--out", tmp_path / "a.jsonl", *arguments, says=says)
    assert not (tmp_path / "a.jsonl").exists()


def test_records_of_a_file_have_no_phase(run: Path, tmp_path: Path, command) -> None:
    command.succeeds("export", run, "--out", tmp_path / "a.jsonl")
    words = ("export", tmp_path / "a.jsonl", "--out", tmp_path / "b.jsonl")
    command.fails(*words, "--phase", "explore/*", says=["--phase", "records of a file have no phase"])


def test_places_that_an_export_leaves_alone(run: Path, tmp_path: Path, command) -> None:
    for place in (run, tmp_path, run / "stages" / "new"):
        command.fails("export", run, "--out", place, "--overwrite", says=["--out", "another place"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    command.fails("export", run, "--out", tmp_path / "mine", "--overwrite", says=["other files"])
    command.succeeds("export", run, "--out", tmp_path / "set")
    command.fails("export", run, "--out", tmp_path / "set", says=["something here already"])
    command.succeeds("export", run, "--out", tmp_path / "set", "--overwrite")
    assert len(read_trajectories(tmp_path / "set")) == 3


SAID = [{"role": "user", "content": "Go."}, {"role": "assistant", "content": "north"}]
ITEM: dict[str, Any] = {"id": "a/1", "messages": SAID}


def lines(path: Path, *items: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_outcomes_in_every_way_that_they_are_stated(tmp_path: Path, command) -> None:
    stated = lines(
        tmp_path / "a.jsonl", ITEM | {"success": True}, ITEM | {"success": False}, ITEM | {"reward": 0.5}
    )
    silent = lines(tmp_path / "b.jsonl", ITEM)
    with pytest.warns(UserWarning, match="rewards taken from `success`: 2"):
        printed = command.succeeds(
            *("import", stated, silent, "--out", tmp_path / "data", "--source", "me", "--reward", "0")
        )
    assert "1 tasks have both" in printed
    assert [each.reward for each in read_trajectories(tmp_path / "data" / "successes.jsonl")] == [1.0]
    failures = read_trajectories(tmp_path / "data" / "failures.jsonl")
    assert [each.reward for each in failures] == [0.0, 0.5, 0.0]
    # Numbered over all files.
    assert [each.sample for each in failures] == [1, 2, 3] and {each.source for each in failures} == {"me"}
    command.succeeds("import", stated, "--out", tmp_path / "two", "--solved-from", "0.5")
    assert len(read_trajectories(tmp_path / "two" / "successes.jsonl")) == 2


def test_no_silent_success(tmp_path: Path, command) -> None:
    """Items that say nothing of their outcome are told of, and refused where somebody else acted."""
    silent = lines(tmp_path / "a.jsonl", ITEM)
    with pytest.warns(UserWarning, match="items without reward, read as an expert's successes: 1"):
        command.succeeds("import", silent, "--out", tmp_path / "d")
    command.fails("import", silent, "--out", tmp_path / "e", "--source", "me", says=["line 1", "'reward'"])
    assert not list(tmp_path.glob("e/*"))


@pytest.mark.filterwarnings("ignore:.*items without reward")
def test_mistakes_of_an_import(tmp_path: Path, command) -> None:
    pair = {"prompt": SAID[:1], "chosen": SAID[1:], "rejected": [{"role": "assistant", "content": "south"}]}
    both = lines(tmp_path / "both.jsonl", ITEM, pair)
    command.fails(
        "import", both, "--out", tmp_path / "a.jsonl", says=["both trajectories and pairs", "directory"]
    )
    assert "1 pair" in command.succeeds("import", both, "--out", tmp_path / "data")
    command.fails("import", both, "--out", tmp_path / "data", says=["something here already", "--overwrite"])
    command.succeeds("import", lines(tmp_path / "one.jsonl", ITEM), "--out", tmp_path / "data", "--overwrite")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["successes.jsonl"], "no old pairs"
    odd = lines(tmp_path / "odd.jsonl", ITEM, ITEM | {"messages": [{"role": "narrator", "content": "x"}]})
    says = ["odd.jsonl, line 2, messages[0]", "'role'", "narrator", "assistant"]
    command.fails("import", odd, "--out", tmp_path / "b", says=says)
    assert not list(tmp_path.glob("b/*"))


@pytest.fixture
def hub() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A server that answers what `huggingface_hub` asks for in an upload; its address and what it got."""
    got: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = self.headers.get("Content-Length")
            body = self.rfile.read(int(size)) if size else self._chunks()
            got.append((self.path, body))
            host = f"http://{self.headers['Host']}"
            if self.path.endswith("/create"):
                self._answer({"url": f"{host}/datasets/me/cups", "id": "me/cups"})
            elif "/preupload/" in self.path:
                files = [
                    {**each, "uploadMode": "regular", "shouldIgnore": False}
                    for each in json.loads(body)["files"]
                ]
                self._answer({"files": files})
            elif "/commit/" in self.path:
                self._answer(
                    {
                        "success": True,
                        "commitOid": "c" * 40,
                        "commitUrl": f"{host}/datasets/me/cups/commit/{'c' * 40}",
                    }
                )
            else:
                self._answer({"errors": [], "warnings": []})

        def do_GET(self) -> None:
            got.append((self.path, b""))
            self._answer({"id": "me/cups", "sha": "a" * 40, "siblings": []})

        def _chunks(self) -> bytes:
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _answer(self, value: dict[str, Any]) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    thread.join()
    server.server_close()


def pushed(hub, *arguments: object) -> tuple[str, dict[str, Any], dict[str, bytes]]:
    """What a command with --push printed, asked to be created and sent. By the real client; the hub is a
    server that answers as far as an upload asks."""
    address, got = hub
    command = [sys.executable, "-m", "eto", *map(str, arguments), "--push", "me/cups"]
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_TOKEN": "hf_none", "HF_HUB_DISABLE_XET": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    created = json.loads(next(body for path, body in got if path.endswith("/create")))
    commit = next(body for path, body in got if "/commit/" in path)
    sent = {
        line["value"]["path"]: base64.b64decode(line["value"]["content"])
        for line in map(json.loads, commit.splitlines())
        if line["key"] == "file"
    }
    return done.stdout, created, sent


def test_a_model_is_pushed(tiny_path: Path, tmp_path: Path, hub) -> None:
    out = tmp_path / "model"
    said, created, sent = pushed(hub, "export-model", tiny_path, "--out", out)
    assert "pushed: me/cups" in said
    assert created["visibility"] == "private" and created.get("type", "model") == "model"
    assert sent["model.safetensors"] == (out / "model.safetensors").read_bytes()
    assert {"README.md", "config.json", "tokenizer.json"} <= set(sent)


def test_a_licence_needs_a_card(run: Path, tmp_path: Path, command) -> None:
    out = tmp_path / "cups.jsonl"
    command.fails("export", run, "--out", out, "--license", "mit", says=["--license", "add --card or --push"])
    assert not out.exists()


def test_a_folder_is_pushed(run: Path, tmp_path: Path, hub) -> None:
    out = tmp_path / "cups"
    exported = ("export", run, "--phase", "explore/*", "--out", out, "--license", "mit")
    said, created, sent = pushed(hub, *exported)
    assert "pushed, private: me/cups" in said
    assert created["visibility"] == "private" and created["type"] == "dataset"
    assert set(sent) == {"README.md", "data/train.parquet"}
    assert sent["data/train.parquet"] == (out / "data" / "train.parquet").read_bytes()
    card = sent["README.md"].decode()
    for part in (
        "license: mit",
        "1 episodes of agents",
        "| sft | 1 |",
        "Mean reward 0.000; 0 of 1",
        "eto export",
    ):
        assert part in card, card
    assert [each.task.id for each in read_trajectories(out / "data" / "train.parquet")] == ["tiny/1"]


def test_a_push_that_fails_leaves_the_folder(run: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "eto",
        "export",
        str(run),
        "--out",
        str(tmp_path / "cups"),
        "--push",
        "me/cups",
    ]
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_none"}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "could not be pushed" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "cups" / "README.md").is_file()
