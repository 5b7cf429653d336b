"""Progress: a bar on a terminal, lines elsewhere, and nothing left open."""

from __future__ import annotations

import io

import pytest

from eto.cli import progress as module
from eto.cli.progress import Progress
from eto.cli.terminal import terminal


class Clock:
    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_a_file_gets_a_line_now_and_then_and_the_last_one(clock: Clock) -> None:
    file = io.StringIO()
    progress = Progress(terminal(file, width=200))
    for done in range(1, 31):
        clock.seconds += 1
        progress.update("explore-1", done, 30, reward=0.5)
    lines = file.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1/30", "11/30", "21/30", "30/30"]
    assert "0:19 left" in lines[1] and "reward 0.500" in lines[1]
    assert "left" not in lines[-1]


def test_what_an_earlier_process_did_does_not_count_for_the_speed(clock: Clock) -> None:
    file = io.StringIO()
    progress = Progress(terminal(file, width=200))
    progress.update("sft", 90, 100)
    clock.seconds += 10
    progress.update("sft", 95, 100)
    assert "0:10 left" in file.getvalue().splitlines()[1]


def test_each_stage_begins_anew(clock: Clock) -> None:
    file = io.StringIO()
    progress = Progress(terminal(file, width=200))
    progress.update("dev", 1, 2)
    progress.update("test", 1, 2)
    assert [line.split()[0] for line in file.getvalue().splitlines()] == ["dev", "test"]


def test_a_terminal_gets_a_bar_with_the_figures() -> None:
    screen = io.StringIO()
    with Progress(terminal(screen, force_terminal=True, width=120)) as progress:
        progress.update("dpo-1", 1, 4, loss=0.6931, kind="[b]x[/b]")
        progress.update("dpo-1", 4, 4, loss=123.4, kind="[b]x[/b]")
        progress.say("done")
    text = screen.getvalue()
    assert "dpo-1" in text and "4/4" in text and "loss 123" in text and "[b]x[/b]" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is hidden, and shown again
    assert text.rstrip().endswith("done")
