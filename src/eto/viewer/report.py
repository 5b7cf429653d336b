"""Runs as one HTML file: the viewer's pages of a sample, with nothing to load from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from eto.data.texts import shown as as_text
from eto.errors import EtoError, InputError
from eto.experiment.recipe import RUN_FILE
from eto.viewer import pages
from eto.viewer.index import EpisodeIndex
from eto.viewer.library import Shown
from eto.viewer.look import Link, href, templates
from eto.viewer.pooled import names_of, pooled_values
from eto.viewer.sample import Page, choices_of, sample_of
from eto.viewer.tokens import marked_tokens, model_of

LONGEST = 4_000
"""Characters of one text that a report shows."""
MOST = 200
"""Entries of a list that a report shows."""
LARGEST = 6_000_000
"""Characters of all pages; those that would go beyond it are left out, and counted."""
STATIC = Path(__file__).parent / "static"
_ASKED = {
    "run": "run",
    "agent": "agent",
    "kind": "task type",
    "outcome": "outcome",
    "change": "what changed",
    "stop": "ended",
}
"""What a reader chooses by -> how the form calls it."""


def report_page(directory: Path, episodes: int = 12) -> str:
    """The run in `directory` as HTML. episodes: tasks, episodes and pairs to show, as many of each.

    What cannot be read of a run is said on its page. Raises `InputError` where there is no run.
    """
    writer = _Writer(shown_run(directory), episodes, templates(LONGEST))
    kept, left_out = writer.within(LARGEST)
    return _document(writer.look, writer.shown.name, writer.parts(kept), episodes, left_out)


def pooled_page(directories: Sequence[Path], against: Sequence[Path] = (), episodes: int = 12) -> str:
    """Several runs as HTML: their pooled figures, and of each what `report_page` holds.

    against: runs to compare with, one for each. Raises `InputError` for a directory that is not a finished
    run, for one that is named twice, and where the numbers of runs differ.
    """
    values, names, look = pooled_values(directories, against), names_of(directories), templates(LONGEST)
    parts, left_out = [], 0
    for number, (directory, name) in enumerate(zip(directories, names, strict=True), start=1):
        writer = _Writer(shown_run(directory, name), episodes, look, f"r{number}-", pooled=True)
        kept, dropped = writer.within(LARGEST // len(directories))
        left_out += dropped
        parts += writer.parts(kept)
    links = {name: f"#r{number}-run" for number, name in enumerate(names, start=1)}
    front = look.get_template("pooled.html").render(**values, links=links, layout="part.html")
    order = list(dict.fromkeys(["Runs", *(part.page.group for part in parts)]))
    parts.sort(key=lambda part: order.index(part.page.group or "Runs"))
    return _document(look, f"{len(names)} runs", parts, episodes, left_out, Markup(front))


def shown_run(directory: Path, name: str = "") -> Shown:
    """The run in `directory` for the pages. Raises `InputError` where there is none."""
    if not (directory / RUN_FILE).is_file():
        raise InputError("there is no run", where=str(directory), hint="name the directory of a run")
    directory = directory.resolve()
    return Shown(name or directory.name, directory, EpisodeIndex(directory / "trajectories.sqlite"))


@dataclass(frozen=True, slots=True)
class _Part:
    """A page in the file."""

    run: str
    """Its run, where there are several; else ""."""
    anchor: str
    page: Page
    html: Markup

    @property
    def title(self) -> str:
        return f"{self.run}: {self.page.title}" if self.run else self.page.title

    @property
    def heading(self) -> str:
        """Under which it stands; "" where it stands open at the beginning."""
        return self.page.group or ("Runs" if self.run else "")


class _Writer:
    """Writes pages of one run as parts of a file."""

    def __init__(
        self, shown: Shown, episodes: int, look: Environment, prefix: str = "", *, pooled: bool = False
    ) -> None:
        """prefix: of the anchors; pooled: whether the file holds other runs too."""
        self.shown, self.look, self._prefix, self._pooled = shown, look, prefix, pooled
        run, changed = pages.run_page(shown), pages.changes_of(shown)
        self._known: dict[str, dict[str, Any]] = {"run": run, "changes": changed}
        self.sample = sample_of(shown, run, changed, episodes)

    def within(self, most: int) -> tuple[list[Page], int]:
        """The first pages whose sizes add up to `most`, and at least the run's own; how many are left out."""
        totals = accumulate(len(part.html) for part in self.parts(self.sample))
        each = zip(self.sample, totals, strict=True)
        kept = [page for page, total in each if total <= most or not page.group]
        return kept, len(self.sample) - len(kept)

    def parts(self, sample: Sequence[Page]) -> list[_Part]:
        """The pages of `sample`; they link to one another alone."""
        anchors = {page.key: anchor_of(self._prefix, *page.key) for page in sample}
        link = _links(self._prefix, set(anchors.values()))
        run = self.shown.name if self._pooled else ""
        return [_Part(run, anchors[page.key], page, self._html(page, link)) for page in sample]

    def _html(self, page: Page, link: Link) -> Markup:
        kind, *parts = page.key
        template = page.template
        try:
            values = self._known.get(str(kind)) or _values(self.shown, str(kind), parts)
        except EtoError as error:
            values, template = {"fault": str(error)}, "fault.html"
        common = {
            **{"layout": "part.html", "run": self.shown.name, "base": "", "most": MOST},
            **{"at": f"{anchor_of(self._prefix, *page.key)}-", "link": link},
        }
        return Markup(self.look.get_template(template).render(**values, **common))


def _document(
    look: Environment,
    title: str,
    parts: Sequence[_Part],
    episodes: int,
    left_out: int,
    front: Markup | str = "",
) -> str:
    """All of `parts` in one file. front: what stands before them."""
    style = (STATIC / "style.css").read_text(encoding="utf-8")
    script = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in ("view.js", "choose.js"))
    groups: dict[str, list[_Part]] = {}
    for part in parts:
        groups.setdefault(part.heading, []).append(part)
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; form-action 'none'; base-uri 'none'"
    )
    return look.get_template("report.html").render(
        name=title,
        home=parts[0].anchor if not front else "pooled",
        front=front,
        groups=groups,
        choices=_choices(parts),
        sampled=any(part.page.sides for part in parts),
        left_out=left_out,
        episodes=episodes,
        style=Markup(style),
        script=Markup(script),
        policy=Markup(policy),
    )


def _choices(parts: Sequence[_Part]) -> list[tuple[str, str, list[Markup]]]:
    """The lists of the form: field, what it is called, values; those alone that set parts apart. Values are
    whole, however long, for parts are found by them."""
    sided = [part for part in parts if part.page.sides]
    found: Mapping[str, list[str]] = {
        "run": list(dict.fromkeys(part.run for part in sided if part.run)),
        **choices_of([part.page for part in sided]),
    }
    asked = ((name, label, found[name]) for name, label in _ASKED.items())
    return [
        (name, label, [Markup(escape(as_text(value))) for value in values])
        for name, label, values in asked
        if len(values) > 1 or (values and name == "change")
    ]


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


def anchor_of(prefix: str, *key: object) -> str:
    return prefix + "-".join(map(str, key))


def _links(prefix: str, kept: set[str]) -> Link:
    """Links within the file: to what is in it, and no others."""

    def link(kind: str, *parts: object, **query: str) -> Markup:
        anchor = anchor_of(prefix, kind, *parts)
        return href(f"#{anchor}") if anchor in kept and not query else Markup("")

    return link


def _digest(text: str) -> str:
    """By which a content security policy knows what stands in the file: nothing else is run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
