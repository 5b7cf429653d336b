"""ALFWorld's game files: the official tree, or one game a line.

The tree has a directory for each game, `<split>/<kind>-<thing>-<movable>-<receptacle>-<room>/<trial>`,
with `game.tw-pddl` in it. A line of the other form is a JSON object with the keys of `_NEEDED`.
"""

from __future__ import annotations

import gzip
import json
import re
import warnings
import zlib
from collections import Counter
from pathlib import Path
from typing import IO, Any, Protocol

from eto.environments.alfworld.dialect import dialect_of
from eto.environments.alfworld.games import KINDS, Game
from eto.errors import InputError

SPLITS = {"train": "train", "valid_train": "train", "valid_seen": "dev", "valid_unseen": "test"}
"""The official splits; "seen" rooms are those of the training games."""
GAME_FILE = "game.tw-pddl"
DOWNLOAD = "`alfworld-download` brings the official games (pip install 'eto-agent[alfworld]')"
_TASK = re.compile(r"Your task is to: (.*?)\.\"")
_NEEDED = ("id", "split", "task_type", "pddl_params", "initial_state", "task_in_grammar")


class Games(Protocol):
    """Games by name."""

    dialect: str
    """`put`, `move`, or `auto` where the files do not say."""

    def names(self, split: str) -> list[tuple[str, str]]:
        """(name, kind) of each game of a split."""
        ...

    def game(self, name: str) -> Game:
        """Raises `InputError` for a file that cannot be read."""
        ...


def open_games(data: str) -> Games:
    """The games at `data`. Raises `InputError` where there are none."""
    path = Path(data).expanduser()
    if path.is_dir():
        return _Tree(path)
    if path.is_file():
        return _Lines(path)
    raise InputError("no such file or directory", where=str(path), hint=DOWNLOAD)


class _Tree:
    """The official directories."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, list[tuple[str, str]]] = {split: [] for split in SPLITS.values()}
        left_out: Counter[str] = Counter()
        first: Path | None = None
        for path in sorted(root.glob(f"**/{GAME_FILE}")):
            folder = path.parent.relative_to(root)
            split = next((SPLITS[part] for part in reversed(path.parts) if part in SPLITS), None)
            reason = "games of no known split" if split is None else _left_out(path)
            if split is None or reason is not None:
                left_out[str(reason)] += 1
                continue
            first = first or path
            self._names[split].append((folder.as_posix(), path.parent.parent.name.split("-")[0]))
        if first is None:
            skipped = f" ({_counted(left_out)})" if left_out else ""
            raise InputError(f"no playable {GAME_FILE} below it{skipped}", where=str(root), hint=DOWNLOAD)
        if left_out:
            warnings.warn(f"{root}: {_counted(left_out)} left out", stacklevel=4)
        self.dialect = dialect_of(_tree_data(first)["grammar"], str(first))

    def names(self, split: str) -> list[tuple[str, str]]:
        return self._names[split]

    def game(self, name: str) -> Game:
        path = self._root / name / GAME_FILE
        data = _tree_data(path)
        task = _TASK.search(data["grammar"])
        if task is None:
            raise InputError("its grammar names no task", where=str(path), hint="fetch the game again")
        kind, *words = path.parent.parent.name.split("-")
        if len(words) != 4:
            hint = "keep the official directories' names"
            raise InputError("its directory's name does not tell the task", where=str(path), hint=hint)
        thing, _, target, _ = words
        is_lamp = kind == "look_at_obj_in_light"
        receptacle, lamp = ("", target) if is_lamp else (target, "")
        return Game(kind, thing, receptacle, lamp, task[1], data["pddl_problem"])


def _left_out(path: Path) -> str | None:
    """Why a game of the tree is not played, as in the original; None where it is."""
    named = path.parent.parent.name
    kind = named.split("-")[0]
    if "movable" in named or "Sliced" in named:
        return "games with movable receptacles or slices"
    if kind not in KINDS:
        return "games of unknown kinds"
    try:
        solvable = re.search(rb'"solvable"\s*:\s*(true|false)', path.read_bytes())
    except OSError as error:
        return f"unreadable games ({error.strerror})"
    if solvable is None:
        return "games not checked to be solvable"
    return None if solvable[1] == b"true" else "unsolvable games"


def _tree_data(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path), hint=DOWNLOAD) from error
    missing = [key for key in ("pddl_problem", "grammar") if not isinstance(data.get(key), str)]
    if missing:
        raise InputError(f"it has no {missing[0]}", where=str(path), hint=DOWNLOAD)
    return data


class _Lines:
    """One game a line, plain or gzipped; problems are kept compressed."""

    dialect = "auto"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._games: dict[str, tuple[str, Game, bytes]] = {}
        left_out: Counter[str] = Counter()
        try:
            with _open(path) as lines:
                for number, line in enumerate(lines, start=1):
                    self._take(line, f"{path}:{number}", left_out)
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise InputError(
                f"cannot be read: {error}", where=str(path), hint="make the file again"
            ) from error
        if not self._games:
            raise InputError("no playable game", where=str(path), hint=f"one JSON object a line: {_NEEDED}")
        if left_out:
            warnings.warn(f"{path}: {_counted(left_out)} left out", stacklevel=4)

    def names(self, split: str) -> list[tuple[str, str]]:
        return sorted((name, game.kind) for name, (of, game, _) in self._games.items() if of == split)

    def game(self, name: str) -> Game:
        _, game, problem = self._games[name]
        return Game(
            game.kind, game.thing, game.receptacle, game.lamp, game.task, zlib.decompress(problem).decode()
        )

    def _take(self, line: str, where: str, left_out: Counter[str]) -> None:
        if not line.strip():
            return
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"no JSON: {error}", where=where, hint="make the file again") from error
        missing = [key for key in _NEEDED if key not in record] if isinstance(record, dict) else ["id"]
        if missing:
            raise InputError(
                f"no {missing[0]}", where=where, hint=f"a game has the keys {', '.join(_NEEDED)}"
            )
        if record["task_type"] not in KINDS or record["pddl_params"].get("object_sliced"):
            left_out["games with movable receptacles or slices"] += 1
            return
        if record["split"] not in SPLITS:
            left_out["games of no known split"] += 1
            return
        named = record["pddl_params"]
        game = Game(
            kind=record["task_type"],
            thing=named["object_target"],
            receptacle=named["parent_target"],
            lamp=named["toggle_target"],
            task=record["task_in_grammar"],
            problem="",
        )
        problem = zlib.compress(record["initial_state"].encode())
        self._games[record["id"]] = SPLITS[record["split"]], game, problem


def _open(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def _counted(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
