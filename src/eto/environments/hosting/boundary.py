"""The boundary to a user's task suite and environments: what they raise, and what they answer.

Every call of theirs goes through `user_code`, every answer through a `checked_…`: a fault of theirs is
an `EnvironmentFailure` with its reason and place, which costs one episode and never the run.
"""

from __future__ import annotations

import math
import os
import signal
import sysconfig
import threading
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, get_args

from eto.data.texts import whole
from eto.environments.hosting.failures import one_line
from eto.errors import EnvironmentFailure, EtoError, InputError
from eto.protocols import Step, TaskSuite
from eto.types import Message, Role, Task

LONGEST_TEXT = 1_000_000
"""Characters of one observation: more than most contexts hold, and little enough to tokenize."""
DEEPEST = 100
"""Levels of a task's payload."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_OURS = str(Path(__file__).resolve().parents[2])
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


@dataclass(frozen=True, slots=True)
class Begun:
    """What an episode begins with."""

    observation: str
    messages: tuple[Message, ...]
    """The prompt that the suite makes of it."""
    max_turns: int


@contextmanager
def user_code(call: str) -> Iterator[None]:
    """For one call of a user's suite or environment: what it raises becomes `EnvironmentFailure`.

    An `EtoError` stays what it is. The block holds the call alone, so that no fault of ours is taken
    for the environment's. Broad on purpose: exits, panics of compiled code and cancellations are no
    `Exception`, and must cost an episode anyway.
    """
    try:
        yield
    except (EtoError, KeyboardInterrupt):
        raise
    except BaseException as error:
        hint = f"{call} must not raise; a broken simulator raises EnvironmentFailure"
        if call == "step":
            hint = "answer an action that cannot be read with an observation; step must not raise"
        raise EnvironmentFailure(said(error), where=place(error) or call, hint=hint) from error


@contextmanager
def as_input_error(where: str, hint: str) -> Iterator[None]:
    """For the import or construction of a user's suite: what it raises becomes `InputError`."""
    try:
        with user_code("construction"):
            yield
    except EnvironmentFailure as failure:
        if failure.__cause__ is None:  # its own word for a simulator that fails
            raise
        raise InputError(f"{failure.problem} ({failure.where})", where=where, hint=hint) from failure


@contextmanager
def undisturbed() -> Iterator[None]:
    """For a user's code in this process: the working directory and the handling of signals stay as they
    are, so that relative paths and Ctrl-C mean afterwards what they meant before."""
    directory = os.open(".", os.O_RDONLY)
    in_charge = threading.current_thread() is threading.main_thread()  # no other may set handlers
    handlers = {number: signal.getsignal(number) for number in _SIGNALS if in_charge}
    try:
        yield
    finally:
        os.fchdir(directory)
        os.close(directory)
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)


def said(error: BaseException) -> str:
    """Type and message of an exception, on one line."""
    return whole(one_line("".join(traceback.format_exception_only(error))))


def place(error: BaseException) -> str:
    """file:line of the user's code that an exception came from, else of the last code it passed."""
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    outside = [each for each in places if not each[0].startswith((_OURS, "<"))]
    own = [each for each in outside if not each[0].startswith(_INSTALLED)]
    for location in (own, outside, places):
        if location:
            return f"{location[-1][0]}:{location[-1][1]}"
    return ""


def checked_text(value: Any, what: str) -> str:
    """`value` as text. Raises `EnvironmentFailure` for anything else, and for a text without end."""
    if not isinstance(value, str):
        raise EnvironmentFailure(f"{what} is {_kind(value)}, not text", hint="make it a str")
    if len(value) > LONGEST_TEXT:
        problem = f"{what} has {len(value):,} characters; at most {LONGEST_TEXT:,}"
        raise EnvironmentFailure(problem, hint="cut it in the environment to what an agent can read")
    return whole(str.__str__(value))


