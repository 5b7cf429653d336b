"""Build the package and try the wheel outside this tree, as one who has the wheel alone would.

python scripts/check_package.py              in an environment with this one's core dependencies alone
python scripts/check_package.py --fresh      the same, its dependencies installed by pip with the pins

The first way links the files of what the core needs, at the versions installed here, into a new
environment: extras, test tools and this tree are not in it, and nothing is fetched or unpacked.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import eto  # noqa: E402, F401 - sets the threads before torch is loaded
from scripts.build_package import build, epoch, files_of, in_tree  # noqa: E402

LONGEST = 1.0
"""Seconds of processor time for `import eto`, and for `eto --help`."""
PATHS = """
import pathlib, eto
from importlib.resources import files
assert pathlib.Path(eto.__file__).is_relative_to({prefix!r}), eto.__file__
for name in ("py.typed", "viewer/templates/base.html", "training/optim4rl.safetensors"):
    assert files("eto").joinpath(*name.split("/")).is_file(), name
"""
SMALL = (
    *(
        "environment.options.horizon=5",
        "tasks.train_per_kind=4",
        "tasks.dev_per_kind=2",
        "tasks.test_per_kind=2",
    ),
    *("method.sft.epochs=1", "rollout.max_action_tokens=4"),
)


def core(name: str = "eto-agent") -> dict[str, Distribution]:
    """What the package needs without extras, down to the last dependency. Ends where one is missing."""
    found: dict[str, Distribution] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(name, frozenset())]
    seen = set(waiting)
    while waiting:
        wanted, extras = waiting.pop()
        try:
            found[wanted] = distribution(wanted)
        except PackageNotFoundError:
            sys.exit(f"{wanted} is needed and not installed here; install the pins: make test")
        for line in found[wanted].requires or []:
            requirement = Requirement(line)
            if requirement.marker and not any(
                requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            ):
                continue
            following = (requirement.name, frozenset(requirement.extras))
            if following not in seen:
                seen.add(following)
                waiting.append(following)
    del found[name]
    return found


def link(packages: dict[str, Distribution], site: Path) -> None:
    """Links to the files of `packages` in the folder `site`, those of programs left out. A folder that is a
    package is one link; one that several packages may share is made, with links to its files."""
    for package in packages.values():
        files = [file for file in package.files or [] if ".." not in file.parts and file.suffix != ".pyc"]
        whole = {file.parts[0] for file in files if file.parts[1:] in (("__init__.py",), ("METADATA",))}
        for place in whole | {str(file) for file in files if file.parts[0] not in whole}:
            target = site / place
            if not os.path.lexists(target):  # venv brings setuptools with some Pythons
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(Path(str(package.locate_file(place))).resolve())


class Trial:
    """A new environment in `folder` with the wheel, and commands in it. All end the program on failure."""

    def __init__(self, folder: Path, wheel: Path, fresh: bool) -> None:
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        self.bin = folder / "environment" / "bin"
        run(sys.executable, "-m", "venv", str(self.bin.parent))
        pip = (str(self.bin / "python"), "-m", "pip", "install", "--quiet", "--no-compile")
        if fresh:
            run(*pip, "-c", str(ROOT / "constraints.txt"), str(wheel))
        else:
            [site] = self.bin.parent.glob("lib/python*/site-packages")
            link(core(), site)
            run(*pip, "--no-deps", str(wheel))
        self.eto("--version")  # compiles what every command loads

    def python(self, code: str) -> str:
        return run(str(self.bin / "python"), "-c", code, cwd=self.work)

    def eto(self, *words: str, code: int = 0) -> str:
        return run(str(self.bin / "eto"), *words, cwd=self.work, code=code)


def run(*command: str, cwd: Path | None = None, code: int = 0) -> str:
    """What a command prints on both streams. Ends the program where it exits with another code."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True)
    if done.returncode != code:
        sys.exit(f"{' '.join(command)}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def check_archives(first: tuple[Path, Path], second: tuple[Path, Path]) -> None:
    """Both builds alike; the wheel holds the package and its metadata, and no more."""
    for one, other in zip(first, second, strict=True):
        digest = hashlib.sha256(one.read_bytes()).hexdigest()
        if one.read_bytes() != other.read_bytes():
            sys.exit(f"{one.name}: two builds differ")
        print(f"{one.name}: {one.stat().st_size:,} bytes, sha256 {digest[:16]}, two builds alike")
    package = {name for name in files_of(first[0]) if ".dist-info/" not in name}
    if package != in_tree():
        sys.exit(f"wheel and tree differ: {sorted(package ^ in_tree())}")


def check_start(trial: Trial) -> None:
    """`import eto` and `eto --help` are quick, and the package is the installed one."""
    trial.python(PATHS.format(prefix=str(trial.bin.parent)))
    for name, words in {
        "import eto": [str(trial.bin / "python"), "-c", "import eto"],
        "eto --help": [str(trial.bin / "eto"), "--help"],
    }.items():
        run(*words)
        before = os.times()
        run(*words)
        after = os.times()
        seconds = after.children_user + after.children_system
        seconds -= before.children_user + before.children_system
        if seconds > LONGEST:
            sys.exit(f"`{name}` takes {seconds:.2f} s of processor time, more than {LONGEST} s")
        print(f"`{name}`: {seconds:.2f} s of processor time")


def check_first_steps(trial: Trial, model: Path) -> None:
    """Recipes, what is missing and how to get it, and a run from the first stage to the report."""
    assert "quickstart" in trial.eto("recipes")
    trial.eto("recipes", "--out", "recipes")
    extras = metadata("eto-agent").get_all("Provides-Extra") or []
    told = run(str(trial.bin / "python"), "-c", DOCTOR, cwd=trial.work)
    unknown = [extra for extra in extras if extra not in ("test", "bench") and extra not in told.split()]
    if unknown:
        sys.exit(f"`eto doctor` says nothing of {', '.join(unknown)}\n{told}")
    refused = trial.eto("run", "quickstart", f"model.path={model}", code=2)
    if "pip install 'eto-agent[textworld-express]'" not in refused:
        sys.exit(f"no remedy where an extra is missing:\n{refused}")
    trial.eto("run", "recipes/bandit.yaml", f"model.path={model}", *SMALL)
    results = json.loads((trial.work / "runs" / "bandit" / "results.json").read_text(encoding="utf-8"))
    if "sft" not in results["splits"]["test"]["agents"]:
        sys.exit(f"a run without results: {results}")
    print("recipes listed and written, extras told, a recipe run to its report")


DOCTOR = "from eto.cli.doctor import checks; print(*(check.name for check in checks()))"


def steps(fresh: bool) -> Iterator[str]:
    """The parts of the check, each named when it is done."""
    os.environ["SOURCE_DATE_EPOCH"] = str(epoch())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built = build(folder / "first")
        check_archives(built, build(folder / "second"))
        yield "built twice"
        trial = Trial(folder, built[0], fresh)
        yield "installed"
        check_start(trial)
        yield "started"
        from tiny import save_tiny

        check_first_steps(trial, save_tiny(folder / "model"))
        yield "first steps"


def main(words: list[str]) -> None:
    if set(words) - {"--fresh"}:
        sys.exit(__doc__)
    began = time.monotonic()
    for done in steps("--fresh" in words):
        print(f"{done}, {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
