"""Parquet: columns of typed values; places are record numbers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any, BinaryIO

from finesmith.data.rows import Bad, Row, without_nulls
from finesmith.errors import DataError

BATCH = 1000
"""Records decoded at a time."""


class Parquet:
    """Read in batches, so that memory holds one row group's pages and no more."""

    suffixes = (".parquet", ".pq")

    def rows(self, stream: BinaryIO, name: str) -> Iterator[tuple[int, Row | Bad]]:
        """Yield (record number from 1, row or Bad).

        Raises:
            DataError: the file is no Parquet file, is damaged, or names a column twice.
        """
        import pyarrow
        from pyarrow import parquet

        number = 0
        with tempfile.TemporaryFile() as copy:
            try:
                file = parquet.ParquetFile(_seekable(stream, copy))
                _check_names(file.schema_arrow.names, name)
                for batch in file.iter_batches(batch_size=BATCH):
                    for row in _rows(batch):
                        number += 1
                        yield number, row
            except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
                reason = str(error).partition("\n")[0]
                raise DataError(f"{name} cannot be read as Parquet (after record {number}): {reason}") from error


def _check_names(names: Sequence[str], name: str) -> None:
    twice = sorted({column for column in names if names.count(column) > 1})
    if twice:
        raise DataError(f"{name} names a column twice: {', '.join(twice)}.")


def _rows(batch: Any) -> Iterator[Row | Bad]:
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError, LookupError):  # one value is enough: its row is found one by one
        yield from (_row(batch, place) for place in range(batch.num_rows))
        return
    yield from ({key: without_nulls(value) for key, value in row.items()} for row in rows)


def _row(batch: Any, place: int) -> Row | Bad:
    """A row of a batch in which some value is none that Python has: a date after 9999, text that is not UTF-8."""
    row: Row = {}
    for column, values in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[column] = without_nulls(values[place].as_py())
        except (ValueError, OverflowError, LookupError) as error:
            reason = str(error).partition("\n")[0]
            return Bad(f"the value in the column '{column}' ({values.type}) cannot be read: {reason}")
    return row


def _seekable(stream: BinaryIO, copy: IO[bytes]) -> IO[bytes]:
    """The stream itself, or, of one that only goes forward (a compressed file), a copy on disk."""
    if stream.seekable():
        return stream
    shutil.copyfileobj(stream, copy)
    copy.seek(0)
    return copy


PLUGIN = Parquet()