def checked_step(step: Any) -> Step:
    """`step` with plain Python values. Raises `EnvironmentFailure` where it breaks the contract."""
    hint = "return eto.protocols.Step(observation, reward, terminated, ...)"
    if isinstance(step, tuple) and len(step) in (4, 5):
        problem = f"step returned a tuple of {len(step)}, as Gymnasium's do, not a Step"
        raise EnvironmentFailure(problem, hint=hint)
    if not all(hasattr(step, name) for name in ("observation", "reward", "terminated")):
        raise EnvironmentFailure(f"step returned {_kind(step)}, not a Step", hint=hint)
    reward = checked_number(step.reward, "a reward")
    if not 0.0 <= reward <= 1.0:
        raise EnvironmentFailure(
            f"a reward is {reward}, not within 0 and 1",
            hint="scale it: the reward is what the trajectory is worth had it ended here",
        )
    success, score = getattr(step, "success", None), getattr(step, "score", None)
    return Step(
        checked_text(step.observation, "an observation"),
        reward,
        checked_flag(step.terminated, "terminated"),
        checked_flag(getattr(step, "truncated", False), "truncated"),
        None if success is None else checked_flag(success, "success"),
        None if score is None else checked_number(score, "a score"),
        checked_flag(getattr(step, "afresh", False), "afresh"),
    )


def checked_messages(given: Any) -> tuple[Message, ...]:
    """The prompt that `messages` returned. Raises `EnvironmentFailure` where it is none."""
    hint = "messages returns a tuple of eto.Message that ends on a user message"
    if not isinstance(given, Sequence) or not all(isinstance(each, Message) for each in given):
        kinds = ", ".join(sorted({_kind(each) for each in given})) if isinstance(given, list | tuple) else ""
        answer = f"{_kind(given)} of {kinds}" if kinds else _kind(given)
        raise EnvironmentFailure(f"the prompt is {answer}, not messages", hint=hint)
    if not given or given[-1].role != "user":
        raise EnvironmentFailure("the prompt does not end on a user message", hint=hint)
    made = []
    for message in given:
        if message.role not in get_args(Role):
            raise EnvironmentFailure(f"a message of the prompt has the role {message.role!r}", hint=hint)
        names = ("content", "reasoning", "tool_call_id", "name")
        texts = {name: checked_text(getattr(message, name), f"the {name} of a message") for name in names}
        made.append(replace(message, **texts))
    return tuple(made)


def checked_turns(given: Any) -> int:
    """The turn cap that `max_turns` returned. Raises `EnvironmentFailure` where it is none."""
    number = _plain(given)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        problem = f"max_turns is {number if isinstance(number, int | float) else _kind(number)}"
        raise EnvironmentFailure(problem, hint="max_turns returns a whole number from 1")
    return number


def checked_actions(given: Any) -> list[str] | None:
    """The actions that `expert_actions` returned. Raises `EnvironmentFailure` where they are none."""
    if given is None:
        return None
    if isinstance(given, str | bytes | Mapping) or not hasattr(given, "__iter__"):
        problem = f"expert_actions returned {_kind(given)}, not a list of actions"
        raise EnvironmentFailure(problem, hint="return a list of texts, or None where there is no expert")
    with user_code("expert_actions"):
        actions = list(given)
    return [checked_text(action, "an action of the expert") for action in actions]


def checked_suite(suite: Any, where: str) -> Any:
    """A user's suite. Raises `InputError` where it lacks what a suite must offer."""
    calls = ("tasks", "messages", "max_turns", "environment", "expert_actions", "spec")
    lacking = [name for name in ("name", "splits") if not hasattr(suite, name)]
    lacking += [name for name in calls if not callable(getattr(suite, name, None))]
    if lacking:
        hint = "src/eto/protocols.py states what a suite offers; examples/countdown is a complete one"
        raise InputError(f"its suite has no {', '.join(lacking)}", where=where, hint=hint)
    return suite


def checked_environment(environment: Any) -> Any:
    """What `environment` made. Raises `EnvironmentFailure` where it cannot be played."""
    lacking = [name for name in ("reset", "step", "close") if not callable(getattr(environment, name, None))]
    if lacking:
        problem = f"environment() made {_kind(environment)}, without {', '.join(lacking)}"
        raise EnvironmentFailure(problem, hint="return an object with reset, step and close")
    return environment


def listed_tasks(suite: TaskSuite, split: str) -> list[Task]:
    """`suite.tasks(split)`. Raises `EnvironmentFailure` where it fails, `InputError` for a list that
    cannot be played: what is not a task, an id that is not text or there twice."""
    with undisturbed(), user_code("tasks"):
        tasks = suite.tasks(split)
    where = f"environment {suite.name}, split {split}"
    if not isinstance(tasks, Sequence) or isinstance(tasks, str):
        raise InputError(f"tasks returned {_kind(tasks)}", where=where, hint="return a list of eto.Task")
    check_tasks(tasks, where)
    return list(tasks)


