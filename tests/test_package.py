"""What is in wheel and sdist, and that they are built alike at any time and place."""

from __future__ import annotations

import io
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from scripts.build_package import build, epoch, files_of, in_tree, repacked
from scripts.check_pythons import PYTHONS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("built"))


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built) -> None:
    wheel, _ = built
    package = {name for name in files_of(wheel) if ".dist-info/" not in name}
    assert package == in_tree()
    assert {"eto/py.typed", "eto/steps/__init__.pyi", "eto/viewer/templates/base.html"} <= package
    assert {"eto/recipes/quickstart.yaml", "eto/recipes/methods/eto.yaml"} <= package
    assert not any("test" in Path(name).name.split("_") for name in package)


def test_the_sdist_holds_what_building_needs_and_no_more(built) -> None:
    _, sdist = built
    files = {name for name in files_of(sdist) if ".egg-info/" not in name}
    source = {name.removeprefix("src/") for name in files if name.startswith("src/")}
    assert source == in_tree()
    others = {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO", "setup.cfg"}
    assert {name for name in files if not name.startswith("src/")} == others


def test_a_second_build_has_the_same_bytes(built, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(epoch()))
    for first, second in zip(built, build(tmp_path), strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes()


def test_an_archive_is_repacked_without_order_owner_mode_and_time() -> None:
    def archive(names: list[str], **marks: int) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = len(name)
                for mark, value in marks.items():
                    setattr(member, mark, value)
                tar.addfile(member, io.BytesIO(name.encode()))
        return packed.getvalue()

    one, other = archive(["a", "b"]), archive(["b", "a"], uid=7, mode=0o600, mtime=99)
    assert one != other
    assert repacked(one, 400_000_000) == repacked(other, 400_000_000)
    with tarfile.open(fileobj=io.BytesIO(repacked(other, 400_000_000))) as tar:
        assert [(m.name, m.mtime, m.mode) for m in tar] == [
            ("a", 400_000_000, 0o644),
            ("b", 400_000_000, 0o644),
        ]


def test_a_date_that_is_none_is_told(monkeypatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(SystemExit, match="SOURCE_DATE_EPOCH='yesterday'"):
        epoch()


def test_metadata_names_every_extra_and_python(built) -> None:
    wheel, _ = built
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    assert metadata["Requires-Python"] == ">=3.11"
    extras = metadata.get_all("Provides-Extra")
    assert {"scienceworld", "view", "ray", "files"} <= set(extras)
    page = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
    assert [extra for extra in extras if f"| `{extra}` |" not in page] == []
    pythons = {line.rsplit(" ", 1)[-1] for line in metadata.get_all("Classifier") if "Python :: 3." in line}
    assert "3.11" in pythons and pythons <= set(PYTHONS)
