"""Task suites by name, and the machinery that runs their simulators.

Nothing heavy is imported here: a suite's module is loaded when its name is asked for.
"""

from __future__ import annotations

import inspect
from importlib import import_module

from eto.errors import InputError
from eto.protocols import TaskSuite

SUITES: dict[str, tuple[str, str]] = {
    "scienceworld": ("eto.environments.scienceworld", "ScienceWorld"),
    "textworld-express": ("eto.environments.textworld_express", "TextWorldExpress"),
}


def load_suite(name: str, **options: object) -> TaskSuite:
    """The task suite called `name`, made with its own `options`.

    Raises `InputError` for an unknown name, option or option value, and
    `MissingRequirement` where the simulator's package or Java is not installed.
    """
    if name not in SUITES:
        raise InputError(f"unknown environment {name!r}", mend=f"known ones: {', '.join(sorted(SUITES))}")
    module, attribute = SUITES[name]
    suite = getattr(import_module(module), attribute)
    known = inspect.signature(suite).parameters
    for option in options:
        if option not in known:
            raise InputError(
                f"unknown option {option!r}",
                where=f"environment {name}",
                mend=f"known ones: {', '.join(known)}",
            )
    return suite(**options)
