"""A file of feature maps that any number of processes fill together, piece by piece, and then read.

    NAME.maps    rows of one shape and type, one after the other, read through the page cache of the system
    NAME.marks   eight bytes a piece: 0, or 2^32 + the CRC-32 of what was written
    NAME.lock    a byte a piece, locked by the process that computes it

A piece counts as done once its mark is there, which is written after its rows have reached the disk; a process that is
killed leaves a piece without a mark, and its lock is gone with it. So whoever comes, at whatever moment, computes what
is missing and nobody else is at. Checksums are compared when the file is opened; a piece that is damaged is missing.
"""

import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gcp.errors import DataError

PIECE = 16 * 2**20  # bytes, about: what a kill may cost
_MARK = 1 << 32


class FeatureFile:
    """Rows (rows, *shape) of `dtype` in files that begin with `path`.

    `together`: rows that are computed together; a piece holds a multiple of them.
    """

    def __init__(self, path: Path, rows: int, shape: tuple[int, ...], dtype: str, together: int = 1):
        self.path, self.rows, self.shape, self.dtype = Path(path), rows, shape, np.dtype(dtype)
        self.row_bytes = int(np.prod(shape)) * self.dtype.itemsize
        self.piece_rows = max(1, PIECE // (self.row_bytes * together)) * together
        self.pieces = -(-rows // self.piece_rows)
        self._maps, self._marks, self._lock = (
            path.with_name(f"{path.name}.{end}") for end in ("maps", "marks", "lock")
        )
        self._handle: int | None = None
        self._claimed: set[int] = set()

    @property
    def bytes(self) -> int:
        """Of all rows."""
        return self.rows * self.row_bytes

    def unreserved(self) -> int:
        """Bytes that the disk has still to give."""
        return self.bytes - (self._maps.stat().st_blocks * 512 if self._maps.is_file() else 0)

    def reserve(self) -> None:
        """Make the files at their full length, or leave those that are there.

        Raises:
            DataError: the folder cannot be written, or the disk has no room; says how much is needed and free.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.unreserved() > shutil.disk_usage(self.path.parent).free:
                raise DataError(self._no_room())
            for path, size in ((self._marks, 8 * self.pieces), (self._maps, self.bytes)):
                handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
                try:
                    if os.fstat(handle).st_size < size:
                        os.ftruncate(handle, size)
                    if size and hasattr(os, "posix_fallocate"):  # a disk that is full says so now
                        os.posix_fallocate(handle, 0, size)
                finally:
                    os.close(handle)
        except OSError as error:
            reason = self._no_room() if error.errno == 28 else f"cannot write {self.path.parent}: {error.strerror}"
            raise DataError(f"{reason}") from error

    def _no_room(self) -> str:
        free = shutil.disk_usage(self.path.parent).free
        return (
            f"the features take {self.unreserved() / 1e9:.2f} GB more, and {self.path.parent} has {free / 1e9:.2f} GB "
            "free. Give train.cache_dir=FOLDER on a larger disk, fewer train.cache_views, or train.cache_features=false"
        )

    def marks(self) -> np.ndarray:
        """(pieces,) uint64, 0 where a piece is missing."""
        return np.fromfile(self._marks, dtype=np.uint64, count=self.pieces) if self.pieces else np.zeros(0, np.uint64)

    def missing(self) -> list[int]:
        """Pieces without a mark; all of them where there is no file yet."""
        if not (self._marks.is_file() and self._maps.is_file() and self._maps.stat().st_size >= self.bytes):
            return list(range(self.pieces))
        return np.flatnonzero(self.marks() == 0).tolist()

    def rows_of(self, piece: int) -> range:
        """The rows of a piece."""
        return range(piece * self.piece_rows, min(self.rows, (piece + 1) * self.piece_rows))

    def claims(self) -> Iterator[int]:
        """Missing pieces that nobody is at, each claimed for this process until it is written or the process ends."""
        for piece in self.missing():
            if piece not in self._claimed and self._lock_piece(piece):
                if self.marks()[piece]:  # done in the meantime
                    self._release(piece)
                    continue
                yield piece

    def _lock_piece(self, piece: int) -> bool:
        self._claimed.add(piece)
        try:
            import fcntl
        except ImportError:  # no such locks on this system: the work is done twice, with the same result
            return True
        if self._handle is None:
            # never opened anywhere else in this process: closing any handle of a file would drop its locks
            self._handle = os.open(self._lock, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, piece)
        except (BlockingIOError, PermissionError):
            self._claimed.discard(piece)
            return False
        except OSError:  # a file system without locks
            return True
        return True

    def _release(self, piece: int) -> None:
        self._claimed.discard(piece)
        if self._handle is not None:
            import fcntl

            with suppress(OSError):
                fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, piece)

    def write(self, piece: int, maps: np.ndarray) -> None:
        """The rows of a piece that was claimed, (rows, *shape); afterwards it is done."""
        content = np.ascontiguousarray(maps, dtype=self.dtype).tobytes()
        _write(self._maps, content, piece * self.piece_rows * self.row_bytes)
        _write(self._marks, np.uint64(_MARK + zlib.crc32(content)).tobytes(), 8 * piece)
        self._release(piece)

    def verify(self) -> list[int]:
        """Take the mark from every piece whose bytes are not those that were written, and return these pieces."""
        marks, damaged = self.marks(), []
        with open(self._maps, "rb") as file:
            for piece in np.flatnonzero(marks).tolist():
                rows = self.rows_of(piece)
                file.seek(rows.start * self.row_bytes)
                if int(marks[piece]) != _MARK + zlib.crc32(file.read(len(rows) * self.row_bytes)):
                    _write(self._marks, bytes(8), 8 * piece)
                    damaged.append(piece)
        return damaged

    def open(self) -> np.ndarray:
        """All rows, (rows, *shape), mapped from the file: what is read takes memory that the system can take back."""
        if not self.rows:
            return np.zeros((0, *self.shape), self.dtype)
        return np.memmap(self._maps, dtype=self.dtype, mode="r", shape=(self.rows, *self.shape))

    def touch(self) -> None:
        """Record, as the time of the file, that its rows are in use now; a folder that is read-only has no record."""
        with suppress(OSError):
            os.utime(self._maps)

    def close(self) -> None:
        """Give up what is claimed."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None
        self._claimed.clear()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None, "_claimed": set()}


class Kept(NamedTuple):
    """A file of maps in a folder: its path without an ending, its bytes, and when it was used last (seconds)."""

    path: Path
    bytes: int
    used: float


def kept_in(folder: Path) -> list[Kept]:
    """The files of maps in a folder, the one that was used longest ago first."""
    found = []
    for path in folder.glob("*.maps"):
        with suppress(OSError):  # another process removes it
            status = path.stat()
            found.append(Kept(path.with_suffix(""), status.st_size, status.st_mtime))
    return sorted(found, key=lambda kept: kept.used)


def _write(path: Path, content: bytes, offset: int) -> None:
    """Into an existing file, to the disk."""
    handle = os.open(path, os.O_WRONLY)
    try:
        view = memoryview(content)
        while view:
            written = os.pwrite(handle, view, offset)
            view, offset = view[written:], offset + written
        os.fsync(handle)
    finally:
        os.close(handle)
