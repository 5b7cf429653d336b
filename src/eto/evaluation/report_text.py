"""The report of a run: whole, as Markdown, and in short, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eto.data.texts import counted, markdown_code, markdown_text
from eto.evaluation.parts import Notes, Part, Rows, parts_markdown
from eto.evaluation.table import (
    agent_rows,
    bound_rows,
    difference_rows,
    duration,
    kind_rows,
    split_tables,
)
from eto.machine import hardware_line


def markdown(results: Mapping[str, Any]) -> str:
    """The whole report as Markdown, with the tables of every split."""
    parts: list[Part] = [f"# {markdown_text(results['recipe'])}", _facts(results)]
    for split in results["splits"]:
        parts.append(f"## {markdown_text(split.capitalize())} split")
        if split != "test":
            parts.append("Agents and checkpoints were chosen on this split; its figures are optimistic.")
        parts += [Rows(header, rows) for header, rows in split_tables(results, split).values() if rows]
    if notes := _notes(results):
        parts += ["## Notes", Notes(notes)]
    if results["stages"]:
        times = [[(stage["stage"],), (duration(stage["seconds"]),)] for stage in results["stages"]]
        times.append([("all",), (duration(results["seconds"]),)])
        parts += ["## Wall time", Rows(["stage", "time"], times)]
        if origin := results.get("taken_from"):
            stages = markdown_text(", ".join(origin["stages"]))
            run = markdown_code(origin["directory"])
            parts.append(f"Taken from the run {run}, with their times: {stages}.")
    return parts_markdown(parts)


def report_parts(results: Mapping[str, Any], split: str = "test") -> list[Part]:
    """The tables of one split, and the notes."""
    agents = results["splits"].get(split, {"agents": {}})["agents"]
    if not agents:
        return [f"no agent was evaluated on the {split} split yet"]
    title = f"{results['recipe']}: {split} split, mean and 95% interval"
    bounds = bound_rows(results["bounds"] if split == "test" else {})
    parts = [*summary_parts(agents, results["baseline"], title)]
    if bounds[1]:
        parts.append(Rows(*bounds))
    if notes := _notes(results):
        parts.append(Notes(notes))
    return parts


def summary_parts(agents: Mapping[str, Any], baseline: str, title: str) -> list[Part]:
    """Agents, differences to `baseline` and task types. agents: name -> summary as a dict."""
    parts: list[Part] = [Rows(*agent_rows(agents), title=title)]
    others = difference_rows(agents, baseline), kind_rows(agents)
    return [*parts, *(Rows(header, rows) for header, rows in others if rows)]


def _facts(results: Mapping[str, Any]) -> str:
    hardware = results["hardware"]
    seed = results["seeds"].get("seed")
    versions = ", ".join(f"{name} {version}" for name, version in (hardware["versions"] or {}).items())
    machine = [each for each in (hardware_line(hardware), hardware["platform"]) if each]
    return "\n".join(
        [
            f"- model {markdown_code(results['model'])} on {markdown_code(results['environment'])}, "
            f"seed {seed}",
            *(f"- {markdown_text(each)}" for each in (", ".join(machine), versions) if each),
            "- means over tasks with 95% bootstrap intervals; differences are paired on the same tasks",
        ]
    )


def _notes(results: Mapping[str, Any]) -> list[str]:
    """Sentences about pairs, guard, shipped agent and episodes set aside."""
    notes = []
    for iteration, metrics in results["pairs"].items():
        pairs = metrics["pairs"]
        total = sum(pairs.values()) if isinstance(pairs, Mapping) else pairs
        kinds = f" ({', '.join(f'{kind} {n}' for kind, n in pairs.items())})" if pairs != total else ""
        notes.append(f"iteration {iteration}: {counted(total, 'pair')}{kinds}")
    notes += [f"{stage} was stopped: {rule}" for stage, rule in results["guard"].items()]
    for split, content in results["splits"].items():
        for agent, figures in content["agents"].items():
            if figures["failed"]:
                notes.append(f"failed and set aside: {figures['failed']} of {agent}'s {split} episodes")
    if shipped := results["shipped"]:
        reason = f": {shipped['reason']}" if shipped["reason"] else ""
        notes.append(f"shipped: {shipped['agent']}{reason}")
    return notes
