"""Rows as Parquet for exports, written page by page; ``parquet`` writes the archive."""

from collections.abc import Sequence
from io import RawIOBase
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service.analytics.columns import Column, ColumnType, Scalar, text

_ROW_GROUP = 20_000
"""Rows that are held until they are written: small groups make large files."""
_TYPES = {
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.INTEGER: pa.int64(),
    ColumnType.NUMBER: pa.float64(),
    ColumnType.TEXT: pa.string(),
    ColumnType.DATE: pa.date32(),
    ColumnType.INSTANT: pa.timestamp("us", tz="UTC"),
    ColumnType.UNKNOWN: pa.float64(),
}


class ExportWriter:
    """Takes rows and gives bytes. A column without a value anywhere is a number that is null."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._schema = pa.schema([(column.name, _TYPES[column.kind]) for column in columns])
        self._sink = _Sink()
        self._file = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._held: list[Any] = []

    def write(self, rows: Sequence[Sequence[Scalar]]) -> bytes:
        """Take rows, their values in the order of the columns; what is ready of the file, often nothing."""
        values = [
            [_as(column.kind, row[place]) for row in rows] for place, column in enumerate(self._columns)
        ]
        arrays = [pa.array(v, type=t) for v, t in zip(values, self._schema.types, strict=True)]
        self._held.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        if sum(batch.num_rows for batch in self._held) >= _ROW_GROUP:
            self._flush()
        return self._sink.taken()

    def close(self) -> bytes:
        """The end of the file."""
        self._flush()
        self._file.close()
        return self._sink.taken()

    def _flush(self) -> None:
        if self._held:
            self._file.write_table(pa.Table.from_batches(self._held, schema=self._schema))
            self._held = []


class _Sink(RawIOBase):
    """Where a file is written that is only ever appended to: knows its length, keeps what nobody took."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._length += len(part)
        return len(part)

    def tell(self) -> int:
        return self._length

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _as(kind: ColumnType, value: Scalar) -> Scalar:
    return text(value) if kind is ColumnType.TEXT and value is not None else value
