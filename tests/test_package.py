"""What is in the wheel: all files of the package, and nothing else."""

from __future__ import annotations

from pathlib import Path

from scripts.check_package import build, in_tree, packaged


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    wheel, sdist = build(tmp_path)
    assert sdist.name.endswith(".tar.gz")
    found = packaged(wheel)
    assert found == in_tree()
    assert {"eto/py.typed", "eto/steps/__init__.pyi", "eto/viewer/templates/base.html"} <= found
