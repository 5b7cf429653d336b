"""What the operating system refused, reported as what it is: problem, place and hint of one `OSError`."""

from __future__ import annotations

import errno
from pathlib import Path

from eto.errors import EtoError, InputError, MissingRequirement

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
REFUSED = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
        *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOENT, errno.EINVAL, errno.EILSEQ),
    }
)
"""A path that the user has to change, or make accessible."""

_HINTS = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file: check the path",
    errno.EISDIR: "this is a directory: give a file",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "a symbolic link leads back to itself: check the path",
    errno.EINVAL: "give a name that the file system takes",
    errno.EILSEQ: "give a name that the file system takes",
}
_READING = {errno.EACCES: "make it readable for you", errno.EPERM: "make it readable for you"}
_WRITING = {
    errno.EEXIST: "a file is where a directory must be: give another path",
    errno.EISDIR: "this is a directory: give the name of a file",
}


def unreadable(path: str | Path, error: OSError, what: str = "file") -> EtoError:
    """The user's error for a file that the system does not give."""
    if error.errno in NO_DESCRIPTORS:
        return _too_many_files(path, error)
    number = error.errno or 0
    hint = _READING.get(number) or _HINTS.get(number, "check the file and its disk")
    return InputError(f"cannot read the {what}: {reason(error)}", where=str(path), hint=hint)


def unwritable(path: str | Path, error: OSError) -> EtoError:
    """The user's error for a write to `path` that the system refused."""
    if error.errno in NO_ROOM:
        return MissingRequirement(
            f"no room left to write: {reason(error)}",
            where=str(path),
            hint="free disk space (or raise the quota or file-size limit), then run the same command",
        )
    if error.errno in NO_DESCRIPTORS:
        return _too_many_files(path, error)
    hint = _WRITING.get(error.errno or 0) or _HINTS.get(
        error.errno or 0, "choose a directory you may write to"
    )
    return InputError(f"cannot write here: {reason(error)}", where=str(path), hint=hint)


def reason(error: OSError) -> str:
    """The system's own words, without its number and path."""
    return error.strerror or str(error) or type(error).__name__


def _too_many_files(path: str | Path, error: OSError) -> EtoError:
    hint = "raise the limit of open files (ulimit -n), or lower environment.workers"
    return MissingRequirement(f"no file can be opened: {reason(error)}", where=str(path), hint=hint)
