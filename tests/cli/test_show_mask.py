"""`eto show-mask` prints texts as they are, and says of each turn whether it carries loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.text import Text
from tiny import save_tiny, trajectory

from eto.cli import show_mask
from eto.cli.show_mask import show
from eto.cli.terminal import terminal
from eto.data.formats import write_pairs, write_trajectories
from eto.errors import InputError
from eto.types import Pair, Turn

TEXTS = ("search[red mug]", "click[/b]", "[bold red]x[/bold red]", ":smile: http://a.b \\[x]")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("model")))


def printed(capsys, file: Path, model: str, *overrides: str, limit: int = 1) -> str:
    show(file, model, limit, None, overrides)
    return capsys.readouterr().out


def bracketed(file: Path) -> Path:
    turns = [(text, "[back to search] B01 [next >]") for text in TEXTS]
    turns.append(("\x1b[2Jwell done 😀", ""))
    case = trajectory(*turns)
    write_trajectories(file, [trajectory(*turns, source="[/b]", reward=0.5), case])
    return file


def test_brackets_are_printed(tmp_path, model, capsys):
    found = printed(capsys, bracketed(tmp_path / "own.jsonl"), model)
    for number, text in enumerate(TEXTS):
        assert f"turn {number}: {text + '<|im_end|>'!r}\n" in found
        assert f"assistant\n{text}<|im_end|>" in found
    assert "[back to search] B01 [next >]" in found
    assert "tiny/0 ([/b], reward 0.5)" in found


def test_brackets_are_printed_in_colour(tmp_path, model, capsys, monkeypatch):
    monkeypatch.setattr(show_mask, "terminal", lambda: terminal(force_terminal=True, width=1000))
    found = printed(capsys, bracketed(tmp_path / "own.jsonl"), model)
    plain = Text.from_ansi(found).plain
    for text in (*TEXTS, "\\x1b[2Jwell done 😀"):
        assert f"{text}<|im_end|>" in plain
    assert "tiny/0 ([/b], reward 0.5)" in plain


def test_turns_without_loss_are_told(tmp_path, model, capsys):
    turns = (Turn("drink water", "no", loss=False), Turn("heat water", ""))
    write_trajectories(tmp_path / "own.jsonl", [trajectory(turns=turns)])
    found = printed(capsys, tmp_path / "own.jsonl", model)
    assert "turn 0, no loss: 'drink water'\nturn 1: 'heat water<|im_end|>'" in found
    write_trajectories(tmp_path / "own.jsonl", [trajectory(turns=turns[:1])])
    assert "nothing to train on" in printed(capsys, tmp_path / "own.jsonl", model)


def test_both_sides_of_a_pair(tmp_path, model, capsys):
    chosen, rejected = trajectory(("look", "")), trajectory(("sleep", ""), reward=0.0)
    write_pairs(tmp_path / "pairs.jsonl", [Pair(chosen.task, chosen, rejected, 0)])
    found = printed(capsys, tmp_path / "pairs.jsonl", model, limit=2)
    assert "'look<|im_end|>'" in found and "'sleep<|im_end|>'" in found


def test_recipe_fields_of_the_template(tmp_path, model, capsys):
    write_trajectories(tmp_path / "own.jsonl", [trajectory(("look", ""))])
    (tmp_path / "mine.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.role | upper }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>ASSISTANT\n{% endif %}"
    )
    own = f"model.chat_template={tmp_path / 'mine.jinja'}"
    assert "<|im_start|>ASSISTANT\nlook" in printed(capsys, tmp_path / "own.jsonl", model, own)
    with pytest.raises(InputError, match=r"chat_template_kwargs\.enable_thinking"):
        printed(capsys, tmp_path / "own.jsonl", model, "model.chat_template_kwargs={enable_thinking: false}")


def test_a_mistake_in_a_pair_is_told_as_one_of_pairs(tmp_path, model, capsys):
    path = tmp_path / "pairs.jsonl"
    item = {"prompt": [{"role": "user", "content": "Go."}], "chosen": [], "rejected": []}
    path.write_text(json.dumps(item) + "\n")
    with pytest.raises(InputError, match="chosen"):
        printed(capsys, path, model)
