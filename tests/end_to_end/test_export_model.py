"""Models taken out: the folder answers in plain `transformers` as the agent did."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from coin_game import RECIPE
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from eto.data.formats import read_trajectories
from eto.engines.actor import Actor
from eto.experiment.recipe import load_recipe
from eto.training.learner import load_learner
from eto.types import Message

GAME = Path(__file__).resolve().parents[2] / "examples" / "countdown" / "countdown.py"
SAID = [Message("system", "Answer with one action."), Message("user", "You are in the kitchen.")]


def own_answer(actor: Actor, longest: int) -> tuple[int, ...]:
    """The greedy action by the engine of `eto`, as ids."""

    async def act() -> tuple[int, ...]:
        async with actor.dialogue(SAID, room=longest) as dialogue:
            turn = await dialogue.act(actor.sampling(longest))
            return turn.action_ids

    return asyncio.run(act())


def plain_answer(folder: Path, dtype: str = "auto", **how: int) -> tuple[int, ...]:
    """The answer by `transformers` alone, with what the folder says."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    said = [{"role": each.role, "content": each.content} for each in SAID]
    prompt = tokenizer.apply_chat_template(
        said, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        return tuple(model.generate(**prompt, **how)[0, prompt["input_ids"].shape[1] :].tolist())


def typed(folder: Path, dtype: torch.dtype) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors = {name: each.to(dtype) for name, each in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_bfloat16_in_bfloat16_out_and_the_same_action(model, tmp_path, command):
    base, out = tmp_path / "base", tmp_path / "out"
    shutil.copytree(model, base)
    typed(base, torch.bfloat16)
    (base / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    command.succeeds("export-model", base, "--out", out)

    assert {each.dtype for each in load_file(out / "model.safetensors").values()} == {torch.bfloat16}
    assert "license: mit" in (out / "README.md").read_text(encoding="utf-8")
    how = GenerationConfig.from_pretrained(out)
    learner = load_learner(base, dtype="float32")
    assert set(how.eos_token_id) == set(learner.renderer.stops) and how.do_sample is False
    # Both in fp32, from the same weights: bfloat16 is the type of the file.
    assert plain_answer(out, "float32", max_new_tokens=24) == own_answer(learner.actor("a"), 24)
    command.fails("export-model", base, "--out", out, says=["--overwrite"])
    command.succeeds("export-model", base, "--out", out, "--dtype", "float32", "--overwrite")
    assert {each.dtype for each in load_file(out / "model.safetensors").values()} == {torch.float32}


def test_the_agent_of_a_run_with_its_card(model, tmp_path, command):
    run, out = tmp_path / "run", tmp_path / "agent"
    recipe = {**RECIPE, "run_directory": str(run), "model": {"path": str(model), "dtype": "float32"}}
    recipe["environment"] = {"name": f"{GAME}:Countdown", "workers": 1}
    recipe["tasks"] = {}
    recipe["method"] = {"name": "sft", "sft": RECIPE["method"]["sft"] | {"epochs": 3}}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    command.succeeds("run", path)
    command.succeeds("export-model", run, "--out", out, "--license", "cc0-1.0")

    trained = load_learner(run / "stages" / "sft" / "model", dtype="float32")
    assert plain_answer(out) == own_answer(trained.actor("a"), load_recipe(path).rollout.max_action_tokens)
    card = (out / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "cc0-1.0" and "base_model" not in front  # a directory is none on the Hub
    assert "| test tasks |" in card and "learning_rate: 0.002" in card and " train tasks, sha256 of" in card
    assert str(tmp_path) not in card
    code = card.split("```python\n")[1].split("```")[0].replace('folder = "."', f"folder = {str(out)!r}")
    exec(compile(code, "README.md", "exec"), {})
    played = tmp_path / "played"  # a run stands for the agent that it ships
    command.succeeds("compare-models", model, run, "--recipe", path, "--out", played, "--split", "dev")
    assert {t.task.id for t in read_trajectories(played / "second.jsonl")} == {"countdown/6", "countdown/7"}
    wrong = tmp_path / "wrong"
    command.fails("export-model", run, "--agent", "dpo", "--out", wrong, says=["its agents: sft"])
    command.fails("export-model", run, "--adapter", "keep", "--out", wrong, says=["no adapter by itself"])


def test_an_adapter_merged_or_by_itself(model, tmp_path, command):
    from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model

    adapter = tmp_path / "adapter"
    plain = AutoModelForCausalLM.from_pretrained(model)
    torch.manual_seed(0)
    config = LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj"], task_type="CAUSAL_LM")
    get_peft_model(plain, config).save_pretrained(adapter)
    command.succeeds("export-model", adapter, "--out", tmp_path / "merged")
    command.succeeds("export-model", adapter, "--out", tmp_path / "kept", "--adapter", "keep")

    ids = torch.arange(40)[None]
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    kept = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "kept")
    with torch.no_grad():
        expected = AutoPeftModelForCausalLM.from_pretrained(adapter)(ids).logits
        bare = AutoModelForCausalLM.from_pretrained(model)(ids).logits
        assert (expected - bare).abs().max() > 1e-2, "an adapter that changes nothing shows nothing"
        torch.testing.assert_close(merged(ids).logits, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(kept(ids).logits, expected)
    assert not (tmp_path / "kept" / "model.safetensors").exists()
    command.succeeds(
        *("export-model", adapter, "--out", tmp_path / "kept", "--adapter", "keep", "--overwrite"),
        *("--dtype", "bfloat16"),
    )
    large = {name: each * 1e6 for name, each in load_file(adapter / "adapter_model.safetensors").items()}
    save_file(large, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    for how in ("keep", "merge"):
        words = ("--out", tmp_path / "large", "--adapter", how, "--dtype", "float16")
        command.fails("export-model", adapter, *words, says=["too large for float16"])
    assert not list((tmp_path / "large").iterdir())


def test_gguf_by_the_converter_where_there_is_one(model, tmp_path, command, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setenv("PATH", "")
    command.fails("export-model", model, "--out", out, "--gguf", says=["--converter FILE", "not there"])
    assert not out.exists()
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text(
        "import sys, pathlib\nfolder, _, target, _, form = sys.argv[1:]\n"
        "assert (pathlib.Path(folder) / 'config.json').is_file()\n"
        "pathlib.Path(target).write_text(form)\n",
        encoding="utf-8",
    )
    command.succeeds("export-model", model, "--out", out, "--gguf", "--converter", script)
    assert (out / "out.gguf").read_text() == "f32"
    script.write_text("import sys\nsys.exit('Model LlamaX is not supported')\n", encoding="utf-8")
    command.fails(
        *("export-model", model, "--out", out, "--overwrite", "--gguf", "--converter", script),
        says=["LlamaX is not supported", "the folder itself is whole"],
    )
    assert not list(out.glob("*.gguf")), "no GGUF of an earlier model, and no half of one"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere/run"], "nowhere"),
        (["--dtype", "int4"], "unknown type"),
        (["--agent", "sft"], "no run here"),
        (["--converter", "convert.py"], "--converter: it concerns GGUF"),
        (["--push", "mine"], "give OWNER/NAME"),
        (["--push", "me/mine/too"], "give OWNER/NAME"),
    ],
)
def test_mistakes_are_told(model, tmp_path, command, words, says):
    arguments = words if not words[0].startswith("--") else [model, *words]
    command.fails("export-model", *arguments, "--out", tmp_path / "out", says=[says])


def test_a_push_without_a_login_is_told_before_the_work(model, tmp_path, command, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    words = ("export-model", model, "--out", tmp_path / "out", "--push", "me/mine")
    command.fails(*words, says=["nobody is logged in", "HF_TOKEN"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    command.fails(*words, says=["HF_HUB_OFFLINE is set"])
    assert not (tmp_path / "out").exists()
