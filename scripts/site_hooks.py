"""Hooks of mkdocs: links that leave docs/, pages that live outside of it, and the page of public names.

The pages are written for a reader of the repository; the site takes the same files.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "LOG.md")
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages of the repository's root, and the recipes to read."""
    recipes = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "recipes").rglob("*.yaml"))]
    for name in (*PAGES, *recipes):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_config(config: Any) -> Any:
    """Writes out `folder/*` in the navigation: the pages of a folder that it does not name."""
    named = set(_names(config.nav))
    config.nav = _written_out(config.nav, named)
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Points links out of docs/ at what the site has, and takes the others away, leaving their text."""
    if page.file.src_uri == "reference.md":
        return markdown.replace("<!-- names -->", _public_names())
    here = posixpath.dirname(page.file.src_uri)
    root = "" if page.file.src_uri in PAGES else "docs"

    def pointed(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        if re.match(r"[a-z]+:", target):
            return found[0]
        path = posixpath.normpath(posixpath.join(root, here, target))  # from the repository's root
        name = "index.md" if path == "README.md" else path.removeprefix("docs/")
        if files.get_file_from_path(name) is None:
            return re.sub(r"^!?\[([^\]]*)\]$", r"\1", text)
        return f"{text}({posixpath.relpath(name, here or '.')}{anchor})"

    return LINK.sub(pointed, markdown)


def _public_names() -> str:
    stub = ast.parse((ROOT / "src/eto/__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    named = [
        (f"eto.{node.module}" if node.module else "eto", alias.name)
        for node in imports
        for alias in node.names
    ]
    return "\n".join(
        f"::: {module}.{name}\n" for module, name in sorted(named, key=lambda pair: pair[1].lower())
    )


def _names(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    children = nav.values() if isinstance(nav, dict) else nav
    return [name for child in children for name in _names(child)]


def _written_out(nav: Any, named: set[str]) -> Any:
    if isinstance(nav, dict):
        return {title: _written_out(child, named) for title, child in nav.items()}
    if isinstance(nav, str):
        if not nav.endswith("/*"):
            return nav
        folder = ROOT / "docs" / nav.removesuffix("/*")
        pages = [f"{folder.name}/{path.name}" for path in sorted(folder.glob("*.md"))]
        return [page for page in pages if page not in named]
    written: list[Any] = []
    for child in nav:
        made = _written_out(child, named)
        written += made if isinstance(child, str) and isinstance(made, list) else [made]
    return written
