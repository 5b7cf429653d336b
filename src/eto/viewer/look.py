"""How pages are written: their templates, and what a link leads to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup, escape

from eto.data.texts import shown as as_text

Link = Callable[..., Markup]
"""link(kind, *parts, **query) -> the `href` of a page, with a space in front; "" where there is none."""


def templates(longest: int | None = None) -> Environment:
    """The templates of all pages. longest: characters of a text from a run of which no more are shown."""

    def finalize(value: Any) -> Any:
        if isinstance(value, Markup):
            return value
        text = as_text("" if value is None else value)
        if longest is not None and len(text) > longest:
            return f"{text[:longest]}… [{len(text) - longest:,} more characters]"
        return text

    made = Environment(
        loader=PackageLoader("eto.viewer"),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    made.filters["svg"] = Markup  # of `charts`, which escapes what it is given
    made.filters["query"] = lambda values, **changes: urlencode({**values, **changes})
    return made


def href(target: str) -> Markup:
    """An attribute."""
    return Markup(f' href="{escape(target)}"')


def links_of(run: str) -> Link:
    """Links among the pages that the viewer serves; run: its name, "" on the list of runs."""

    def link(kind: str, *parts: object, **query: str) -> Markup:
        if kind == "runs":
            return href("/")
        if kind == "run":
            return href(f"/run/{quote(str(parts[0]) if parts else run)}")
        path = "/".join([kind, *(quote(str(part)) for part in parts)])
        return href(f"/run/{quote(run)}/-/{path}" + (f"?{urlencode(query)}" if query else ""))

    return link
