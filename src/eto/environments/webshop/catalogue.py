"""Products in the schemas of the original WebShop files.

`items_shuffle*.json` is a list of products, `items_ins_v2*.json` gives each its attributes and
perhaps an instruction, `items_human_ins.json` instructions that people wrote. Each may be gzipped.
"""

from __future__ import annotations

import gzip
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from eto.errors import InputError

CHUNK = 1 << 20
LONGEST_ASIN = 10
NO_PRICE = 100.0
"""What a product without a price costs, as in the original."""
NO_ATTRIBUTE = "DUMMY_ATTR"
_BETWEEN = re.compile(r"[\s,]*")
_NOT_A_NUMBER = re.compile(r"[^\d.]")


@dataclass(frozen=True, slots=True)
class Product:
    """What the shop shows of a product, and what its reward is computed from."""

    asin: str
    title: str
    description: str
    bullets: tuple[str, ...]
    price_tag: str
    prices: tuple[float, ...]
    """One price, or the lowest and the highest."""
    options: Mapping[str, tuple[str, ...]]
    """Values by the option's name, all in lower case."""
    category: str
    query: str
    product_category: str
    attributes: tuple[str, ...] = (NO_ATTRIBUTE,)
    instruction: str | None = None
    instruction_attributes: tuple[str, ...] = ()
    human: tuple[Mapping[str, Any], ...] = ()
    """Entries of `items_human_ins.json`."""


@dataclass(slots=True)
class Catalogue:
    """Products in the order of their file."""

    products: list[Product]
    skipped: Counter[str] = field(default_factory=Counter)
    """What was left out or mended, by reason."""
    by_asin: dict[str, Product] = field(init=False)

    def __post_init__(self) -> None:
        self.by_asin = {product.asin: product for product in self.products}


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
    found: dict[str, Path | None] = {}
    for kind, stem in (("items", "items_shuffle"), ("ins", "items_ins_v2"), ("human", "items_human_ins")):
        names = [f"{stem}{part}.json{end}" for part in ("", "_1000") for end in ("", ".gz")]
        found[kind] = next((directory / name for name in names if (directory / name).is_file()), None)
        if found[kind] is None and kind != "human":
            raise InputError(
                f"no {stem}.json or {stem}_1000.json, plain or gzipped",
                where=str(directory),
                mend="put the files of the WebShop release there (its README links them), or leave "
                "`data` out for the generated catalogue",
            )
    return Files(found["items"], found["ins"], found["human"])


def load_catalogue(files: Files) -> Catalogue:
    """All usable products of `files`; what is not usable is skipped and counted, and warned of once.

    Raises `InputError` for a file that is not UTF-8 or not JSON of the right form.
    """
    instructions = _read_object(files.instructions)
    human = _read_object(files.human) if files.human else {}
    return build_catalogue(_read_array(files.items), instructions, human, where=str(files.items))


def build_catalogue(
    items: Iterable[Any], instructions: Mapping[str, Any], human: Mapping[str, Any], where: str
) -> Catalogue:
    """A catalogue of products in the original schema; see `load_catalogue`."""
    skipped: Counter[str] = Counter()
    products: dict[str, Product] = {}
    for item in items:
        asin = item.get("asin") if isinstance(item, dict) else None
        if not isinstance(asin, str) or asin == "nan" or not 0 < len(asin) <= LONGEST_ASIN:
            skipped["products without a usable asin"] += 1
        elif asin in products:
            skipped["products listed twice"] += 1
        elif not isinstance(item.get("name"), str):
            skipped["products without a name"] += 1
        else:
            products[asin] = _product(item, instructions.get(asin), human.get(asin), skipped)
    missing = sum(1 for asin in human if asin not in products)
    if missing:
        skipped["products that have human instructions but are absent"] += missing
    if not products:
        raise InputError("no usable product", where=where, mend="is it a file of the WebShop release?")
    if skipped:
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
        warnings.warn(f"{where}: {told}", stacklevel=2)
    return Catalogue(list(products.values()), skipped)


def _product(item: Mapping[str, Any], extra: Any, human: Any, skipped: Counter[str]) -> Product:
    extra = extra if isinstance(extra, dict) else {}
    attributes = extra.get("attributes")
    bullets = item.get("small_description") or ""
    prices = _prices(item.get("pricing"), skipped)
    return Product(
        asin=item["asin"],
        title=item["name"],
        description=_text(item.get("full_description")),
        bullets=tuple(map(_text, bullets)) if isinstance(bullets, list) else (_text(bullets),),
        price_tag=" to ".join(f"${price}" for price in prices),
        prices=prices,
        options=_options(item.get("customization_options"), skipped),
        category=_text(item.get("category")),
        query=_text(item.get("query")).lower().strip(),
        product_category=_text(item.get("product_category")),
        attributes=tuple(attributes) if isinstance(attributes, list) else (NO_ATTRIBUTE,),
        instruction=extra.get("instruction"),
        instruction_attributes=tuple(extra.get("instruction_attributes") or ()),
        human=tuple(entry for entry in human if isinstance(entry, dict)) if isinstance(human, list) else (),
    )


def _prices(pricing: Any, skipped: Counter[str]) -> tuple[float, ...]:
    """Of "$12.5" or "$9.99 to $1,200"; `NO_PRICE` where there is none."""
    found = []
    for part in _text(pricing).split("$")[1:]:
        try:
            found.append(float(_NOT_A_NUMBER.sub("", part)))
        except ValueError:
            skipped["prices that cannot be read"] += 1
    if not found:
        skipped["products without a price, taken as 100 dollars"] += 1
    return tuple(found[:2]) or (NO_PRICE,)


def _options(given: Any, skipped: Counter[str]) -> dict[str, tuple[str, ...]]:
    options: dict[str, tuple[str, ...]] = {}
    for name, values in given.items() if isinstance(given, dict) else ():
        if values is None:
            continue
        if not isinstance(values, list):
            skipped["options that are no list"] += 1
            continue
        texts = [each.get("value") if isinstance(each, dict) else None for each in values]
        skipped["option values that are no text"] += sum(not isinstance(text, str) for text in texts)
        usable = [text.strip().replace("/", " | ").lower() for text in texts if isinstance(text, str)]
        options[name.lower()] = tuple(usable)
    skipped += Counter()  # drops zeros
    return options


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


# -- files --------------------------------------------------------------------------------


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        with _open(path) as stream:
            found = json.load(stream)
    except (OSError, EOFError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(found, dict):
        raise InputError("not a JSON object by asin", where=str(path), mend="is it a file of WebShop's?")
    return found


def _read_array(path: Path) -> Iterator[Any]:
    """The items of a JSON list one by one: the full file has a million products."""
    decoder, text, at = json.JSONDecoder(), "", 0
    try:
        with _open(path) as stream:
            text = stream.read(CHUNK).lstrip("\ufeff \t\r\n")
            if not text.startswith("["):
                raise InputError("not a JSON list", where=str(path), mend="is it a file of WebShop's?")
            at = 1
            while True:
                at = _BETWEEN.match(text, at).end()
                if text.startswith("]", at):
                    return
                try:
                    item, at = decoder.raw_decode(text, at)
                except json.JSONDecodeError:
                    # The item goes on beyond what was read, or is broken.
                    if not (chunk := stream.read(max(CHUNK, len(text) - at))):
                        raise
                    text, at = text[at:] + chunk, 0
                    continue
                yield item
    except (OSError, EOFError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"cannot be read: {error}", where=str(path), mend="fetch the file again; it must be UTF-8"
    )
