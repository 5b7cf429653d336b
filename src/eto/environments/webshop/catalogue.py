"""The shop's products out of the original WebShop files.

`items_shuffle*.json` is a list of products, `items_ins_v2*.json` gives each its attributes and
perhaps an instruction, `items_human_ins.json` instructions that people wrote. Each may be gzipped.
The full ones have more than a million products: all are read piece by piece.
"""

from __future__ import annotations

import gzip
import json
import logging
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from eto.environments.webshop.cache import Stored, cached_store
from eto.environments.webshop.goals import GoalSources
from eto.environments.webshop.postings import Postings
from eto.environments.webshop.products import LONGEST_ASIN, read_product
from eto.environments.webshop.scratch import JsonTable
from eto.environments.webshop.search import searched_text
from eto.environments.webshop.store import Catalogue, ProductWriter
from eto.environments.webshop.words import analyse
from eto.errors import InputError

CHUNK = 1 << 20
LONGEST_VALUE = 1 << 26
"""Characters beyond which a value that does not end is taken for broken."""
PROGRESS = 100_000
"""Products after which the log says how far the reading is."""
_BETWEEN = re.compile(r"[\s,:]*")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Files:
    """Where the original files lie."""

    items: Path
    instructions: Path
    human: Path | None = None


def find_files(directory: Path) -> Files:
    """The files of `directory`; the full ones go before those of 1,000 products.

    Raises `InputError` that names the file that is missing.
    """
    files_by_role: dict[str, Path] = {}
    for role, stem in (("items", "items_shuffle"), ("ins", "items_ins_v2"), ("human", "items_human_ins")):
        names = [f"{stem}{part}.json{end}" for part in ("", "_1000") for end in ("", ".gz")]
        path = next((directory / name for name in names if (directory / name).is_file()), None)
        if path is not None:
            files_by_role[role] = path
        elif role != "human":
            raise InputError(
                f"no {stem}.json or {stem}_1000.json, plain or gzipped",
                where=str(directory),
                hint="put the files of the WebShop release there (its README links them), or leave "
                "`data` out for the generated catalogue",
            )
    return Files(files_by_role["items"], files_by_role["ins"], files_by_role.get("human"))


def load_catalogue(files: Files) -> Catalogue:
    """All usable products of `files`, by way of a store in the user's cache.

    What is not usable is skipped and counted, and warned of once a load. Raises `InputError` for a file
    that is not UTF-8 or not JSON of the right form, `MissingRequirement` where the cache cannot be written.
    """

    def build(directory: Path) -> Stored:
        texts, written = _read_pairs(files.instructions), _read_pairs(files.human) if files.human else ()
        with (
            JsonTable(directory / "instructions.sqlite", texts) as instructions,
            JsonTable(directory / "human.sqlite", written) as human,
            closing(ProductWriter(directory)) as writer,
        ):
            skipped = _write(writer, _read_items(files.items), instructions, human, str(files.items))
        return Stored(list(writer.categories), skipped)

    sources = [path for path in (files.items, files.instructions, files.human) if path]
    return _warned(cached_store(sources, build), where=str(files.items))


def build_catalogue(
    items: Iterable[Any], instructions: Mapping[str, Any], human: Mapping[str, Any], where: str
) -> Catalogue:
    """A catalogue in memory of products in the original schema; see `load_catalogue`."""
    writer = ProductWriter(None)
    skipped = _write(writer, items, instructions, human, where)
    return _warned(Catalogue(writer.products(), skipped), where)


def _warned(catalogue: Catalogue, where: str) -> Catalogue:
    if catalogue.skipped:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(catalogue.skipped.items()))
        warnings.warn(f"{where}: {counts}", stacklevel=3)
    return catalogue


def _write(
    writer: ProductWriter,
    items: Iterable[Any],
    instructions: Mapping[str, Any],
    human: Mapping[str, Any],
    where: str,
) -> Counter[str]:
    """Write the products, their goals and their index; what was skipped or repaired."""
    skipped: Counter[str] = Counter()
    goals, postings = GoalSources(), Postings(writer.arrays)
    for item in items:
        asin = item.get("asin") if isinstance(item, dict) else None
        if not isinstance(asin, str) or asin == "nan" or not 0 < len(asin) <= LONGEST_ASIN:
            skipped["products without a usable asin"] += 1
        elif asin in writer:
            skipped["products listed twice"] += 1
        elif not isinstance(item.get("name"), str):
            skipped["products without a name"] += 1
        else:
            product = read_product(item, instructions.get(asin), human.get(asin), skipped)
            writer.add(product)
            goals.add(product)
            postings.add(analyse(searched_text(product)))
            if writer.count % PROGRESS == 0:
                _log.warning("%s: %s products read", where, f"{writer.count:,}")
    missing = sum(1 for asin in human if asin not in writer)
    if missing:
        skipped["products that have human instructions but are absent"] += missing
    if not writer.count:
        raise InputError("no usable product", where=where, hint="is it a file of the WebShop release?")
    goals.write(writer.arrays)
    postings.write()
    writer.finish(postings.columns)
    return skipped


# -- files --------------------------------------------------------------------------------


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _read_items(path: Path) -> Iterator[Any]:
    """The items of a JSON list, one by one."""
    return _values(path, "[]", "a JSON list")


def _read_pairs(path: Path) -> Iterator[tuple[str, Any]]:
    """The names and values of a JSON object, one by one."""
    values = _values(path, "{}", "a JSON object by asin")
    for name in values:
        if not isinstance(name, str):
            raise _unreadable(path, ValueError(f"{name!r:.40} where a name should be"))
        try:
            yield name, next(values)
        except StopIteration:
            raise _unreadable(path, ValueError(f"{name!r:.40} has no value")) from None


def _end_of_gap(text: str, at: int) -> int:
    gap = _BETWEEN.match(text, at)
    return at if gap is None else gap.end()


def _values(path: Path, brackets: str, wanted: str) -> Iterator[Any]:
    """What a JSON list or object holds, one by one; of an object names and values in turn."""
    decoder, at = json.JSONDecoder(), 1
    try:
        with _open(path) as stream:
            text = stream.read(CHUNK).lstrip("\ufeff \t\r\n")
            if not text.startswith(brackets[0]):
                raise InputError(f"not {wanted}", where=str(path), hint="is it a file of WebShop's?")
            while True:
                at = _end_of_gap(text, at)
                if text.startswith(brackets[1], at):
                    break
                end, fault = len(text), None
                try:
                    value, end = decoder.raw_decode(text, at)
                except json.JSONDecodeError as error:
                    fault = error
                # What ends where the text read so far ends may go on beyond it.
                open_ended = end == len(text) and end - at < LONGEST_VALUE
                if open_ended and (chunk := stream.read(max(CHUNK, end - at))):
                    text, at = text[at:] + chunk, 0
                    continue
                if fault:
                    raise fault
                yield value
                at = end
            if text[at + 1 :].strip() or stream.read(CHUNK).strip():
                raise ValueError(f"more text after its closing {brackets[1]}")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"cannot be read: {error}", where=str(path), hint="fetch the file again; it must be UTF-8"
    )
