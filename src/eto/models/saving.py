"""Writing a model, and finding out beforehand that it cannot be written."""

from __future__ import annotations

import copy
import re
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from eto.data.files import disk_errors
from eto.errors import InputError
from eto.models.frozen import numbers
from eto.models.probe import FOREIGN


def save_model(model: Any, tokenizer: Any, directory: Path) -> None:
    """Write `model` as safetensors and its tokenizer.

    Raises `MissingRequirement` on a full disk, `InputError` where it cannot be written.
    """
    with disk_errors(directory):
        try:
            model.save_pretrained(directory)
        except SafetensorError as error:
            if (match := re.search(r"os error (\d+)", str(error))) is None:
                raise
            raise OSError(int(match[1]), str(error), str(directory)) from error
        tokenizer.save_pretrained(directory)


def check_savable(model: Any, tokenizer: Any, where: str) -> None:
    """Raises `InputError` for settings that `transformers` reads but refuses to write: a save after hours
    of training would fail by them. Everything but the weights is written, to a temporary directory."""
    parts = {"config.json": model.config, "generation_config.json": model.generation_config}
    with tempfile.TemporaryDirectory() as folder, disk_errors(Path(folder)):
        for name, part in {**parts, "tokenizer_config.json": tokenizer}.items():
            try:
                if part is not None:
                    copy.deepcopy(part).save_pretrained(folder)
            except FOREIGN as error:
                problem = " ".join(str(error).split())
                raise InputError(
                    f"a trained model could not be saved with these settings: {problem[:300]}",
                    where=f"{where}/{name}",
                    hint="correct or remove them there",
                ) from error


def model_bytes(model: Any) -> int:
    """Bytes of a saved model, which is in fp32."""
    return sum(4 * numbers(weight) for weight in model.parameters())
