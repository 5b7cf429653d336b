"""Build sdist and wheel of this tree, the same bytes wherever and whenever they are built.

python scripts/build_package.py [FOLDER]        writes them to FOLDER, by default dist

The wheel is built of the sdist. `SOURCE_DATE_EPOCH` (seconds since 1970) dates all files inside; without it
the time of the last commit does.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("pyproject.toml", "README.md", "LICENSE", "src")
"""What a build reads. `src/eto/recipes` is a link, which is followed."""
EARLIEST = 315_532_800
"""1980, the first year that a zip file knows."""


def epoch() -> int:
    """`SOURCE_DATE_EPOCH`, else the time of the last commit, else 1980."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not given:
        command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
        try:
            given = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):  # no git, or no repository
            return EARLIEST
    if not given.isdecimal():
        sys.exit(f"SOURCE_DATE_EPOCH={given!r} is no whole number of seconds since 1970")
    return max(int(given), EARLIEST)


def build(out: Path) -> tuple[Path, Path]:
    """Wheel and sdist of this tree in `out`, which is made; nothing is left in the tree."""
    out.mkdir(parents=True, exist_ok=True)
    dated = epoch()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tree = work / "tree"
        tree.mkdir()
        for part in PARTS:
            if (ROOT / part).is_dir():
                without = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
                shutil.copytree(ROOT / part, tree / part, ignore=without)
            else:
                shutil.copy(ROOT / part, tree / part)
        _backend(f"build_sdist({str(work)!r})", tree, dated)
        [made] = work.glob("*.tar.gz")
        sdist = out / made.name
        sdist.write_bytes(repacked(made.read_bytes(), dated))
        shutil.unpack_archive(sdist, work / "unpacked")
        [source] = (work / "unpacked").iterdir()
        _backend(f"build_wheel({str(work)!r})", source, dated)
        [made] = work.glob("*.whl")
        return Path(shutil.move(made, out / made.name)), sdist


def repacked(archive: bytes, dated: int) -> bytes:
    """A `.tar.gz` with the same files in order of their names, without owners, all of one date and mode."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as old,
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=dated) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            plain = tarfile.TarInfo(member.name)
            plain.size, plain.type, plain.mtime = member.size, member.type, dated
            plain.mode = 0o755 if member.isdir() else 0o644
            new.addfile(plain, old.extractfile(member) if member.isfile() else None)
    return packed.getvalue()


def files_of(archive: Path) -> set[str]:
    """Names of the files in a wheel, or in an sdist below its one folder."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return set(wheel.namelist())
    with tarfile.open(archive) as sdist:
        return {member.name.split("/", 1)[1] for member in sdist.getmembers() if member.isfile()}


def in_tree() -> set[str]:
    """Files of the package in this tree, from `eto/` on, those of linked folders too."""
    source = ROOT / "src"
    found = set()
    for folder, _, names in os.walk(source / "eto", followlinks=True):
        if Path(folder).name != "__pycache__":
            found |= {(Path(folder) / name).relative_to(source).as_posix() for name in names}
    return found


def _backend(call: str, folder: Path, dated: int) -> None:
    command = [sys.executable, "-c", f"from setuptools import build_meta; build_meta.{call}"]
    variables = os.environ | {"SOURCE_DATE_EPOCH": str(dated)}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"building failed: {call}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    for path in build(Path(sys.argv[1] if len(sys.argv) > 1 else "dist")):
        print(f"written: {path}")
