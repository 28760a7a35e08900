"""The archive's Parquet files. Everything here blocks: call it in a thread."""

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.archive.manifest import ArchivedSession, FileProof, RowHash
from service.errors import ArchiveDamaged

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_COLUMNS = [field.name for field in fields(ArchivedSession)]
_BLOCK = 1 << 20


def _pyarrow() -> Any:
    """Imported with the first file: it takes 30 MB, and most processes never archive anything."""
    import pyarrow.parquet  # noqa: PLC0415

    return pyarrow


@cache
def _schema() -> "pa.Schema":
    pa = _pyarrow()
    at = pa.timestamp("us", tz="UTC")
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("user_id", pa.string(), nullable=False),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            pa.field("started_at", at, nullable=False),
            pa.field("ended_at", at, nullable=False),
            pa.field("focus_seconds", pa.int32(), nullable=False),
            pa.field("updated_at", at),
            pa.field("body", pa.string(), nullable=False),
        ]
    )


class ArchiveWriter:
    """Writes a file under a temporary name; ``finish`` flushes it to disk and renames it.

    Calls are serialized: a cancelled run abandons the file while a thread may still be writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f"{path.name}.tmp")
        self._hash = RowHash()
        self._turn = threading.Lock()
        self._file = _pyarrow().parquet.ParquetWriter(
            self._temporary, _schema(), compression="zstd", compression_level=3
        )

    def add(self, rows: Sequence[ArchivedSession]) -> None:
        """Write one row group."""
        pa, schema = _pyarrow(), _schema()
        columns = zip(*map(astuple, rows), strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        with self._turn:
            self._file.write_table(pa.Table.from_arrays(arrays, schema=schema))
            self._hash.add(rows)

    def finish(self) -> FileProof:
        """Close, flush and rename the file. The proof is of the rows that were passed to ``add``."""
        with self._turn:
            self._file.close()
            _fsync(self._temporary)
            file_hash, size = file_hash_of(self._temporary)
            self._temporary.rename(self._path)
            _fsync(self._path.parent)
        return FileProof(self._hash.rows, size, self._hash.hex, file_hash)

    def abandon(self) -> None:
        """Close and remove the file."""
        with self._turn:
            self._file.close()
            self._temporary.unlink(missing_ok=True)


def put_text(path: Path, text: str) -> None:
    """Write a small file atomically and flush it to disk."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, "utf-8")
    _fsync(temporary)
    temporary.rename(path)
    _fsync(path.parent)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_hash_of(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size


def prove(path: Path, size: int = 5000) -> FileProof:
    """Read a whole file back. Raises ArchiveDamaged if it is missing or cannot be read."""
    try:
        file_hash, length = file_hash_of(path)
    except OSError as error:
        raise ArchiveDamaged(f"{path.name} cannot be read: {error.strerror}") from None
    row_hash = RowHash()
    for rows in read(path, size):
        row_hash.add(rows)
    return FileProof(row_hash.rows, length, row_hash.hex, file_hash)


def read(path: Path, size: int = 5000) -> Iterator[list[ArchivedSession]]:
    """All rows, at most ``size`` at a time."""
    with _opened(path) as file:
        for batch in file.iter_batches(size, columns=_COLUMNS):
            yield _rows(batch)


def group(path: Path, index: int) -> list[ArchivedSession]:
    """The rows of one row group."""
    with _opened(path) as file:
        return _rows(file.read_row_group(index, columns=_COLUMNS))


def owners(path: Path) -> set[str]:
    """The users whose rows a file holds."""
    with _opened(path) as file:
        batches = file.iter_batches(columns=["user_id"])
        return {owner for batch in batches for owner in batch.column(0).unique().to_pylist()}


@contextmanager
def _opened(path: Path) -> "Iterator[pq.ParquetFile]":
    """Open a file for reading. Raises ArchiveDamaged for any error of a damaged file."""
    pa = _pyarrow()
    try:
        with pa.parquet.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, TypeError, ValueError, KeyError, OverflowError) as error:
        raise ArchiveDamaged(f"{path.name} cannot be read: {error}") from None


def _rows(table: "pa.RecordBatch | pa.Table") -> list[ArchivedSession]:
    return [ArchivedSession(**row) for row in table.to_pylist()]
