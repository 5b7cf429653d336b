"""The card of an exported data set: README.md as model hubs read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from eto.data.exports import TABLE
from eto.data.texts import markdown_code, markdown_text
from eto.evaluation.table import Cell, interval_cell, markdown_table
from eto.types import Pair, Trajectory

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(slots=True)
class Counts:
    """What was written, counted while it passes."""

    records: int = 0
    rewards: float = 0.0
    solved: int = 0
    judged: int = 0
    """Episodes of which the environment says whether they solved their task."""
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)

    def of(self, records: Iterable[Trajectory | Pair]) -> Iterator[Trajectory | Pair]:
        """`records`, counted."""
        for record in records:
            self.records += 1
            self.kinds[record.task.environment, record.task.kind] += 1
            if isinstance(record, Trajectory):
                self.sources[record.source] += 1
                self.rewards += record.reward
                self.solved += record.success is True
                self.judged += record.success is not None
            yield record


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What a card says of a data set beyond its counts and the results of its run."""

    title: str
    pairs: bool
    form: str
    licence: str
    """An identifier of model hubs, such as apache-2.0; `unknown` where nobody has said."""
    command: str
    """The command that wrote the folder."""
    left_behind: str
    """What the form has no place for."""
    recipe: str = ""
    """The run's recipe, as YAML."""


def data_card(facts: DataFacts, counts: Counts, results: Mapping[str, Any] | None) -> str:
    """The card as Markdown. results: those of the run (`eto.evaluation.build_results`), if any."""
    parts = [_front_matter(facts, counts), f"# {markdown_text(facts.title)}", *_content(facts, counts)]
    if results:
        parts += ["## The run", *_run(results)]
    if facts.recipe:
        parts += ["## Recipe", f"```yaml\n{facts.recipe.strip()}\n```"]
    licence = "Not stated." if facts.licence == "unknown" else f"{markdown_text(facts.licence)}."
    parts.append(f"## Licence\n\n{licence} Texts of an environment stand under its own licence.")
    parts.append(f"Written by `eto`:\n\n```sh\n{facts.command}\n```")
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: DataFacts, counts: Counts) -> str:
    size = next((name for most, name in _SIZES if counts.records < most), "1M<n<10M")
    values: dict[str, Any] = {
        "license": facts.licence,
        "task_categories": ["text-generation"],
        "tags": ["agent", "eto", "preference" if facts.pairs else "trajectories"],
        "size_categories": [size],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": TABLE}]}],
    }
    return f"---\n{yaml.safe_dump(values, sort_keys=False)}---"


def _content(facts: DataFacts, counts: Counts) -> list[str]:
    what = "preference pairs" if facts.pairs else "episodes of agents"
    parts = [f"{counts.records} {what}, in the form {markdown_code(facts.form)}."]
    if not facts.pairs and counts.records:
        solved = f"; {counts.solved} of {counts.judged} solved their task" if counts.judged else ""
        parts.append(f"Mean reward {counts.rewards / counts.records:.3f}{solved}.")
        rows: list[list[Cell]] = [[(name,), (str(n),)] for name, n in counts.sources.most_common()]
        parts.append(markdown_table(["who acted", "episodes"], rows))
    rows = [[(env,), (kind,), (str(n),)] for (env, kind), n in sorted(counts.kinds.items())]
    parts.append(markdown_table(["environment", "task type", "records"], rows))
    if facts.left_behind:
        parts.append(f"{facts.left_behind}.")
    return parts


def _run(results: Mapping[str, Any]) -> list[str]:
    parts = [
        f"Played in {markdown_code(results['environment'])} from the model {markdown_code(results['model'])}."
    ]
    for split, content in results["splits"].items():
        rows: list[list[Cell]] = [
            [
                (name,),
                (str(each["tasks"]),),
                *(interval_cell(each[figure], 3, 3) for figure in ("reward", "success")),
            ]
            for name, each in content["agents"].items()
        ]
        parts.append(markdown_table([f"agent, {split} tasks", "tasks", "reward", "success rate"], rows))
    if results["splits"]:
        parts.append("Means over tasks with 95% bootstrap intervals, of one run with one seed.")
    return parts
