"""`eto sweep`: settings varied one at a time, judged on dev tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eto.cli.compose import read_recipe
from eto.cli.progress import Progress
from eto.cli.tables import print_parts
from eto.data.files import disk_errors, write_atomic, write_json
from eto.errors import InputError, RecipeError
from eto.evaluation.compared import compared
from eto.evaluation.compared_text import compared_parts
from eto.evaluation.outcomes import outcome_of
from eto.evaluation.parts import Part, parts_markdown
from eto.evaluation.pooled import last_episodes
from eto.experiment.recipe_yaml import read_yaml

if TYPE_CHECKING:
    from eto.experiment.sweep import Variant

_EXAMPLE = "for example --vary method.dpo.beta=0.1,0.3"


def sweep_settings(
    recipe: Path, varied: Sequence[str], overrides: Sequence[str], seeds: int, out: Path, source: Path | None
) -> None:
    """Train the recipe and each variant of it with seeds 0 to `seeds` - 1 in `out`; write the table after
    each, and print it at the end. source: a run to take stages from, or a directory of `seed-<n>`."""
    from eto.experiment.sweep import sweep

    variants = _variants(recipe, varied, overrides)
    with Progress() as progress:

        def write() -> None:
            _write(*_tables(variants, seeds, out), out)

        sweep(variants, range(seeds), out, progress, _sources(source, seeds), write)
        table, parts = _tables(variants, seeds, out)
        progress.close()
        print_parts(parts, progress.console)
        _write(table, parts, out)
        progress.say(f"written: {out / 'sweep.md'}, {out / 'sweep.json'}")


def _variants(path: Path, varied: Sequence[str], overrides: Sequence[str]) -> list[Variant]:
    """The recipe as it is, then with each value."""
    from eto.experiment.sweep import BASE, Variant

    found = [Variant(BASE, read_recipe(path, overrides))]
    for each in varied:
        field, separator, text = each.partition("=")
        if not separator or not field.strip() or not text.strip():
            raise InputError(f"no values in {each!r}", where="--vary", hint=_EXAMPLE)
        found += [_variant(path, field.strip(), value, overrides) for value in _values(each, text)]
    if len(found) == 1:
        raise InputError("nothing is varied", where="--vary", hint=_EXAMPLE)
    return found


def _variant(path: Path, field: str, value: Any, overrides: Sequence[str]) -> Variant:
    from eto.experiment.sweep import Variant

    change = f"{field}={json.dumps(value)}"
    return Variant(change, read_recipe(path, [*overrides, change]))


def _values(given: str, text: str) -> Iterator[Any]:
    """The values of `FIELD=VALUE,VALUE`, as YAML."""
    try:
        values, _ = read_yaml(f"[{text}]", "--vary")
    except RecipeError as error:
        raise InputError(f"cannot read {given!r}: {error.problem}", where="--vary", hint=_EXAMPLE) from None
    yield from values


def _sources(source: Path | None, seeds: int) -> dict[int, Path]:
    if source is None:
        return {}
    by_seed = {seed: source / f"seed-{seed}" for seed in range(seeds)}
    there = {seed: path for seed, path in by_seed.items() if (path / "manifest.json").is_file()}
    if there:
        return there
    if not (source / "manifest.json").is_file():
        hint = "give the directory of a run, or one of runs called seed-0, seed-1, ..."
        raise InputError("there is no run here to take stages from", where=str(source), hint=hint)
    return {0: source}


def _tables(variants: Sequence[Variant], seeds: int, out: Path) -> tuple[dict[str, Any], list[Part]]:
    """What there is so far, as `compared` has it, and for a reader."""
    base = variants[0].label
    outcomes = {
        each.label: [outcome_of(run, out, "dev", last_episodes) for run in each.directories]
        for each in variants
    }
    table = compared(outcomes, {each.label: {base: base} for each in variants[1:]})
    waiting = [each.label for each in variants if not each.directories]
    notes = [f"no seed is finished yet: {', '.join(waiting)}"] if waiting else []
    parts = compared_parts(
        table, seeds=seeds, notes=notes, split="dev", agents="Last agents", others="the recipe as it is"
    )
    return table, parts


def _write(table: dict[str, Any], parts: Sequence[Part], out: Path) -> None:
    with disk_errors(out):
        write_json(out / "sweep.json", table)
        write_atomic(out / "sweep.md", parts_markdown(parts))
