"""Print the oldest versions that pyproject.toml admits, as a constraints file for pip.

python scripts/lower_bounds.py EXTRA...     the project's own dependencies and those of the extras

`make test-lower` installs these and runs the core tests. Raises `SystemExit` for a dependency
without a lower bound, and for an extra that does not exist.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def direct_requirements(project: dict[str, Any], extras: list[str]) -> Iterator[Requirement]:
    """The requirements of `project` and of `extras`, extras that extras name included."""
    waiting, seen = [*map(Requirement, project["dependencies"])], set[str]()
    waiting += [Requirement(f"{project['name']}[{','.join(extras)}]")] if extras else []
    while waiting:
        requirement = waiting.pop()
        if requirement.name != project["name"]:
            yield requirement
            continue
        for extra in requirement.extras - seen:
            seen.add(extra)
            if extra not in project["optional-dependencies"]:
                raise SystemExit(f"no extra {extra!r} in {PROJECT.name}")
            waiting += map(Requirement, project["optional-dependencies"][extra])


def lower_bounds(project: dict[str, Any], extras: list[str]) -> dict[str, str]:
    """Package, in pip's spelling -> its lower bound."""
    bounds: dict[str, str] = {}
    for requirement in direct_requirements(project, extras):
        least = [part.version for part in requirement.specifier if part.operator in (">=", "==", "~=")]
        if len(least) != 1:
            raise SystemExit(f"{PROJECT.name}: {requirement} has no lower bound")
        bounds[re.sub(r"[-_.]+", "-", requirement.name).lower()] = least[0]
    return bounds


def main() -> None:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    for name, version in sorted(lower_bounds(project, sys.argv[1:]).items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
