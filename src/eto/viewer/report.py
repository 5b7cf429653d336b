"""A run as one HTML file: the viewer's pages of a sample, with nothing to load from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

from markupsafe import Markup

from eto.errors import EtoError, InputError
from eto.types import Phase
from eto.viewer import pages
from eto.viewer.index import Entry, EpisodeIndex, phases_of
from eto.viewer.library import RUN_FILE, Shown
from eto.viewer.look import Link, href, templates
from eto.viewer.tokens import marked_tokens, model_of

LONGEST = 4_000
"""Characters of one text that a report shows."""
MOST = 200
"""Entries of a list that a report shows."""
LARGEST = 6_000_000
"""Characters of all pages; those that would go beyond it are left out, and counted."""
STATIC = Path(__file__).parent / "static"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """One of the viewer's pages, as a part of the file."""

    group: str
    """Under which heading it stands."""
    title: str
    template: str
    key: tuple[object, ...]
    """Kind and parts of the links that lead to it."""

    @property
    def anchor(self) -> str:
        return anchor_of(*self.key)


def anchor_of(*key: object) -> str:
    return "-".join(map(str, key))


def report_page(directory: Path, episodes: int = 12) -> str:
    """The run in `directory` as HTML. episodes: tasks, episodes and pairs to show, as many of each.

    Raises `InputError` where there is no run, or it cannot be read.
    """
    if not (directory / RUN_FILE).is_file():
        raise InputError("there is no run", where=str(directory), hint="name the directory of a run")
    directory = directory.resolve()
    shown = Shown(directory.name, directory, EpisodeIndex(directory / "trajectories.sqlite"))
    run, changed = pages.run_page(shown), pages.changes_of(shown)
    sample = [*_whole(run["rounds"]), *_tasks(changed, episodes), *_pairs(shown, run["rounds"], episodes)]
    sample += _episodes(shown.index.entries(), episodes)
    writer = _Writer(shown, {"run": run, "changes": changed})
    kept = _within(LARGEST, sample, [len(html) for html in writer.pages(sample)])
    return writer.file(kept, len(sample) - len(kept), episodes)


def _within(most: int, sample: Sequence[Page], sizes: Sequence[int]) -> list[Page]:
    """The first pages whose sizes add up to `most`, and at least the run's own."""
    totals = accumulate(sizes)
    return [page for page, total in zip(sample, totals, strict=True) if total <= most or not page.group]


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


def _tasks(changed: dict[str, Any], most: int) -> list[Page]:
    """Tasks that two agents played, those gained and lost first."""
    groups: dict[str, list[tuple[Entry, Entry]]] = changed["groups"]
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
        )
        for name, before, after in found
    ]


def _pairs(shown: Shown, rounds: Sequence[str], most: int) -> list[Page]:
    """Pairs of all rounds; where some are scored, those first."""
    places = [(number, place) for number in rounds for place in range(len(shown.pairs(number)))]
    scored = {number: shown.scores(number) for number in rounds}
    known = [each for each in places if each[1] in scored[each[0]]]
    rest = [each for each in places if each[1] not in scored[each[0]]]
    chosen = spread(known, most)
    chosen += spread(rest, most - len(chosen))
    return [
        Page("Pairs", f"pair {place + 1} of round {number}", "pair.html", ("pair", number, place))
        for number, place in sorted(chosen, key=lambda each: (int(each[0]), each[1]))
    ]


def _episodes(entries: Sequence[Entry], most: int) -> list[Page]:
    """Episodes of all phases but checks of checkpoints, in their order."""
    order = [text for text in phases_of(entries) if "/" not in Phase.parse(text).name]
    ordered = [entry for phase in order for entry in entries if entry.phase == phase]
    return [
        Page("Episodes", f"{entry.task} in {entry.phase}", "episode.html", ("episode", entry.row))
        for entry in spread(ordered, most)
    ]


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of `items`, evenly spread, in their order."""
    count = min(max(0, most), len(items))
    return [items[number * len(items) // count] for number in range(count)]


class _Writer:
    """Writes pages of one run as parts of a file."""

    def __init__(self, shown: Shown, known: dict[str, dict[str, Any]]) -> None:
        """known: values of pages, by kind, that are at hand."""
        self.shown, self._known = shown, known
        self._look = templates(LONGEST)

    def pages(self, sample: Sequence[Page]) -> list[Markup]:
        """HTML of each; they link to one another alone."""
        kept = {page.anchor for page in sample}
        return [self._page(page, kept) for page in sample]

    def _page(self, page: Page, kept: set[str]) -> Markup:
        kind, *parts = page.key
        values = self._known.get(str(kind)) or _values(self.shown, str(kind), parts)
        common = {
            **{"layout": "part.html", "run": self.shown.name, "base": "", "most": MOST},
            **{"at": f"{page.anchor}-", "link": _links(kept)},
        }
        return Markup(self._look.get_template(page.template).render(**values, **common))

    def file(self, sample: Sequence[Page], left_out: int, episodes: int) -> str:
        """All of `sample` in one document."""
        style = (STATIC / "style.css").read_text(encoding="utf-8")
        script = (STATIC / "view.js").read_text(encoding="utf-8")
        groups: dict[str, list[tuple[Page, Markup]]] = {}
        for page, html in zip(sample, self.pages(sample), strict=True):
            groups.setdefault(page.group, []).append((page, html))
        return self._look.get_template("report.html").render(
            run=self.shown.name,
            groups=groups,
            left_out=left_out,
            episodes=episodes,
            style=Markup(style),
            script=Markup(script),
            policy=Markup(
                f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
                f"script-src '{_digest(script)}'"
            ),
        )


def _values(shown: Shown, kind: str, parts: Sequence[Any]) -> dict[str, Any]:
    if kind == "pairs":
        return pages.pairs_page(shown, parts[0])
    if kind == "pair":
        return pages.pair_page(shown, parts[0], parts[1])
    if kind == "beside":
        return pages.compared_page(shown, parts[0], parts[1])
    found = pages.episode_page(shown, parts[0])
    return {**found, "tokens": _tokens(shown, found["episode"])}


def _tokens(shown: Shown, episode: Any) -> Any:
    """The episode as tokens, where the run has kept a tokenizer that can lay it out."""
    if model_of(shown) is None:
        return None
    try:
        return marked_tokens(shown, episode)
    except EtoError:
        return None


def _links(kept: set[str]) -> Link:
    """Links within the file: to what is in it, and no others."""

    def link(kind: str, *parts: object, **query: str) -> Markup:
        anchor = anchor_of(kind, *parts)
        return href(f"#{anchor}") if anchor in kept and not query else Markup("")

    return link


def _digest(text: str) -> str:
    """By which a content security policy knows what stands in the file: nothing else is run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
