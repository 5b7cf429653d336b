"""Ctrl-C, SIGTERM and SIGHUP: work in progress is shut down cleanly, and the user is shown how to resume."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal, as shells have it."""
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)

KEEPS = "the same command resumes"
GOES_ON = {
    "run": KEEPS,
    "compare": KEEPS,
    "sweep": KEEPS,
    "expert": KEEPS,
    "explore": KEEPS,
    "evaluate": KEEPS,
    "compare-models": KEEPS,
    "replay": KEEPS,
    "sft": "no model was written; the same command resumes where its last checkpoint was",
    "dpo": "no model was written; the same command resumes where its last checkpoint was",
    "pairs": "nothing was written; the same command begins again",
    "report": "the same command begins again",
    "score-pairs": KEEPS,
    "play": "the episode is not written; `:quit` ends and writes it",
    "export-model": "what was there before is unchanged; the same command begins again",
    "view": "nothing is kept by it",
    "serve-environment": "the server's sessions are closed",
}
"""Command -> what its user should know after it was stopped."""


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP: passes through all that Ctrl-C passes through."""


class Stopping:
    """Which signal came, and what the command then says."""

    def __init__(self) -> None:
        self.begin("")

    def begin(self, command: str, says: str = "") -> None:
        """`command` is under way; `says` stands in place of its sentence in `GOES_ON`."""
        self.command, self.says, self.signal = command, says, signal.SIGINT

    def farewell(self) -> str:
        """The last line of a stopped command."""
        goes_on = self.says or GOES_ON.get(self.command, "")
        return f"stopped; {goes_on}" if goes_on else "stopped"

    def exit_code(self) -> int:
        return 128 + self.signal


stopping = Stopping()
"""Of this process."""


@contextmanager
def stoppable() -> Iterator[Stopping]:
    """SIGTERM and SIGHUP raise `Stopped` where they are not ignored, as SIGHUP is under nohup."""
    stopping.begin("")
    earlier = {number: signal.getsignal(number) for number in _SIGNALS}
    taken = [number for number, handler in earlier.items() if handler == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _stop)
    try:
        yield stopping
    finally:
        for number in taken:
            signal.signal(number, earlier[number])


def end_at_once_from_now() -> None:
    """A second signal ends the process: all is closed, but a thread may still hold the end up."""
    for number in (signal.SIGINT, *_SIGNALS):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, _frame: FrameType | None) -> None:
    stopping.signal = signal.Signals(number)
    raise Stopped
