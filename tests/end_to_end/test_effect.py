"""What is given for a command has an effect on it, or is refused by name; nothing trains unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from coin_game import write_recipe

from eto.cli.effect import COMMANDS, check_effect
from eto.experiment.recipe import load_recipe, parse_recipe

PAIR = {
    "id": "c",
    "prompt": [{"role": "user", "content": "Find the coin."}],
    "chosen": [{"role": "assistant", "content": "take coin"}],
    "rejected": [{"role": "assistant", "content": "move north"}],
}
ITEM = {
    "id": "x",
    "messages": [
        {"role": "user", "content": "Find the coin."},
        {"role": "assistant", "content": "take coin"},
    ],
}


@pytest.fixture
def recipe(tmp_path: Path, model: Path) -> Path:
    return write_recipe(tmp_path / "recipe.yaml", model, tmp_path / "run")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / f"{name}.jsonl" for name in ("pairs", "expert")}
    found["pairs"].write_text(json.dumps(PAIR) + "\n")
    found["expert"].write_text(json.dumps(ITEM) + "\n")
    return found


ARGUMENTS = {
    "expert": ("--out", "OUT"),
    "replay": ("EXPERT", "--out", "OUT"),
    "sft": ("--expert", "EXPERT", "--out", "OUT"),
    "explore": ("--out", "OUT"),
    "pairs": ("--expert", "EXPERT", "--explored", "EXPERT", "--out", "OUT"),
    "dpo": ("--pairs", "PAIRS", "--out", "OUT"),
    "evaluate": (),
}


@pytest.mark.parametrize(
    ("name", "override", "says"),
    [
        ("dpo", "method.sft.epochs=2", "read by `eto run`, `eto sft`"),
        ("dpo", "method.dpo={epochs: 1, rehearsal_weight: 1}", "give --rehearsal FILE"),
        ("dpo", "rollout.max_action_tokens=9", "rollout.max_action_tokens has no effect on `eto dpo`"),
        ("dpo", "method.contrast.margin_turns=1", "read by `eto run`, `eto pairs`"),
        ("dpo", "method.guard.dev_every_epoch=false", "read by `eto run`"),
        ("explore", "checkpoint_seconds=9", "read by `eto run`, `eto sft`, `eto dpo`"),
        ("dpo", "model={lora: {dropout: 0.1}}", "set method.dpo.dropout=true"),
        ("dpo", "environment.options={game: coin}", "environment.options has no effect"),
        ("sft", "method.dpo.beta=0.2", "read by `eto run`, `eto dpo`"),
        ("sft", "tasks.explore_unseen=0.5", "read by `eto run`"),
        ("expert", "model.path=embedded", "model.path has no effect on `eto expert`"),
        ("expert", "tasks.dev_per_kind=2", "tasks.dev_per_kind has no effect"),
        ("explore", "rollout.vllm.replicas=2", "no effect with rollout.engine=in_process"),
        ("evaluate", "rollout.ray={replicas: 2}", "rollout.ray.replicas has no effect with rollout.engine"),
        ("replay", "method.explore.temperature=0.5", "method.explore.temperature has no effect"),
        ("explore", "method.iterations=3", "read by `eto run`"),
        ("explore", "evaluation.temperature=0.5", "use method.explore.temperature"),
        ("explore", "model.lora={rank: 4}", "model.lora.rank has no effect"),
        ("evaluate", "method.explore.temperature=0.5", "use evaluation.temperature"),
        ("evaluate", "model.activation_checkpointing=true", "read by `eto run`, `eto sft`, `eto dpo`"),
        ("evaluate", "name=other", "read by `eto run`"),
        ("pairs", "method.contrast.turns=from_divergence", "read by `eto run`, `eto dpo`"),
        ("pairs", "method.dpo.beta=0.2", "read by `eto run`, `eto dpo`"),
    ],
)
def test_an_override_that_a_command_ignores_is_refused(
    name, override, says, recipe, files, tmp_path, command
) -> None:
    places = {"OUT": tmp_path / "out", "EXPERT": files["expert"], "PAIRS": files["pairs"]}
    arguments = [places.get(each, each) for each in ARGUMENTS[name]]
    command.fails(name, "--recipe", recipe, *arguments, override, says=[says, "hint: "])
    assert not (tmp_path / "out").exists()


def test_a_recipe_is_for_all_commands(recipe, files, tmp_path, model, command) -> None:
    """Sections of other stages stand in it, as in any recipe of a run."""
    dpo = ("dpo", "--recipe", recipe, "--pairs", files["pairs"], "--out", tmp_path / "a")
    command.succeeds(*dpo, "method.dpo.epochs=1")
    with_replay = write_recipe(recipe, model, tmp_path / "run", dpo={"rehearsal_weight": 1.0, "epochs": 1})
    dpo = ("dpo", "--recipe", with_replay, "--pairs", files["pairs"])
    command.fails(
        *dpo, "--out", tmp_path / "b", says=["method.dpo.rehearsal_weight is 1", "--rehearsal FILE"]
    )
    command.succeeds(*dpo, "--out", tmp_path / "b", "method.dpo.rehearsal_weight=0")
    command.succeeds(*dpo, "--out", tmp_path / "c", "--rehearsal", files["expert"])
    written = [(tmp_path / name / "model.safetensors").read_bytes() for name in "bc"]
    assert written[0] != written[1], "what is replayed is trained on"
    none = ("--rehearsal", files["expert"], "method.dpo.rehearsal_weight=0")
    command.fails(
        *dpo, "--out", tmp_path / "d", *none, says=["--rehearsal", "method.dpo.rehearsal_weight is 0"]
    )


def test_options_without_effect_are_refused(recipe, files, tmp_path, model, command) -> None:
    command.fails(
        *("sft", "--recipe", recipe, "--expert", files["expert"], "--out", tmp_path / "m"),
        *("--model", model, f"model.path={model}"),
        says=["model.path has no effect with --model"],
    )
    both = ("--expert", files["expert"], "--explored", files["expert"], "--out", tmp_path / "p.jsonl")
    for more in (("--format", "trl"), ("--recipe", recipe), ("method.contrast.min_gap=0.1",)):
        command.fails("pairs", "--rules", "reference", *both, *more, says=["--rules reference", "leave out"])


def test_a_run_without_rounds_has_nothing_to_optimise(recipe, command) -> None:
    for override in (
        "method.dpo.beta=0.2",
        "method.contrast.min_gap=0.1",
        "method.guard.patience=1",
        "method.explore={samples: 3, temperature: 1}",
    ):
        says = ["has no effect on `eto run`", "method.iterations above 0"]
        command.fails("run", recipe, "method.iterations=0", override, says=says)


def test_without_experts_nothing_is_cloned_first(recipe, command) -> None:
    none = ("method={name: practice}", "tasks.experts_per_kind=0")
    for override in ("method.sft.epochs=2", "tasks.explore_unseen=0.5"):
        says = ["has no effect without experts", "raise tasks.experts_per_kind"]
        command.fails("run", recipe, *none, override, says=says)
    overrides = [*none, "method.rft.epochs=3"]
    check_effect("run", load_recipe(recipe, overrides), overrides)


def test_the_smallest_trainings_move_weights(files, tmp_path, model, command) -> None:
    """One example, one epoch: one optimiser step, in the middle of every default's warm-up."""
    before = (model / "model.safetensors").read_bytes()
    for name, option in (("sft", "--expert"), ("dpo", "--pairs")):
        file, out = files[option[2:]], tmp_path / name
        command.succeeds(name, option, file, "--model", model, "--out", out, f"method.{name}.epochs=1")
        assert (out / "model.safetensors").read_bytes() != before


