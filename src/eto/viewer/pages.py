"""What each page shows, as values for its template."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from eto.data.files import read_rows
from eto.data.texts import counted
from eto.errors import EtoError, InputError
from eto.evaluation.changes import GROUPS, verdict
from eto.evaluation.curve import CURVES
from eto.evaluation.results import natural
from eto.evaluation.table import duration
from eto.viewer.charts import changes_chart, curve_chart, rewards_chart
from eto.viewer.figures import agent_figures, by_agent, kind_figures, splits_of
from eto.viewer.filters import matching, parse_filter
from eto.viewer.index import Entry, phases_of
from eto.viewer.library import Library, Shown
from eto.viewer.tokens import marked_tokens
from eto.viewer.turns import beside, contrast_of, turn_figures

PAGE = 50
"""Rows of a list on one page."""
_DIGITS = 18
"""Of the largest number in an address; the store takes no larger ones."""


def runs_page(library: Library) -> dict[str, Any]:
    """Every run with the figures of the agent that it ships, or made last."""
    return {"runs": [_run_row(name, shown) for name, shown in library.runs().items()]}


def _run_row(name: str, shown: Shown) -> dict[str, Any]:
    facts, entries = shown.facts(), shown.index.entries()
    split = next(iter(splits_of(entries)), "")
    played = by_agent(entries, split, shown.agents())
    agent = facts.shipped if facts.shipped in played else next(reversed(played), "")
    figures = agent_figures({agent: played[agent]}, "") if agent else {}
    return {
        "name": name,
        "state": state_of(shown),
        "facts": facts,
        "split": split,
        "agent": agent,
        "figures": figures.get(agent),
        "episodes": len(entries),
        "seconds": duration(facts.seconds),
        "faults": shown.faults(),
    }


def run_page(shown: Shown) -> dict[str, Any]:
    """One run: agents, differences, task types, training curves, stages; `faults`, what could not be read."""
    facts, entries, agents = shown.facts(), shown.index.entries(), shown.agents()
    baseline = next(iter(agents), "")
    faults = shown.faults()
    splits = []
    for split in splits_of(entries):
        played = by_agent(entries, split, agents)
        figures = agent_figures(played, baseline)
        chart = rewards_chart(figures, f"reward on {split} tasks")
        splits.append((split, chart, figures, kind_figures(played)))
    charts = [
        (f"{stage}: {what}", chart)
        for stage, rows in _metrics(shown, faults).items()
        for what, unit, names in CURVES
        if (chart := curve_chart(rows, names, f"{stage}: {what}", unit))
    ]
    rounds = _rounds(shown, faults)
    guard = {s["stage"]: s["metrics"]["guard"] for s in facts.stages if s["metrics"].get("guard")}
    return {
        "facts": facts,
        "faults": faults,
        "baseline": baseline,
        "splits": splits,
        "charts": charts,
        "guard": guard,
        "times": [(each["stage"], duration(each["seconds"])) for each in facts.stages],
        "state": state_of(shown),
        "rounds": rounds,
        "phases": phases_of(entries),
        "changes": changes_of(shown),
    }


def _metrics(shown: Shown, faults: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Stage -> its rows of metrics.jsonl, up to the first that cannot be read."""
    stages: dict[str, list[dict[str, Any]]] = {}
    try:
        for row in read_rows(shown.directory / "metrics.jsonl", "stage"):
            stages.setdefault(str(row["stage"]), []).append(row)
    except EtoError as error:
        faults.append(f"the metrics cannot be read from here on: {error}")
    return stages


def _rounds(shown: Shown, faults: list[str]) -> list[str]:
    """The rounds that have pairs, those that cannot be read too."""
    names = sorted(
        (p.parent.name for p in shown.directory.glob("stages/contrast-*/pairs.jsonl")), key=natural
    )
    rounds = [name.removeprefix("contrast-") for name in names]
    for number in rounds:
        try:
            shown.pairs(number)
            shown.scores(number)
        except EtoError as error:
            faults.append(f"the pairs of round {number} cannot be read: {error}")
    return rounds


def changes_of(shown: Shown, split: str = "", agent: str = "", against: str = "") -> dict[str, Any]:
    """What became of the tasks of two agents: verdict -> pairs of entries; empty while there is one agent.
    Raises `InputError` for an agent that has not played."""
    facts, entries = shown.facts(), shown.index.entries()
    splits = splits_of(entries)
    split = split or next(iter(splits), "")
    played = by_agent(entries, split, shown.agents())
    agents, faults = list(played), shown.faults()
    if not agents or (len(agents) == 1 and not agent and not against):
        return {"agents": agents, "splits": splits, "split": split, "groups": {}, "faults": faults}
    against = against or agents[0]
    agent = agent or (facts.shipped if facts.shipped in agents and facts.shipped != against else agents[-1])
    for name in (agent, against):
        if name not in agents:
            hint = f"agents that have: {', '.join(agents)}"
            raise InputError(f"{name} has not played the {split} tasks", where=shown.name, hint=hint)
    before = {(e.task, e.sample): e for e in played[against] if not e.failed}
    groups: dict[str, list[tuple[Entry, Entry]]] = {name: [] for name in GROUPS}
    for entry in sorted(played[agent], key=lambda e: (e.task, e.sample)):
        other = before.get((entry.task, entry.sample))
        if other is not None and not entry.failed:
            groups[verdict(other, entry)].append((other, entry))
    return {
        "agents": agents,
        "splits": splits,
        "split": split,
        "agent": agent,
        "against": against,
        "groups": groups,
        "kinds": _by_kind(groups),
        "faults": faults,
    }


