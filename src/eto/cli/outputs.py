"""Outputs: refused before the work where they cannot be written or would cost the user a file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from eto.data.files import disk_errors, write_json
from eto.data.oserrors import unwritable
from eto.data.texts import shown
from eto.errors import InputError
from eto.models.checkpoint import ADAPTER, CONFIG, adapter_base

LINES = "JSON lines"
MARKDOWN = "Markdown"
HTML = "HTML"
DATA = "JSON, Parquet or Arrow"
LOG = "a log of Inspect"
_TEXTS = frozenset({".jsonl", ".json", ".ndjson"})
_ALIEN = frozenset(
    {
        *(
            ".parquet",
            ".arrow",
            ".feather",
            ".csv",
            ".tsv",
            ".xlsx",
            ".xls",
            ".npz",
            ".npy",
            ".pkl",
            ".pickle",
        ),
        *(".zip", ".tar", ".tgz", ".bz2", ".xz", ".zst", ".lz4", ".7z", ".db", ".sqlite", ".h5", ".hdf5"),
        *(
            ".yaml",
            ".yml",
            ".toml",
            ".xml",
            ".html",
            ".pdf",
            ".png",
            ".safetensors",
            ".bin",
            ".pt",
            ".gguf",
            ".eval",
        ),
    }
)
"""Endings of forms that no command writes."""
_PAGES = {MARKDOWN: ".md", HTML: ".html"}
_OF_A_MODEL = (
    *("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "*.bin"),
    *("*.bin.index.json", "adapter_*", "tokenizer*", "special_tokens_map.json", "added_tokens.json"),
    *("vocab*", "merges.txt", "chat_template*", "additional_chat_templates"),
    *("training.json", "metrics.jsonl", "adapters", "*.gguf"),
)
"""Files that a loader of models reads, and what `eto` writes of a training or of a model: none of an earlier
model may stay beside a new one's."""
_HEADS = (CONFIG, ADAPTER)
"""A directory with one of them holds a whole model: they are the first to go and the last to come."""
_SAVING = ".saving"
"""Where a model is written, in its directory. One that is still there was stopped."""


def check_file(
    out: Path,
    *,
    overwrite: bool,
    inputs: Mapping[str, Path | None],
    option: str = "--out",
    form: str = LINES,
) -> None:
    """Refuse a file that is an input, exists already, is not a place for one, or is named for another form.

    inputs: what the command reads or writes besides, by its name on the command line.
    """
    _check_name(out, form, option)
    try:
        _check_apart(out, inputs, option)
        if out.is_dir():
            raise InputError("this is a directory", where=str(out), hint=f"give {option} the name of a file")
        if os.path.lexists(out):
            if not (out.is_file() or out.is_symlink()):
                hint = f"give {option} the name of a file"
                raise InputError("this is a device or a pipe, no file", where=str(out), hint=hint)
            if not overwrite:
                raise _here_already(out, option)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
        _check_length(out)
    except OSError as error:
        raise unwritable(out, error) from error


def check_results(results: Path | None, *, overwrite: bool, inputs: Mapping[str, Path | None]) -> None:
    """`check_file` of what --results names, if anything."""
    if results:
        check_file(results, overwrite=overwrite, inputs=inputs, option="--results")


def write_results(results: Path | None, figures: Mapping[str, Any]) -> None:
    """Write figures as JSON where --results says, if it does."""
    if results:
        with disk_errors(results):
            write_json(results, figures)


def check_directory(out: Path, *, overwrite: bool, inputs: Mapping[str, Path | None]) -> None:
    """Refuse a directory for a model where something else is, or that an input lies in; make it."""
    try:
        _check_apart(out, inputs, "--out")
        if out.exists() and not out.is_dir():
            raise InputError("this is a file already", where=str(out), hint="give --out a new directory")
        if (out.resolve().parent / "DONE").exists():
            hint = "give --out another place"
            where = f"--out {shown(out, line=True)}"
            raise InputError("this belongs to a stage of a run", where=where, hint=hint)
        if out.is_dir() and any(out.iterdir()):
            whole = any((out / name).is_file() for name in _HEADS)
            if not whole and not (out / _SAVING).is_dir():
                hint = "give --out a new directory"
                raise InputError("the directory holds other files and no model", where=str(out), hint=hint)
            if whole and not overwrite:
                raise _here_already(out, "--out")
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise unwritable(out, error) from error


