"""Writes exports as Parquet, page by page. (``archive.archive_parquet`` writes the archive.)"""

from collections.abc import Sequence
from io import RawIOBase
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service.analytics.columns import Column, ColumnType, Scalar, text

_ROW_GROUP = 20_000
"""Rows per row group: smaller groups make larger files."""
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
    """Encodes rows as the bytes of a Parquet file. A column without any value is a null number."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._schema = pa.schema([(column.name, _TYPES[column.kind]) for column in columns])
        self._sink = _Sink()
        self._file = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._buffered: list[Any] = []

    def write(self, rows: Sequence[Sequence[Scalar]]) -> bytes:
        """Add rows, with their values in the order of the columns; returns the next bytes, often none."""
        values = [
            [_convert(column.kind, row[index]) for row in rows] for index, column in enumerate(self._columns)
        ]
        arrays = [
            pa.array(column_values, type=type_)
            for column_values, type_ in zip(values, self._schema.types, strict=True)
        ]
        self._buffered.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        if sum(batch.num_rows for batch in self._buffered) >= _ROW_GROUP:
            self._flush()
        return self._sink.take()

    def close(self) -> bytes:
        """Finish the file; returns its last bytes."""
        self._flush()
        self._file.close()
        return self._sink.take()

    def _flush(self) -> None:
        if self._buffered:
            self._file.write_table(pa.Table.from_batches(self._buffered, schema=self._schema))
            self._buffered = []


class _Sink(RawIOBase):
    """A file that can only be appended to: knows its length, and holds bytes until they are taken."""

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

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _convert(kind: ColumnType, value: Scalar) -> Scalar:
    return text(value) if kind is ColumnType.TEXT and value is not None else value
