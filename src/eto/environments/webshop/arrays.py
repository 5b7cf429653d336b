"""Numpy arrays by name: files of a directory that are mapped, not read, or kept in memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


class Arrays:
    """One-dimensional arrays by name."""

    def __init__(self, directory: Path | None) -> None:
        """`directory`: where each is a `.npy` file; None keeps them in memory."""
        self.directory = directory
        self._kept: dict[str, np.ndarray] = {}

    def write(self, name: str, dtype: Any, length: int, blocks: Iterable[np.ndarray]) -> None:
        """The array that `blocks` make one after the other, `length` numbers together.

        Blocks are written as they come: a mapped file's pages would all count as this process's memory.
        """
        stored_dtype = np.dtype(dtype)
        if self.directory is None:
            self._kept[name] = np.concatenate([np.empty(0, stored_dtype), *blocks]).astype(
                stored_dtype, copy=False
            )
            return
        header = {
            "descr": np.lib.format.dtype_to_descr(stored_dtype),
            "fortran_order": False,
            "shape": (length,),
        }
        with self._path(name).open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for block in blocks:
                file.write(np.asarray(block, stored_dtype).tobytes())

    def __setitem__(self, name: str, array: np.ndarray) -> None:
        self.write(name, array.dtype, len(array), [array])

    def __getitem__(self, name: str) -> np.ndarray:
        """Read-only where it is a file. Raises `OSError` or `ValueError` where that is missing or broken."""
        if self.directory is None:
            return self._kept[name]
        # A plain array over the map: indexing a `memmap` itself is several times slower.
        return np.asarray(np.load(self._path(name), mmap_mode="r"))

    def __delitem__(self, name: str) -> None:
        if self.directory is None:
            del self._kept[name]
        else:
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        assert self.directory is not None, "in memory, there are no files"
        return self.directory / f"{name}.npy"