def test_pairs_that_are_alike_after_the_cut_are_counted_and_none_left_is_an_error(
    files, tmp_path, model, command
) -> None:
    loop = [
        {"role": "assistant", "content": "look around"},
        {"role": "user", "content": "You see a coin and a door. You are in the kitchen of the house."},
    ] * 8
    sides = {name: loop + PAIR[name] for name in ("chosen", "rejected")}
    alike = {**PAIR, **sides, "id": "alike"}
    dpo = (
        "dpo",
        "--pairs",
        files["pairs"],
        "--model",
        model,
        "method.dpo.epochs=1",
        "model.max_context=128",
        "--out",
    )
    files["pairs"].write_text(json.dumps(alike) + "\n")
    says = ["no pair is left", "cut to 128 tokens: 1 with equal sides ('", "raise model.max_context"]
    done = command(*dpo, tmp_path / "a")
    assert done.code == 2 and all(part in done.error for part in says), done
    files["pairs"].write_text("".join(json.dumps(each) + "\n" for each in (alike, PAIR)))
    with pytest.warns(UserWarning, match="1 of 2 pairs are left out, cut to 128 tokens"):
        command.succeeds(*dpo, tmp_path / "b")


def test_the_table_names_fields_there_are() -> None:
    recipe = parse_recipe("name: a\nenvironment: {name: b}\nmodel: {lora: {rank: 1}}\n").model_dump()
    for path in {each for reads in COMMANDS.values() for each in (*reads.fields, *reads.but)} - {""}:
        inner = recipe
        for key in path.split("."):
            assert key in inner, path
            inner = inner[key]
