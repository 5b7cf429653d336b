"""Which pages of a run a report holds, and by what its reader can choose among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from eto.data.texts import shown as as_text
from eto.errors import EtoError
from eto.types import Phase, Trajectory
from eto.viewer.index import Entry, phases_of
from eto.viewer.library import Shown

T = TypeVar("T")
Group = tuple[Entry, Entry]


@dataclass(frozen=True, slots=True)
class Page:
    """One of the viewer's pages, as a part of the file."""

    group: str
    """Under which heading it stands; "" for the run's own pages."""
    title: str
    template: str
    key: tuple[object, ...]
    """Kind and parts of the links that lead to it."""
    kind: str = ""
    """The type of its task."""
    change: str = ""
    """`gained`, `lost`, `kept` or `missed`; "" where no two agents are compared on it."""
    sides: tuple[Mapping[str, str], ...] = ()
    """`agent`, `outcome` and `stop` of each episode on it; none where it is a list."""


def sample_of(shown: Shown, run: Mapping[str, Any], changed: Mapping[str, Any], most: int) -> list[Page]:
    """The run's own pages, its lists of pairs, and of the rest at most `most` of each kind.

    run, changed: values of `pages.run_page` and `pages.changes_of`.
    """
    rounds = [number for number in run["rounds"] if _readable(shown, number)]
    sample = [*_whole(rounds), *_tasks(changed, most), *_pairs(shown, rounds, most)]
    return sample + _episodes(shown.index.entries(), changed["groups"], most)


def choices_of(sample: Sequence[Page]) -> dict[str, list[str]]:
    """What a reader can choose from: `agent`, `kind`, `outcome`, `change`, `stop`, each value once."""
    sides = [side for page in sample for side in page.sides]
    found = {name: [side[name] for side in sides] for name in ("agent", "outcome", "stop")}
    found |= {name: [getattr(page, name) for page in sample if page.sides] for name in ("kind", "change")}
    return {name: sorted({value for value in values if value}) for name, values in found.items()}


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of `items`, evenly spread, in their order."""
    count = min(max(0, most), len(items))
    return [items[number * len(items) // count] for number in range(count)]


def _readable(shown: Shown, number: str) -> bool:
    try:
        shown.pairs(number)
        shown.scores(number)
    except EtoError:  # the run's page says why
        return False
    return True


def _whole(rounds: Sequence[str]) -> list[Page]:
    """The pages that there are one of."""
    lists = [
        Page("Lists of pairs", f"pairs of round {each}", "pairs.html", ("pairs", each)) for each in rounds
    ]
    return [
        Page("", "run", "run.html", ("run",)),
        Page("", "what changed", "changes.html", ("changes",)),
        *lists,
    ]


def _tasks(changed: Mapping[str, Any], most: int) -> list[Page]:
    """Tasks that two agents played, those gained and lost first."""
    groups: dict[str, list[Group]] = changed["groups"]
    found: list[tuple[str, Entry, Entry]] = []
    for names in (("gained", "lost"), ("missed", "kept")):
        each = [(name, *pair) for name in names for pair in groups.get(name, ())]
        found += spread(each, most - len(found))
    return [
        Page(
            "Tasks beside each other",
            f"{after.task}, {name}",
            "beside.html",
            ("beside", before.row, after.row),
            as_text(after.kind),
            name,
            (_side_of(before), _side_of(after)),
        )
        for name, before, after in found
    ]


def _pairs(shown: Shown, rounds: Sequence[str], most: int) -> list[Page]:
    """Pairs of all rounds; where some are scored, those first."""
    pairs = {number: shown.pairs(number) for number in rounds}
    places = [(number, place) for number in rounds for place in range(len(pairs[number]))]
    scored = {number: shown.scores(number) for number in rounds}
    known = [each for each in places if each[1] in scored[each[0]]]
    rest = [each for each in places if each[1] not in scored[each[0]]]
    chosen = spread(known, most)
    chosen += spread(rest, most - len(chosen))
    return [
        Page(
            "Pairs",
            f"pair {place + 1} of round {number}: {pairs[number][place].task.id}",
            "pair.html",
            ("pair", number, place),
            as_text(pairs[number][place].task.kind),
            "",
            (_side(pairs[number][place].chosen), _side(pairs[number][place].rejected)),
        )
        for number, place in sorted(chosen, key=lambda each: (int(each[0]), each[1]))
    ]


def _episodes(entries: Sequence[Entry], groups: Mapping[str, Sequence[Group]], most: int) -> list[Page]:
    """Episodes of all phases but checks of checkpoints, in their order."""
    changes = {entry.row: name for name, group in groups.items() for both in group for entry in both}
    order = [text for text in phases_of(entries) if "/" not in Phase.parse(text).name]
    ordered = [entry for phase in order for entry in entries if entry.phase == phase]
    return [
        Page(
            "Episodes",
            f"{entry.task} in {entry.phase}" + (f", {entry.outcome}" if entry.outcome else ""),
            "episode.html",
            ("episode", entry.row),
            as_text(entry.kind),
            changes.get(entry.row, ""),
            (_side_of(entry),),
        )
        for entry in spread(ordered, most)
    ]


def _side_of(entry: Entry) -> dict[str, str]:
    return {"agent": as_text(entry.source), "outcome": entry.outcome, "stop": as_text(entry.stop)}


def _side(episode: Trajectory) -> dict[str, str]:
    return {"agent": as_text(episode.source), "outcome": episode.outcome, "stop": episode.stop.value}
