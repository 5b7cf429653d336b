"""`eto export-model`: a trained agent, or any model, as a folder that other programs read."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from eto.cli.hub import check_push, push
from eto.cli.outputs import check_directory, new_model
from eto.cli.progress import Progress
from eto.cli.stopping import stopping
from eto.data.files import disk_errors, write_atomic
from eto.errors import InputError, MissingRequirement
from eto.evaluation import build_results
from eto.evaluation.model_card import CardFacts, model_card
from eto.experiment.fork import stages_of
from eto.experiment.recipe import Recipe, is_run, recipe_of_run
from eto.experiment.run_records import read_done

Adapter = Literal["merge", "keep"]
EMBEDDED = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The Hub's name of the embedded model, and below it its licence."""
EMBEDDED_LICENCE = "apache-2.0"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Options of the command."""

    agent: str = ""
    """Of a run; "" is the one that it ships."""
    adapter: Adapter = "merge"
    dtype: str = ""
    """"" is that of the base."""
    licence: str = ""
    """"" is the base's."""
    gguf: bool = False
    converter: Path | None = None
    push: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """A model, and the run it is from."""

    model: str
    base: str
    """The model whose type and licence it has by default."""
    recipe: Recipe | None = None
    agent: str = ""
    results: dict[str, Any] | None = None
    prompt: str = ""
    """What the agent's prompts end with."""


def export_model(what: str, out: Path, wanted: Wanted, overwrite: bool = False) -> None:
    """Write the agent of the run `what`, or the model `what`, to `out`. Raises `InputError` for what is not
    there or cannot be written so, `MissingRequirement` for a converter that is not installed."""
    script = _converter(wanted)
    if wanted.push:
        check_push(wanted.push)
    given = given_model(what, wanted.agent)
    local = Path(given.model).expanduser()
    check_directory(out, overwrite=overwrite, inputs={"the model": local if local.is_dir() else None})
    from eto.models.exporting import TYPES, stored_dtype, write_adapter, write_model
    from eto.models.loading import find_model
    from eto.training.learner import load_learner

    if wanted.dtype and wanted.dtype not in TYPES:
        hint = f"use {', '.join(TYPES)}"
        raise InputError(f"unknown type {wanted.dtype!r}", where="--dtype", hint=hint)
    source, base = find_model(given.model), _base_source(given, wanted)
    if wanted.adapter == "keep" and source.adapter is None:
        raise InputError(
            "there is no adapter by itself: runs save whole models, with adapters merged",
            where=f"--adapter keep, {given.model}",
            hint="leave --adapter out, or give a directory with adapter_config.json",
        )
    dtype = wanted.dtype or stored_dtype(base)
    progress = Progress()
    progress.say(f"{given.model} -> {out}, {dtype}")
    learner = load_learner(given.model)
    tokenizer = learner.renderer.saved_tokenizer
    longest = given.recipe.rollout.max_action_tokens if given.recipe else 256
    with new_model(out) as fresh:
        if wanted.adapter == "keep" and source.adapter is not None:
            named = str(Path(source.model).resolve()) if Path(source.model).is_dir() else source.model
            write_adapter(source.adapter, named, tokenizer, fresh, dtype)
        else:
            write_model(learner.model, tokenizer, fresh, dtype, learner.renderer.stops, longest)
        card = model_card(_facts(given, base, out, wanted, dtype), given.results)
        with disk_errors(fresh):
            write_atomic(fresh / "README.md", card)
    progress.say(f"model written: {out}")
    stopping.begin("export-model", f"the model in {out} is whole, what --gguf and --push add is not")
    if script is not None:
        progress.say(f"GGUF written: {_to_gguf(script, out, dtype)}")
    if wanted.push:
        push(out, wanted.push, "model")
        progress.say(f"pushed: {wanted.push}")


def given_model(what: str, agent: str = "") -> Given:
    """The agent of the run in the directory `what`, by default the one it ships; or the model `what`. Raises
    `InputError` where a run has no such agent."""
    directory = Path(what).expanduser()
    if not is_run(directory):
        if agent:
            hint = "give the directory of a run, or leave --agent out"
            raise InputError("there is no run here", where=f"--agent, {what}", hint=hint)
        return Given(what, what)
    recipe = recipe_of_run(directory)
    models = {
        stage.agent: directory / "stages" / stage.name / "model"
        for stage in stages_of(recipe)
        if stage.agent and (directory / "stages" / stage.name / "model" / "config.json").is_file()
    }
    results = build_results(directory)
    known = f"its agents: {', '.join(models)}" if models else "no stage holds one: let the run go on first"
    if not agent:
        if not results["shipped"]:
            problem = "the run is not finished, so that it ships no agent yet"
            hint = f"name one with --agent; {known}" if models else known
            raise InputError(problem, where=what, hint=hint)
        agent = results["shipped"]["agent"]
    if agent not in models:
        raise InputError(f"there is no model of an agent {agent!r}", where=f"--agent, {what}", hint=known)
    noted = read_done(models[agent].parent / "DONE")["metrics"].get("prompt", "")
    return Given(str(models[agent]), recipe.model.path, recipe, agent, results, noted)


