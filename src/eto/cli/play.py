"""`eto play`: one episode in the terminal, by hand, by an expert or by an agent that may be overruled.

The environment runs in this process and without deadlines, so that its player may take any time.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from eto.cli.outputs import check_file, inputs_of
from eto.cli.terminal import terminal
from eto.data.formats import write_trajectories
from eto.data.texts import counted, shown
from eto.environments.hosting.boundary import checked_environment, listed_tasks, user_code
from eto.environments.hosting.host import begin, take_step, verified_expert
from eto.errors import EngineFailure, EtoError, InputError, PromptTooLong
from eto.protocols import EngineFault
from eto.rollout.blocking import blocking
from eto.rollout.episode import Episode, turn_seed
from eto.types import StopReason, Task, Trajectory, Turn

if TYPE_CHECKING:
    from eto.engines.actor import Actor, Dialogue
    from eto.protocols import Environment, TaskSuite

HAND = "by-hand"
"""`source` of what a person played."""
LISTED = 60
"""Valid actions that are listed at a time."""
HELP = "type an action; `:actions [WORD]` lists valid ones, `:quit` ends the episode"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Options of the command."""

    task: str = ""
    split: str = "train"
    expert: bool = False
    model: str = ""
    temperature: float = 0.0
    seed: int = 0
    max_action_tokens: int = 256
    out: Path | None = None
    overwrite: bool = False


class Player(Protocol):
    """Who proposes actions."""

    name: str
    tokenizer: str | None
    """Fingerprint of the tokenizer of its turns' ids; None where they have none."""

    def propose(self, episode: Episode) -> Turn | None:
        """The next turn, without an observation; None where it has nothing more to say."""
        ...

    def heard(self, turn: Turn, own: bool) -> None:
        """What came of a turn; `own`: whether it was the proposed one."""
        ...


def play(suite: TaskSuite, wanted: Wanted) -> None:
    """Play one task of `suite`; writes the episode where `wanted.out` says. Raises `InputError` for a task
    or model that is not there, `EnvironmentFailure` where the environment fails."""
    if wanted.expert and wanted.model:
        raise InputError("only one of them can play", where="--expert, --model", hint="give one of the two")
    if wanted.out:
        check_file(wanted.out, overwrite=wanted.overwrite, inputs=inputs_of(model=wanted.model or None))
    task = _task(suite, wanted)
    with _environment(suite) as environment, ExitStack() as stack:
        player: Player | None = None
        if wanted.expert:
            player = _expert(suite, environment, task)
        elif wanted.model:
            player = stack.enter_context(closing(_Agent(wanted, task)))
        played = _Session(suite, environment, task, player, wanted.seed).play()
    if wanted.out:
        write_trajectories(wanted.out, [played])
        terminal().print(f"episode written: {wanted.out}", soft_wrap=True)


class _Session:
    """One episode and its conversation with the person."""

    def __init__(
        self, suite: TaskSuite, environment: Environment, task: Task, player: Player | None, seed: int
    ) -> None:
        self._suite, self._environment, self._player = suite, environment, player
        self._console = terminal(soft_wrap=True)
        self._episode = Episode(task, player.name if player else HAND, seed)

    def play(self) -> Trajectory:
        """The episode, from reset to end."""
        episode = self._episode
        begun = begin(self._suite, self._environment, episode.task)
        episode.messages = begun.messages
        episode.tokenizer = self._player.tokenizer if self._player else None
        self._say(f"{episode.task.id}, at most {counted(begun.max_turns, 'turn')}")
        for message in episode.messages:
            self._say(f"[{message.role}]\n{message.content}")
        self._say(HELP if self._player is None else f"Enter takes what {self._player.name} proposes; {HELP}")
        own = others = 0
        stop: StopReason | None = None
        while stop is None and len(episode.turns) < begun.max_turns:
            chosen = self._choose(len(episode.turns) + 1)
            if chosen is None:
                break
            turn, proposed = chosen
            own, others = own + proposed, others + (not proposed)
            stop = episode.add(turn, take_step(self._environment, turn.action))
            if self._player is not None:
                self._player.heard(episode.turns[-1], proposed)
            self._show(episode)
        if others:
            episode.source = f"{episode.source}+{HAND}" if own else HAND
        ended = episode.ended(stop or StopReason.OUT_OF_TURNS)
        solved = {True: "solved", False: "not solved", None: "success not told"}[ended.success]
        turns = counted(len(ended.turns), "turn")
        self._say(f"ended ({ended.stop.value}): reward {ended.reward:g}, {solved}, {turns}")
        return ended

    def _choose(self, number: int) -> tuple[Turn, bool] | None:
        """The next turn, and whether it is the player's; None: the person ends the episode."""
        offer = self._player.propose(self._episode) if self._player else None
        if self._player is not None and offer is None:
            self._say(f"{self._player.name} has nothing more to propose: go on by hand")
            self._player = None
        if offer is not None and self._player is not None:
            self._say(f"{number} {self._player.name}> {offer.action}")
        while True:
            line = self._read(f"{number} > ")
            if line is None or line.strip() == ":quit":
                return None
            if line.strip().split(" ")[0] == ":actions":
                self._list(line.strip().removeprefix(":actions").strip())
            elif line.strip():
                return Turn(line, ""), False
            elif offer is not None:
                return offer, True
            else:
                self._say(HELP)

    def _read(self, prompt: str) -> str | None:
        """A line of the person's; None at the end of the input. Raises `InputError` where there is none, or
        no text."""
        if sys.stdin is None:
            hint = "start it in a terminal, or pipe actions into it"
            raise InputError("it is closed", where="standard input", hint=hint)
        interactive = sys.stdin.isatty()
        if interactive:
            with suppress(ImportError):
                import readline  # noqa: F401  # by which a line can be edited
        try:
            line = input(prompt)
        except EOFError:
            self._say("")
            return None
        except UnicodeDecodeError as error:
            hint = f"write it in {error.encoding}"
            raise InputError(f"it is not text: {error.reason}", where="standard input", hint=hint) from None
        if not interactive:  # a terminal has shown it already
            self._say(line)
        return line

    def _list(self, word: str) -> None:
        known = getattr(self._environment, "valid_actions", None)
        if known is None:
            self._say("this environment does not list its valid actions")
            return
        with user_code("valid_actions"):
            valid = [str(each) for each in known()]
        valid = [each for each in valid if word.lower() in each.lower()]
        for each in valid[:LISTED]:
            self._say(f"  {each}")
        if len(valid) > LISTED:
            self._say(f"  and {len(valid) - LISTED} more; `:actions WORD` lists those with a word")
        if not valid:
            self._say("  none")

    def _show(self, episode: Episode) -> None:
        turn, last = episode.turns[-1], episode.last
        self._say(turn.observation)
        score = "" if last is None or last.score is None else f", score {last.score:g}"
        self._say(f"    reward so far {turn.reward or 0.0:g}{score}")

    def _say(self, text: str) -> None:
        self._console.print(shown(text))


