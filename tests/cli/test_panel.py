"""The live panel of a run's stages, and the same as events."""

from __future__ import annotations

import io
import json

import pytest

from eto.cli.events import Events
from eto.cli.panel import Panel
from eto.cli.progress import beside
from eto.cli.terminal import terminal
from eto.experiment.play import reward_so_far
from eto.protocols import Stage
from eto.types import Phase

HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"


def last_screen(width: int) -> tuple[str, str]:
    """All that a panel wrote on a terminal of `width` columns, and its lines at the end."""
    screen = io.StringIO()
    planned = (Stage.explore(1), Stage.dev("sft"))
    with Panel(terminal(screen, force_terminal=True, width=width), planned, "[b]mine[/b]") as panel:
        panel.update(Phase.explore(1).text, 0, 4)
        panel.say("2 tasks have no expert")
        panel.update(Phase.explore(1).text, 4, 4, reward=0.5, low=0.1, high=0.9, failed=2)
        panel.update("dpo-1", 1, 4, loss=0.6931, tokens_per_second=512.0)
    written = screen.getvalue()
    lines = terminal(io.StringIO(), width=width)
    lines.print(panel)
    return written, lines.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_stages_stay_with_their_figures_at_any_width(width: int) -> None:
    written, end = last_screen(width)
    assert written.count(HIDDEN) == written.count(SHOWN) == 1
    assert "2 tasks have no expert" in written
    assert all(len(line) <= width for line in end.splitlines())
    text = " ".join(end.split())
    for part in ("[b]mine[/b]", "2 episodes failed", "explore/1", "4/4", "0.500 [0.10, 0.90]", "1/4"):
        assert part in text
    assert "loss 0.693" in text and "tokens/s 512" in text and "then dev-sft" in text


def test_the_interval_of_a_running_reward() -> None:
    """Rewards 1/4, 1/2, 1/2, 3/4: squares of deviations sum to 1/8, standard error sqrt(1/8 / 3 / 4) =
    0.102062, times 1.96 = 0.200042."""
    found = reward_so_far([0.25, 0.5, 0.5, 0.75])
    assert found == pytest.approx({"reward": 0.5, "low": 0.299958, "high": 0.700042}, abs=1e-6)
    assert reward_so_far([0.0, 1.0]) == {"reward": 0.5, "low": 0.0, "high": 1.0}  # rewards have bounds
    assert reward_so_far([]) == {} and reward_so_far([0.5]) == {"reward": 0.5}
    assert beside(found | {"failed": 1}) == "reward 0.500 [0.30, 0.70]  failed 1"


def test_events_are_lines_of_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eto.cli.events.PROGRESS_SECONDS", 1e9)
    events = Events()
    events.update("sft", 0, 3)
    events.update("sft", 1, 3, loss=float("nan"))  # too soon after the one before
    events.update("sft", 3, 3, loss=0.25, kind="[b]x[/b]")
    events.say("a line\nand another")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["event"], row.get("done")) for row in rows] == [
        ("progress", 0),
        ("progress", 3),
        ("message", None),
    ]
    assert rows[1]["figures"] == {"loss": 0.25, "kind": "[b]x[/b]"} and rows[1]["stage"] == "sft"
    assert rows[2]["text"] == "a line\nand another"
