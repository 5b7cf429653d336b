"""The card of an exported model: README.md as model hubs read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from eto.data.texts import markdown_code, markdown_text
from eto.evaluation.table import Cell, interval_cell, markdown_table


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says of a model beyond its results."""

    title: str
    base: str
    """The model that it was trained from: a Hub id, or the name of a directory."""
    base_on_hub: bool
    licence: str
    """An identifier of model hubs, such as apache-2.0; `unknown` where nobody has said."""
    dtype: str
    command: str
    """The command that wrote the folder."""
    adapter: bool = False
    """Whether the folder holds an adapter alone."""
    agent: str = ""
    """Its name in its run; "" for a model without a run."""
    recipe: str = ""
    """The run's recipe, as YAML."""
    prompt: str = ""
    """What its prompts must end with."""


def model_card(facts: CardFacts, results: Mapping[str, Any] | None) -> str:
    """The card as Markdown. results: those of the model's run (`eto.evaluation.build_results`), if any."""
    parts = [_front_matter(facts), f"# {markdown_text(facts.title)}", _origin(facts, results)]
    if facts.prompt:
        parts.append(f"The last user message of its prompts ended with: {markdown_code(facts.prompt)}.")
    if results:
        parts += ["## Results", *_results(facts, results)]
        parts += ["## Data", _data(results)]
    parts += ["## Use", _use(facts)]
    if facts.recipe:
        parts += ["## Recipe", f"```yaml\n{facts.recipe.strip()}\n```"]
    parts.append(f"## Licence\n\n{_licence(facts)}")
    parts.append(f"Written by `eto`, in {facts.dtype}:\n\n```sh\n{facts.command}\n```")
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: CardFacts) -> str:
    values: dict[str, Any] = {
        "license": facts.licence,
        "library_name": "peft" if facts.adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["agent", "eto"],
    }
    if facts.base_on_hub:
        values["base_model"] = facts.base
        values["base_model_relation"] = "adapter" if facts.adapter else "finetune"
    return f"---\n{yaml.safe_dump(values, sort_keys=False)}---"


def _origin(facts: CardFacts, results: Mapping[str, Any] | None) -> str:
    kind = "A LoRA adapter of" if facts.adapter else "A language model trained from"
    text = f"{kind} {markdown_code(facts.base)}"
    if not results:
        return f"{text}, exported without a run: there are no results to report."
    where = markdown_code(results["environment"])
    return f"{text} to act in {where}: the agent {markdown_code(facts.agent)} of its run."


def _results(facts: CardFacts, results: Mapping[str, Any]) -> list[str]:
    parts = []
    baseline = results["baseline"]
    for split, content in results["splits"].items():
        figures = content["agents"].get(facts.agent)
        if figures is None:
            continue
        rows: list[list[Cell]] = []
        for name, each in content["agents"].items():
            if name in (facts.agent, baseline):
                row = [interval_cell(each[figure], 3, 3) for figure in ("reward", "success")]
                rows.append([(name,), (str(each["tasks"]),), *row])
        parts.append(markdown_table([f"{split} tasks", "tasks", "reward", "success rate"], rows))
        if difference := figures.get("difference"):
            cell = interval_cell(difference["reward"], 3, 3, sign="+")
            bounds = f" [{', '.join(cell[1:])}]" if len(cell) > 1 else ""
            parts.append(f"Reward beside {markdown_code(baseline)}, paired by task: {cell[0]}{bounds}.")
        if split != "test":
            parts.append("Agents were chosen on this split; its figures are optimistic.")
    if not parts:
        return ["This agent was not evaluated."]
    return [*parts, "Means over tasks with 95% bootstrap intervals, of one run with one seed."]


def _data(results: Mapping[str, Any]) -> str:
    lines = [f"- environment {markdown_code(results['environment'])}"]
    for split, tasks in (results.get("split_hashes") or {}).items():
        lines.append(
            f"- {tasks['tasks']} {markdown_text(split)} tasks, sha256 of their ids {tasks['sha256'][:12]}"
        )
    for iteration, metrics in results["pairs"].items():
        pairs = metrics["pairs"]
        count = sum(pairs.values()) if isinstance(pairs, Mapping) else pairs
        lines.append(f"- iteration {iteration}: {count} preference pairs")
    return "\n".join(lines)


def _use(facts: CardFacts) -> str:
    if facts.adapter:
        load = "from peft import AutoPeftModelForCausalLM as Model"
    else:
        load = "from transformers import AutoModelForCausalLM as Model"
    return f"""```python
{load}
from transformers import AutoTokenizer

folder = "."  # this one
model, tokenizer = Model.from_pretrained(folder, dtype="auto"), AutoTokenizer.from_pretrained(folder)
messages = [{{"role": "user", "content": "..."}}]  # the instruction and the first observation
prompt = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
answer = model.generate(**prompt)[0, prompt["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
```"""


def _licence(facts: CardFacts) -> str:
    if facts.licence == "unknown":
        return "Not stated. The licence of the base model applies."
    return f"{markdown_text(facts.licence)}. The licence of the base model applies too."
