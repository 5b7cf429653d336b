"""Standard output and error that take every text, and never end a command in a traceback."""

from __future__ import annotations

import codecs
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from eto.data.oserrors import reason
from eto.errors import MissingRequirement

CLOSED = 128 + signal.SIGPIPE
"""Exit code where the reader of standard output has gone, as `head` does."""
_PLAIN = {"–": "-", "—": "-", "•": "*", "…": "...", "≥": ">=", "β": "beta", "\ufffd": "?"}


class _Stream(io.TextIOWrapper):
    """A standard stream that can write every text, and says in words why it cannot be written."""

    ends_quietly = False
    """Whether the process ends where the reader has gone; else its output is dropped."""
    failure: MissingRequirement | None = None
    """Why what was written is not there."""

    def write(self, text: str) -> int:
        with self._reported():
            return super().write(text)

    def flush(self) -> None:
        with self._reported():
            super().flush()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._drop_the_rest()
            if error.errno == errno.EPIPE and self.ends_quietly:
                raise SystemExit(CLOSED) from None
            if self.ends_quietly and error.errno not in (errno.EPIPE, errno.EIO):
                hint = "free space where the output goes, or write it elsewhere"
                problem = f"cannot write to standard output: {reason(error)}"
                self.failure = MissingRequirement(problem, hint=hint)
                raise self.failure from None

    def _drop_the_rest(self) -> None:
        """What is buffered must not fail again at the process's end."""
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())
        os.close(nothing)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Standard output and error of which every text can be written, whatever their encoding.

    A closed standard output ends the process quietly, a full one with `MissingRequirement`; the
    loss of a terminal, which a run may outlive, drops the output.
    """
    codecs.register_error("eto", _escaped)
    earlier = sys.stdout, sys.stderr
    made = [_wrapped(stream, ends) for stream, ends in zip(earlier, (True, False), strict=True)]
    sys.stdout, sys.stderr = (new or old for new, old in zip(made, earlier, strict=True))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = earlier
        for stream in filter(None, made):
            with suppress(MissingRequirement, SystemExit):  # told before, by `flush_output`
                stream.flush()
            stream.detach()


def flush_output() -> None:
    """Write what is buffered, while a failure can still be reported. Raises it, and one from before."""
    if sys.stdout is not None:
        sys.stdout.flush()
    if failure := getattr(sys.stdout, "failure", None):
        raise failure


def _wrapped(stream: Any, ends_quietly: bool) -> _Stream | None:
    """`stream` made safe; None where it is none of the process's own."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or captured in memory
        return None
    stream.flush()
    wrapped = _Stream(
        stream.buffer,
        encoding=stream.encoding,
        errors="eto",
        newline="\n",
        line_buffering=os.isatty(number) or stream.line_buffering,
        write_through=stream.write_through,
    )
    wrapped.ends_quietly = ends_quietly
    return wrapped


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """In place of characters that the encoding lacks: a plain one, or an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or c.encode("unicode_escape").decode("ascii") for c in lacking), error.end