def check_tasks(tasks: Sequence[Task], where: str = "tasks") -> None:
    """Raises `InputError` for what is not a task, and for an id that is not text or there twice."""
    for problem, hint in task_faults(tasks):
        raise InputError(problem, where=where, hint=hint)


def task_faults(tasks: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """(problem, remedy) of everything by which `tasks` cannot be distinguished and written down."""
    for task in tasks:
        if not isinstance(task, Task):
            yield f"a task is {_kind(task)}", "make eto.Task(id, environment, kind, split, payload)"
            continue
        for name in ("id", "environment", "kind", "split"):
            value = getattr(task, name)
            if not isinstance(value, str):
                shown = one_line(repr(value))
                yield f"the {name} of a task is {shown}, {_kind(value)} and not text", "give it as text"
            elif whole(value) != value:
                yield (
                    f"the {name} of a task, {value!r}, is not valid Unicode text",
                    "leave out lone surrogates",
                )
    ids = Counter(task.id for task in tasks if isinstance(task, Task) and isinstance(task.id, str))
    for name, count in ids.items():
        if not name:
            yield "a task has no id", "give every task a stable id"
        elif count > 1:
            yield f"the task {name} occurs {count} times", "give each task an id of its own"


def payload_fault(payload: Any, name: str = "payload", depth: int = 0) -> str:
    """What in a task's payload JSON cannot hold, "" where there is nothing."""
    if depth == 0 and not isinstance(payload, Mapping):
        return f"{name} is {_kind(payload)}, not a mapping"
    if depth > DEEPEST:
        return f"{name[:80]}… is nested deeper than {DEEPEST} levels"
    if isinstance(payload, dict) or depth == 0:
        for key, value in payload.items():
            if not isinstance(key, str):
                return f"{name} has the key {key!r}, {_kind(key)} and not text"
            if fault := payload_fault(value, f"{name}.{key}", depth + 1):
                return fault
    elif isinstance(payload, list | tuple):
        for number, value in enumerate(payload):
            if fault := payload_fault(value, f"{name}[{number}]", depth + 1):
                return fault
    elif isinstance(payload, str) and whole(payload) != payload:
        return f"{name} is not valid Unicode text: leave out lone surrogates"
    elif payload is not None and not isinstance(payload, str | int | float):
        return f"{name} is {_kind(payload)}, which JSON does not have"
    return ""


def checked_spec(suite: TaskSuite) -> tuple[str, dict[str, Any]]:
    """`suite.spec()`. Raises `InputError` where no worker process can make the suite from it."""
    where = f"spec() of {type(suite).__name__}"
    with user_code("spec"):
        spec = suite.spec()
    if not (isinstance(spec, tuple | list) and len(spec) == 2 and isinstance(spec[0], str)):
        hint = 'return ("module:Class", {keyword arguments})'
        raise InputError(f"it is {spec!r}, not two values", where=where, hint=hint)
    if spec[0].startswith("__main__"):
        hint = "move the class into a module of its own, or use workers=0"
        raise InputError("worker processes cannot import a suite from a script", where=spec[0], hint=hint)
    if fault := payload_fault(spec[1], "the keyword arguments"):
        hint = "keep JSON values in it, from which the suite can be made again, or use workers=0"
        raise InputError(fault, where=where, hint=hint)
    return spec[0], dict(spec[1])


def checked_number(value: Any, what: str) -> float:
    """`value` as a finite number, NumPy's included. Raises `EnvironmentFailure` for anything else."""
    number = _plain(value)
    if not isinstance(number, Real):
        raise EnvironmentFailure(f"{what} is {_kind(value)}, not a number", hint="return a float")
    if not math.isfinite(number):
        raise EnvironmentFailure(f"{what} is {number}", hint="return a finite number")
    return float(number)


def checked_flag(value: Any, what: str) -> bool:
    """`value` as a bool, NumPy's, 0 and 1 included. Raises `EnvironmentFailure` for anything else."""
    flag = _plain(value)
    if not isinstance(flag, int) or flag not in (0, 1):
        raise EnvironmentFailure(f"{what} is {_kind(value)}, not True or False", hint="return a bool")
    return bool(flag)


def _plain(value: Any) -> Any:
    """A scalar of NumPy or torch, or an array of one number, as Python's; anything else as it is."""
    of_arrays = type(value).__module__.split(".")[0] in ("numpy", "torch")
    return value.item() if of_arrays and math.prod(getattr(value, "shape", (0,))) == 1 else value


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__