class _Expert:
    """Proposes the turns of a verified expert, as long as the person follows them."""

    name: str = "expert"
    tokenizer: str | None = None

    def __init__(self, trajectory: Trajectory) -> None:
        self._turns, self._on_its_way = trajectory.turns, True

    def propose(self, episode: Episode) -> Turn | None:
        at = len(episode.turns)
        if not self._on_its_way or at >= len(self._turns):
            return None
        return Turn(self._turns[at].action, "")

    def heard(self, turn: Turn, own: bool) -> None:
        self._on_its_way = self._on_its_way and own


class _Agent:
    """Proposes what a model would do after all that was done, by whomever."""

    name: str = "policy"
    tokenizer: str | None

    def __init__(self, wanted: Wanted, task: Task) -> None:
        from eto.rollout.episode import episode_seed
        from eto.training.learner import load_learner

        terminal().print("loading the model", soft_wrap=True)
        self._actor: Actor = load_learner(wanted.model).actor(self.name)
        self.tokenizer = self._actor.tokenizer_id
        self._wanted, self._seed = wanted, episode_seed(wanted.seed, task.id, 0)
        self._dialogue: Dialogue | None = None

    def propose(self, episode: Episode) -> Turn | None:
        room = self._wanted.max_action_tokens
        if self._dialogue is None:
            try:
                self._dialogue = self._actor.dialogue(episode.messages, episode.turns, room=room)
            except PromptTooLong as error:
                terminal().print(shown(error.problem), soft_wrap=True)
                return None
        if self._dialogue.full:
            return None
        seed = turn_seed(self._seed, len(episode.turns))
        sampling = self._actor.sampling(room, self._wanted.temperature, seed)
        turn = _finished(self._dialogue.act(sampling))
        if isinstance(turn, EngineFault):
            raise EngineFailure(turn.problem, where=self._wanted.model)
        return turn

    def heard(self, turn: Turn, own: bool) -> None:
        if self._dialogue is not None and own:
            self._dialogue.hear(turn)
        else:  # it has written what was not done: the conversation is laid out again
            self.close()

    def close(self) -> None:
        """Free what is cached for the conversation."""
        if self._dialogue is not None:
            _finished(self._dialogue.close())
        self._dialogue = None


def _task(suite: TaskSuite, wanted: Wanted) -> Task:
    if wanted.split not in suite.splits:
        hint = f"use one of {', '.join(suite.splits)}"
        raise InputError(f"unknown split {wanted.split!r}", where="--split", hint=hint)
    tasks = listed_tasks(suite, wanted.split)
    if not tasks:
        raise InputError(f"the split {wanted.split} has no tasks", where=f"environment {suite.name}")
    if not wanted.task:
        return tasks[0]
    for task in tasks:
        if task.id == wanted.task:
            return task
    first = ", ".join(task.id for task in tasks[:3])
    hint = f"its tasks begin with {first}; --split takes another split"
    raise InputError(f"no task {wanted.task!r} among those of {wanted.split}", where="--task", hint=hint)


def _expert(suite: TaskSuite, environment: Environment, task: Task) -> _Expert:
    found = verified_expert(suite, environment, task)
    if not isinstance(found, Trajectory):
        hint = "take another --task, or leave --expert out"
        raise InputError(f"there is no expert: {found.detail}", where=task.id, hint=hint)
    return _Expert(found)


@contextmanager
def _environment(suite: TaskSuite) -> Iterator[Environment]:
    with user_code("environment"):
        made = suite.environment()
    environment = checked_environment(made)
    try:
        yield environment
    finally:
        with suppress(EtoError), user_code("close"):
            environment.close()


def _finished(coroutine: Coroutine[Any, Any, T]) -> T:
    async def only() -> AsyncGenerator[T]:
        yield await coroutine

    [result] = list(blocking(only()))
    return result