@contextmanager
def new_model(out: Path) -> Iterator[Path]:
    """A directory to save a model in; its files then take the place of an earlier model's in `out`.

    A save that fails leaves `out` as it was. Stopped at any point, `check_directory` admits it again.
    """
    fresh = out / _SAVING
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        with disk_errors(out):
            fresh.mkdir(parents=True)
        yield fresh
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    with disk_errors(out):
        _move_model(fresh, out)
        fresh.rmdir()


def _move_model(fresh: Path, out: Path) -> None:
    made = sorted(fresh.iterdir(), key=lambda path: path.name in _HEADS)
    earlier = [path for pattern in (*_HEADS, *_OF_A_MODEL) for path in out.glob(pattern)]
    for path in [*earlier, *(out / each.name for each in made)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path in made:
        path.replace(out / path.name)


def _check_name(out: Path, form: str, option: str) -> None:
    if str(out) == "-":
        hint = f"give {option} the name of a file"
        raise InputError("nothing is written to standard output", where=f"{option} -", hint=hint)
    endings = [ending.lower() for ending in out.suffixes[-2:]]
    packed = endings[-1:] == [".gz"]
    ending = endings[-2] if packed and len(endings) > 1 else endings[-1] if endings else ""
    text = form in _PAGES
    alien = (_ALIEN | _TEXTS | {*_PAGES.values(), ".gz"}) - {_PAGES[form]} if text else _ALIEN
    alien = alien - {".parquet", ".arrow"} if form == DATA and not packed else alien
    alien = alien - {".eval"} if form == LOG and not packed else alien
    if ending in alien or (packed and text):
        good = {**_PAGES, LOG: ".eval"}.get(form, ".jsonl or .jsonl.gz")
        problem = f"the name promises {ending}, but {form} is written"
        raise InputError(problem, where=f"{option} {shown(out, line=True)}", hint=f"let it end in {good}")


def _check_apart(out: Path, inputs: Mapping[str, Path | None], option: str) -> None:
    """An output that is an input, lies in one or around one is refused whatever was said."""
    for name, path in _read(inputs):
        if _same(out, path):
            problem = f"this is {name} too"
        elif path.is_dir() and _inside(out, path):
            problem = f"this lies in {name}, which is read"
        elif out.is_dir() and path.exists() and _inside(path, out):
            problem = f"{name} lies in here, and is read"
        else:
            continue
        raise InputError(
            problem, where=f"{option} {shown(out, line=True)}", hint=f"give {option} another place"
        )


def _read(inputs: Mapping[str, Path | None]) -> Iterator[tuple[str, Path]]:
    """Inputs by name, and the base that one of them is an adapter of."""
    for name, path in inputs.items():
        if path is None:
            continue
        yield name, path
        if (path / ADAPTER).is_file() and not (path / CONFIG).is_file():
            with suppress(InputError):  # it names none: the model's loader tells
                yield f"the base of {name}", Path(adapter_base(path)).expanduser()


def _same(first: Path, second: Path) -> bool:
    if first.exists() and second.exists():
        return first.samefile(second)
    return os.path.realpath(first) == os.path.realpath(second)


def _inside(inner: Path, outer: Path) -> bool:
    return Path(os.path.realpath(outer)) in Path(os.path.realpath(inner)).parents


def _check_length(out: Path) -> None:
    """The temporary file beside it must have a name too, which is longer."""
    longest = os.pathconf(out.parent, "PC_NAME_MAX")
    spare = 40
    if len(os.fsencode(out.name)) + spare > longest:
        problem = f"the name has {len(os.fsencode(out.name))} bytes; there is room for {longest - spare}"
        raise InputError(problem, where=str(out), hint="give a shorter name")


def _here_already(out: Path, option: str) -> InputError:
    hint = f"give {option} another name, or --overwrite to replace it"
    return InputError("there is something here already", where=str(out), hint=hint)


def inputs_of(**named: Path | str | None) -> dict[str, Path | None]:
    """Inputs by option: `expert=` stands for --expert. A model that is not a directory here is none."""
    inputs: dict[str, Path | None] = {}
    for name, path in named.items():
        given = Path(path) if path is not None else None
        if name == "model" and given is not None and not given.is_dir():
            given = None
        inputs["the input file" if name == "file" else f"--{name.replace('_', '-')}"] = given
    return inputs
