"""What commands print into a file or a pipe: tables are Markdown, and no line is broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import NAME, make_run

COMMANDS = {
    "report": ("report", "ONE", "--format", "md"),
    "pooled": ("report", "ONE", "TWO"),
    "against": ("report", "ONE", "--against", "TWO"),
    "runs": ("runs", "ALL"),
    "show": ("show", "ONE"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    runs = tmp_path_factory.mktemp("place-with-a-name-long-enough-to-break-in-eighty-columns") / "runs"
    runs.mkdir()
    return {"ALL": runs, "ONE": make_run(runs / "seed-0", 0), "TWO": make_run(runs / "seed-1", 1)}


@pytest.mark.parametrize("name", COMMANDS)
def test_tables_are_markdown(name: str, places: dict[str, Path], command) -> None:
    out = command.succeeds(*(places.get(word, word) for word in COMMANDS[name]))
    lines = out.splitlines()
    heads = [number for number, line in enumerate(lines) if line.startswith("|---")]
    assert heads
    assert not set(out) & set("─━│┃")
    for number in heads:
        width = lines[number].count("|")
        assert [line.count("|") for line in (lines[number - 1], lines[number + 1])] == [width, width]


def test_notes_and_paths_are_whole(places: dict[str, Path], command) -> None:
    lines = command.succeeds("report", places["ONE"], "--format", "md").splitlines()
    assert any(line.endswith(str(places["ONE"] / "report.md")) for line in lines)
    assert any(NAME in line and "mean and 95% interval" in line for line in lines)


def test_a_command_that_the_doctor_prints_can_be_copied(command, monkeypatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    lines = command("doctor").out.splitlines()
    assert "  hint: set OMP_WAIT_POLICY=PASSIVE" in lines
    assert any(line.startswith("torch: ok: ") for line in lines)