def episodes_page(shown: Shown, query: Mapping[str, str]) -> dict[str, Any]:
    """A page of the episodes that a filter lets through. Raises `InputError` for a filter that is none."""
    wanted = parse_filter(query.get("filter", ""))
    phase, text = query.get("phase", ""), query.get("text", "")
    entries = shown.index.entries()
    found = [e for e in entries if phase in ("", e.phase) and wanted(e)]
    if text:
        found = matching(shown.index, found, text)
    order = query.get("sort", "")
    if order:
        found.sort(key=lambda e: _sort_key(e, order.removeprefix("-")), reverse=order.startswith("-"))
    pages = max(1, -(-len(found) // PAGE))
    number = min(max(1, whole_number(query.get("page", "")) or 1), pages)
    return {
        "entries": found[(number - 1) * PAGE : number * PAGE],
        "count": len(found),
        "total": len(entries),
        "page": number,
        "pages": pages,
        "phases": phases_of(entries),
        "query": dict(query),
        "faults": shown.faults(),
    }


def whole_number(text: str) -> int | None:
    """The number that an address names; None for what is none, or larger than any row."""
    return int(text) if text.isdecimal() and len(text) <= _DIGITS else None


def episode_page(shown: Shown, row: int) -> dict[str, Any]:
    """One episode, with its neighbours in its phase and the task's other episodes."""
    entries = shown.index.entries()
    here = next((entry for entry in entries if entry.row == row), None)
    if here is None:
        raise InputError("there is no such episode", where=f"{shown.name}, row {row}")
    phase = sorted((e for e in entries if e.phase == here.phase), key=lambda e: (e.task, e.sample))
    at = phase.index(here)
    return {
        "entry": here,
        "episode": shown.index.episode(row),
        "before": phase[at - 1].row if at else None,
        "after": phase[at + 1].row if at + 1 < len(phase) else None,
        "same_task": task_entries(entries, here.task),
    }


def tokens_page(shown: Shown, row: int) -> dict[str, Any]:
    """An episode as tokens, those that carry loss marked; or why it cannot be shown so."""
    page = episode_page(shown, row)
    try:
        return {"entry": page["entry"], "tokens": marked_tokens(shown, page["episode"])}
    except EtoError as error:
        return {"entry": page["entry"], "tokens": None, "why": str(error)}


def task_entries(entries: Sequence[Entry], task: str) -> list[Entry]:
    """All episodes of a task, over all rounds."""
    order = {phase: number for number, phase in enumerate(phases_of(entries))}
    return sorted((e for e in entries if e.task == task), key=lambda e: (order[e.phase], e.sample))


def pairs_page(shown: Shown, number: str) -> dict[str, Any]:
    """The pairs of a round."""
    return {"pairs": list(enumerate(shown.pairs(number))), "round": number, "scored": shown.scores(number)}


def pair_page(shown: Shown, number: str, place: int) -> dict[str, Any]:
    """One pair of a round, side by side."""
    pairs, scored = shown.pairs(number), shown.scores(number)
    if not 0 <= place < len(pairs):
        raise InputError(f"round {number} has {counted(len(pairs), 'pair')}", where=shown.name)
    pair, scores, recipe = pairs[place], scored.get(place), shown.facts().recipe
    return {
        "pair": pair,
        "rows": beside(pair.chosen, pair.rejected, pair.shared_turns),
        "round": number,
        "place": place,
        "count": len(pairs),
        "scored": bool(scored),
        "scores": scores,
        "figures": turn_figures(pair, contrast_of(recipe) if recipe else None, scores),
        "changes_chart": changes_chart(scores) if scores else "",
    }


def compared_page(shown: Shown, left: int, right: int) -> dict[str, Any]:
    """Two episodes side by side."""
    one, other = shown.index.episode(left), shown.index.episode(right)
    return {"left": one, "right": other, "rows": beside(one, other)}


def state_of(shown: Shown) -> str:
    """`finished`; `runs`, with when it was written to last; or `stopped`."""
    if (shown.directory / "stages" / "test" / "DONE").exists():
        return "finished"
    if shown.under_way:
        ago = max(0, round(time.time() - shown.last_written))
        return f"runs, last written {duration(ago)} ago"
    return "stopped"


def _by_kind(groups: Mapping[str, Sequence[tuple[Entry, Entry]]]) -> list[tuple[str, list[int]]]:
    kinds = sorted({entry.kind for group in groups.values() for _, entry in group})
    return [(kind, [sum(e.kind == kind for _, e in group) for group in groups.values()]) for kind in kinds]


def _sort_key(entry: Entry, field: str) -> Any:
    if field not in Entry.__slots__:
        raise InputError(f"episodes have no {field!r} to sort by", where="sort")
    value = getattr(entry, field)
    return (value is None, value)
