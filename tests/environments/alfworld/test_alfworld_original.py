"""ALFWorld against what its own engine answered to the same random play.

The answers were recorded by `python -m benchmarks.alfworld_original --record FILE --data games.jsonl.gz`:
a digest for each turn of its observation, its admissible commands, and whether the game is won.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.alfworld import Ours
from benchmarks.alfworld_original import TURNS, recorded_games, wander

RECORD = json.loads((Path(__file__).parent / "alfworld_original.json").read_text(encoding="utf-8"))
GAMES = Path(__file__).resolve().parents[4] / "shared" / "data" / "alfworld" / "games.jsonl.gz"


def unequal_turns(name: str, dialect: str, game) -> list[int]:
    """Numbers of the turns that differ; play after the first of them takes another course."""
    ours = Ours(game, dialect)
    digests = [seen.digest() for seen in wander(name, ours.reset, ours.step)]
    theirs = RECORD[name].split()
    assert len(digests) == len(theirs) == TURNS + 1
    return [number for number, pair in enumerate(zip(digests, theirs, strict=True)) if pair[0] != pair[1]]


def test_generated_games_are_played_alike():
    found = {name: unequal_turns(name, dialect, game) for name, dialect, game in recorded_games(None)}
    assert len(found) == 24
    assert {name: turns for name, turns in found.items() if turns} == {}


@pytest.mark.skipif(not GAMES.exists(), reason="the official games are not here (../shared/data)")
def test_official_games_are_played_alike():
    found = {
        name: unequal_turns(name, dialect, game)
        for name, dialect, game in recorded_games(str(GAMES))
        if not name.startswith("generated/")
    }
    assert len(found) == 20
    assert {name: turns for name, turns in found.items() if turns} == {}
