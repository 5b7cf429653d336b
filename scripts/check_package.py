"""Build wheel and sdist, and try the wheel in a fresh virtual environment outside this tree.

python scripts/check_package.py                         with this Python
python scripts/check_package.py PYTHON [PYTHON]...      with each of these that is installed
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("pyproject.toml", "README.md", "LICENSE", "src")
"""What a build reads."""
LONGEST_IMPORT = 1.0
"""Seconds of processor time for `import eto`."""
TRIAL = """
import time; begin = time.process_time(); import eto; seconds = time.process_time() - begin
from importlib.resources import files
assert "site-packages" in eto.__file__, eto.__file__
for name in ("py.typed", "viewer/templates/base.html", "training/optim4rl.safetensors"):
    assert files("eto").joinpath(*name.split("/")).is_file(), name
from eto.experiment.recipe import parse_recipe
parse_recipe("name: x\\nenvironment: {name: bandit}\\n")
print(seconds)
"""


def build(out: Path) -> tuple[Path, Path]:
    """Wheel and sdist of this tree in `out`; nothing is left in the tree. The wheel is built of the sdist."""
    copy = out / "tree"
    for part in PARTS:
        source, target = ROOT / part, copy / part
        if source.is_dir():
            without = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, target, ignore=without)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    backend = "from setuptools import build_meta; build_meta.build_sdist('..')"
    _run(sys.executable, "-c", backend, cwd=copy)
    [sdist] = out.glob("*.tar.gz")
    shutil.unpack_archive(sdist, out / "unpacked")
    [source] = (out / "unpacked").iterdir()
    _run(
        sys.executable,
        "-c",
        f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})",
        cwd=source,
    )
    [wheel] = out.glob("*.whl")
    return wheel, sdist


def packaged(wheel: Path) -> set[str]:
    """Files of the package in a wheel, from `eto/` on."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if name.startswith("eto/")}


def in_tree() -> set[str]:
    """Files of the package in this tree, from `eto/` on."""
    source = ROOT / "src"
    found = (path for path in (source / "eto").rglob("*") if path.is_file())
    return {path.relative_to(source).as_posix() for path in found if path.parent.name != "__pycache__"}


def try_with(python: str, wheel: Path, folder: Path) -> None:
    """Install the wheel with its dependencies in a new environment in `folder`; ends where that fails."""
    _run(python, "-m", "venv", str(folder))
    inside = folder / "bin" / "python"
    pins = str(ROOT / "constraints.txt")
    _run(str(inside), "-m", "pip", "install", "--quiet", "-c", pins, str(wheel), cwd=folder)
    _run(str(folder / "bin" / "eto"), "--version", cwd=folder)
    seconds = float(_run(str(inside), "-c", TRIAL, cwd=folder))
    if seconds > LONGEST_IMPORT:
        sys.exit(f"{python}: `import eto` takes {seconds:.2f} s, more than {LONGEST_IMPORT} s")
    print(f"{python}: installed; `import eto` takes {seconds:.2f} s")


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def main(pythons: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wheel, sdist = build(Path(folder))
        print(f"built {wheel.name} and {sdist.name}")
        if packaged(wheel) != in_tree():
            sys.exit(f"wheel and tree differ: {sorted(packaged(wheel) ^ in_tree())}")
        for number, python in enumerate(pythons or [sys.executable]):
            if shutil.which(python) is None:
                print(f"{python}: not installed here")
            else:
                try_with(python, wheel, Path(folder) / f"environment-{number}")


if __name__ == "__main__":
    main(sys.argv[1:])
