"""The lines of a text file, one at a time, compressed or not, each fault reported as what it is."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from eto.data.oserrors import unreadable
from eto.data.tables import ARROW, PARQUET
from eto.errors import InputError

_OTHERS = {
    PARQUET: "Parquet within gzip",
    ARROW: "Arrow within gzip",
    b"PK\x03\x04": "a zip archive",
    b"(\xb5/\xfd": "compressed with zstd",
    b"\xfd7zXZ": "compressed with xz",
    b"BZh": "compressed with bzip2",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"\x80\x04": "a pickle",
}
_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_MARK = b"\xef\xbb\xbf"


class TextLines:
    """The lines of a UTF-8 file with their line breaks, and the `number` of the last one, from 1.

    Lines end at `\\n` alone: other separators may stand inside JSON text. A byte order mark is left out.
    Used as a context manager. Raises `InputError` for a file that is missing, cut short, in another form or
    not UTF-8.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self._offset = 0
        self._open = ExitStack()
        try:
            raw = self._open.enter_context(path.open("rb"))
            self.packed = raw.read(len(_GZIP)) == _GZIP
            raw.seek(0)
        except OSError as error:
            self._open.close()
            raise unreadable(path, error) from error
        self._file: BinaryIO | gzip.GzipFile = raw
        if self.packed:
            self._file = self._open.enter_context(gzip.GzipFile(fileobj=raw))

    def __enter__(self) -> TextLines:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        data = self._line()
        if not data:
            raise StopIteration
        self.number += 1
        if self.number == 1:
            self._check_form(data)
            if data.startswith(_MARK):
                data = data.removeprefix(_MARK)
                self._offset += len(_MARK)
        try:
            line = data.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"not UTF-8 text: {error.reason} at byte {self._offset + error.start}, line {self.number}",
                where=str(self.path),
                hint="save the file as UTF-8",
            ) from error
        self._offset += len(data)
        return line

    def _line(self) -> bytes:
        try:
            return self._file.readline()
        except EOFError as error:
            raise self._damaged("it ends too early", "it was cut short: compress or copy it again") from error
        except (OSError, zlib.error) as error:
            if isinstance(error, OSError) and not self.packed:
                raise unreadable(self.path, error) from error
            raise self._damaged(str(error), "compress or copy it again") from error

    def _damaged(self, problem: str, hint: str) -> InputError:
        return InputError(f"cannot read the compressed file: {problem}", where=str(self.path), hint=hint)

    def _check_form(self, data: bytes) -> None:
        for begin, name in _OTHERS.items():
            if data.startswith(begin):
                hint = "unpack or convert it to JSON lines"
                raise InputError(f"this is {name}", where=str(self.path), hint=hint)
        if data.startswith(_UTF16) or data[:4].count(0) >= 2:
            hint = f"convert it: iconv -f UTF-16 -t UTF-8 {self.path}"
            raise InputError("not UTF-8 but UTF-16 (or UTF-32) text", where=str(self.path), hint=hint)
