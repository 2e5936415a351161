"""Parquet: columns of typed values; places are record numbers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from typing import IO, BinaryIO

from finesmith.data.rows import Bad, Row, without_nulls
from finesmith.errors import DataError

BATCH = 1000
"""Records decoded at a time."""


class Parquet:
    """Read in batches, so that memory holds one row group's pages and no more."""

    suffixes = (".parquet", ".pq")

    def rows(self, stream: BinaryIO, name: str) -> Iterator[tuple[int, Row | Bad]]:
        """Yield (record number from 1, row).

        Raises:
            DataError: the file is no Parquet file, or is damaged.
        """
        import pyarrow
        from pyarrow import parquet

        number = 0
        with tempfile.TemporaryFile() as copy:
            try:
                file = parquet.ParquetFile(_seekable(stream, copy))
                for batch in file.iter_batches(batch_size=BATCH):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, {key: without_nulls(value) for key, value in row.items()}
            except (pyarrow.ArrowException, OSError) as error:
                reason = str(error).partition("\n")[0]
                raise DataError(f"{name} cannot be read as Parquet (after record {number}): {reason}") from error


def _seekable(stream: BinaryIO, copy: IO[bytes]) -> IO[bytes]:
    """The stream itself, or, of one that only goes forward (a compressed file), a copy on disk."""
    if stream.seekable():
        return stream
    shutil.copyfileobj(stream, copy)
    copy.seek(0)
    return copy


PLUGIN = Parquet()