def _base_source(given: Given, wanted: Wanted) -> str:
    """Directory or Hub id of the base; the model itself where the base is gone and nothing depends on it."""
    from eto.models.loading import find_model

    try:
        return find_model(given.base).model
    except InputError as error:
        if wanted.dtype and given.recipe:
            return given.model
        raise InputError(
            f"the base {given.base!r}, whose type it should have, cannot be found: {error.problem}",
            where=given.model,
            hint="name the type: --dtype bfloat16 or float32",
        ) from error


def _facts(given: Given, base: str, out: Path, wanted: Wanted, dtype: str) -> CardFacts:
    local = Path(base).is_dir()
    on_hub = given.base == "embedded" or not local
    name = EMBEDDED if given.base == "embedded" else Path(given.base).name if local else base
    recipe = ""
    if given.recipe:
        values = given.recipe.model_dump(mode="json", exclude_defaults=True)
        values.pop("run_directory", None)
        if local and given.base != "embedded":
            values["model"] = {**values.get("model", {}), "path": name}
        recipe = yaml.safe_dump(values, sort_keys=False)
    place = out.resolve().name
    title = f"{given.recipe.name}: {given.agent}" if given.recipe else place
    options = {"--agent": given.agent, "--dtype": dtype, "--adapter": wanted.adapter}
    words = ["eto", "export-model", Path(given.model).name if not given.recipe else given.recipe.name]
    words += [word for option, value in options.items() if value for word in (option, value)]
    return CardFacts(
        title=title,
        base=name,
        base_on_hub=on_hub,
        licence=wanted.licence or _licence_of(given.base, base),
        dtype=dtype,
        command=shlex.join([*words, "--out", place]),
        adapter=wanted.adapter == "keep",
        agent=given.agent,
        recipe=recipe,
        prompt=given.prompt,
    )


def _licence_of(named: str, base: str) -> str:
    """The licence that the base's own card names."""
    if named == "embedded":
        return EMBEDDED_LICENCE
    card = Path(base) / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8", errors="replace")
        if text.startswith("---\n"):
            try:
                front = yaml.safe_load(text[4:].partition("\n---")[0])
            except yaml.YAMLError:
                front = None
            if isinstance(front, dict) and isinstance(front.get("license"), str):
                return front["license"]
    return "unknown"


def _converter(wanted: Wanted) -> Path | None:
    """llama.cpp's script, where GGUF is asked for."""
    from eto.models.exporting import convert_script

    if not wanted.gguf:
        if wanted.converter:
            hint = "add --gguf, or leave it out"
            raise InputError("it concerns GGUF", where="--converter", hint=hint)
        return None
    if wanted.adapter == "keep":
        hint = "leave --adapter keep out"
        raise InputError("an adapter alone is no GGUF model", where="--gguf", hint=hint)
    if (script := convert_script(wanted.converter)) is None:
        raise MissingRequirement(
            "llama.cpp's convert_hf_to_gguf.py is not there",
            where=f"--converter {wanted.converter}" if wanted.converter else "--gguf",
            hint="get llama.cpp's sources, `pip install gguf`, and name the script with --converter FILE "
            "or put it on PATH",
        )
    return script


def _to_gguf(script: Path, folder: Path, dtype: str) -> Path:
    name = folder.resolve().name
    target, making = folder / f"{name}.gguf", folder / f".{name}.part.gguf"
    form = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}[dtype]
    command = [sys.executable, str(script), str(folder), "--outfile", str(making), "--outtype", form]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode or not making.is_file():
        making.unlink(missing_ok=True)
        said = (done.stderr.strip() or done.stdout.strip() or "it wrote no file").splitlines()[-1]
        raise InputError(
            f"llama.cpp's converter failed: {said[:300]}",
            where=str(script),
            hint="it must know the architecture and the tokenizer; the folder itself is whole",
        )
    return making.replace(target)
