"""What a training by itself says of the agent it made: `training.json` beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eto.data.files import disk_errors, read_json, write_json

_FILE = "training.json"


def note_training(directory: Path, command: Mapping[str, Any], name: str) -> None:
    """Write what decided the training, and the agent's name, where it was given one."""
    path = directory / _FILE
    with disk_errors(path):
        write_json(path, {"name": name, **command} if name else command)


def name_of(model: str) -> str:
    """The name that `eto sft` or `eto dpo` gave to the model in a directory; "" where it has none."""
    path = Path(model).expanduser() / _FILE
    noted = read_json(path) if path.is_file() else {}
    name = noted.get("name") if isinstance(noted, dict) else None
    return name if isinstance(name, str) else ""
