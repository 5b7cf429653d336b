"""Task suites by name, and the machinery that runs their simulators.

Nothing heavy is imported here: a suite's module is loaded when its name is asked for. Another
package adds a suite with an entry point of the group `eto.environments`:

    [project.entry-points."eto.environments"]
    my-game = "my_package.my_game:MyGame"

Without installing anything, `my_game:MyGame` and `path/to/my_game.py:MyGame` are names too.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

from eto.environments.hosting.boundary import as_input_error, checked_suite, undisturbed
from eto.environments.toolkit.options import check_types
from eto.errors import InputError, MissingRequirement
from eto.protocols import TaskSuite

GROUP = "eto.environments"
SUITES: dict[str, tuple[str, str]] = {
    "agentgym": ("eto.environments.remote.agentgym", "AgentGym"),
    "alfworld": ("eto.environments.alfworld.suite", "AlfWorld"),
    "bandit": ("eto.environments.bandit.suite", "Bandits"),
    "gymnasium": ("eto.environments.remote.gymnasium_text", "GymnasiumText"),
    "openenv": ("eto.environments.remote.openenv", "OpenEnv"),
    "scienceworld": ("eto.environments.scienceworld.suite", "ScienceWorld"),
    "scienceworld-eto": ("eto.environments.scienceworld.paper_tasks", "ScienceWorldEto"),
    "textworld": ("eto.environments.textworld.suite", "TextWorld"),
    "textworld-express": ("eto.environments.textworld_express.suite", "TextWorldExpress"),
    "webshop": ("eto.environments.webshop.suite", "WebShop"),
}


def suite_names() -> dict[str, str]:
    """Every known suite and where it comes from: `eto`, or the package that declares it."""
    names = {
        entry.name: entry.dist.name if entry.dist else entry.value for entry in entry_points(group=GROUP)
    }
    return dict(sorted(names.items())) | dict.fromkeys(SUITES, "eto")


def load_suite(name: str, /, **options: object) -> TaskSuite:
    """The task suite called `name`, made with its own `options`.

    Raises `InputError` for an unknown name, option or option value, and
    `MissingRequirement` where the simulator's package or Java is not installed.
    """
    suite = _suite_class(name)
    known = inspect.signature(suite).parameters
    for option in options:
        if option not in known:
            raise InputError(
                f"unknown option {option!r}",
                where=f"environment {name}",
                hint=f"known ones: {', '.join(known)}",
            )
    if missing := [option for option in required_options(name) if option not in options]:
        raise InputError(
            f"the option {missing[0]!r} is needed",
            where=f"environment {name}",
            hint="docs/recipes.md says what each option means",
        )
    check_types(suite, options, name)
    hint = "check the options; docs/recipes.md says what each means"
    with undisturbed(), as_input_error(f"environment {name}", hint):
        made = suite(**options)
    return checked_suite(made, f"environment {name}")


def required_options(name: str) -> list[str]:
    """Options without which the suite cannot be made. Raises as `load_suite`."""
    known = inspect.signature(_suite_class(name)).parameters.values()
    return [option.name for option in known if option.default is inspect.Parameter.empty]


def _suite_class(name: str) -> Callable[..., Any]:
    if ":" in name:
        return _class_of(name)
    if name in SUITES:
        module, attribute = SUITES[name]
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if (error.name or "eto").split(".")[0] == "eto":
                raise
            raise MissingRequirement(
                f"the package {error.name!r} is not installed",
                where=f"environment {name}",
                hint=f"pip install 'eto-agent[{name}]'",
            ) from error
    declared = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not declared:
        hint = f"known ones: {', '.join(suite_names())}; or module:Class, path/to/file.py:Class"
        raise InputError(f"unknown environment {name!r}", hint=hint)
    if len(declared) > 1:
        packages = ", ".join(entry.dist.name if entry.dist else entry.value for entry in declared)
        raise InputError(f"environment {name!r} is declared by {packages}", hint="uninstall all but one")
    return _load(declared[0])


def _load(entry: EntryPoint) -> Callable[..., Any]:
    where = f"environment {entry.name}, entry point {entry.value}"
    with undisturbed(), as_input_error(where, "fix or reinstall the package that declares it"):
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            raise InputError(
                f"its entry point {entry.value} cannot be imported: {error}",
                where=f"environment {entry.name}",
                hint="fix or reinstall the package that declares it",
            ) from error


def _class_of(name: str) -> Callable[..., Any]:
    """The class that `module:Class` or `path/to/file.py:Class` names. Its folder, or the working directory,
    joins the end of `sys.path`, which worker processes take over."""
    where = f"environment {name}"
    module, _, attribute = name.rpartition(":")
    file = Path(module).expanduser() if module.endswith(".py") else None
    if file is not None and not file.is_file():
        raise InputError("there is no such file", where=where, hint=f"looked in {file.absolute().parent}")
    if not attribute.isidentifier() or (file is None and not all(map(str.isidentifier, module.split(".")))):
        raise InputError("it names no class of a module", where=where, hint="such as my_game:MyGame")
    folder = str(file.absolute().parent if file is not None else Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    with undisturbed(), as_input_error(where, "see to the module: it is imported as Python does"):
        try:
            found = import_module(file.stem if file is not None else module)
        except ImportError as error:
            raise InputError(f"it cannot be imported: {error}", where=where, hint=f"from {folder}") from error
    if file is not None and not file.samefile(found.__file__ or "."):
        hint = "give the file another name"
        raise InputError(f"another module is called {file.stem}: {found.__file__}", where=where, hint=hint)
    made = getattr(found, attribute, None)
    if not callable(made):
        there = [key for key, value in vars(found).items() if inspect.isclass(value)]
        hint = f"it has {', '.join(sorted(there)) or 'no class'}"
        raise InputError(f"the module has no class {attribute}", where=where, hint=hint)
    return cast(Callable[..., Any], made)
