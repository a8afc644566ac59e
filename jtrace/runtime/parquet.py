"""Parquet files that strangers made: a few bytes of one may stand for gigabytes, so sizes are looked at first."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jtrace.errors import InputError
from jtrace.runtime.budget import bytes_text
from jtrace.runtime.foreign import foreign
from jtrace.runtime.small_files import open_regular

MOST_VALUES = 1 << 27  # of all columns together
MOST_BYTES = 2 << 30  # of them, with every text written out
WRITE_ANEW = "write the file anew"


def read_parquet(
    path: Path,
    columns: Sequence[str] | None = None,
    remedy: str = WRITE_ANEW,
    what: str = "cannot be read as Parquet",
    check: Callable[[Sequence[str]], None] | None = None,
) -> pa.Table:
    """A table whose pages are what was written, where their sums are known.

    Texts that a file holds once for many rows stay so in memory until it is known how much they all are.

    Args:
        columns: which of them, where the file has them; None for all.
        what, remedy: what to say of a damaged file, and what to do about it.
        check: raises unless it likes the names of the columns, before any is read.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is damaged, or stands for more than `MOST_VALUES` or `MOST_BYTES`.
    """
    with open_regular(path, remedy) as source, foreign(path, what, remedy):
        with pq.ParquetFile(source) as file:
            metadata, names = file.metadata, file.schema_arrow.names
        if check is not None:
            check(names)
        wanted = [name for name in names if columns is None or name in columns]
        _check_sizes(path, metadata, wanted, remedy)
        texts = [
            column.path
            for column in (metadata.schema.column(i) for i in range(metadata.num_columns))
            if column.physical_type == "BYTE_ARRAY"
        ]
        source.seek(0)
        with pq.ParquetFile(source, read_dictionary=texts, page_checksum_verification=True) as file:
            table = file.read(columns=wanted)
        count = sum(_bytes(chunk) for column in table.columns for chunk in column.chunks)
        if count > MOST_BYTES:
            raise _too_large(path, bytes_text(count), bytes_text(MOST_BYTES), remedy)
        return pa.Table.from_arrays(
            [_written_out(column) for column in table.columns], names=table.column_names, metadata=table.schema.metadata
        )


def _check_sizes(path: Path, metadata: pq.FileMetaData, wanted: Sequence[str], remedy: str) -> None:
    # Not what columns tell of themselves: of a damaged one, pyarrow 26.0.1 ends the process.
    values = metadata.num_rows * len(wanted)
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if values > MOST_VALUES:
        raise _too_large(path, f"{values} values", str(MOST_VALUES), remedy)
    if size > MOST_BYTES:
        raise _too_large(path, bytes_text(size), bytes_text(MOST_BYTES), remedy)


def _too_large(path: Path, count: str, most: str, remedy: str) -> InputError:
    return InputError(f"{path}: stands for {count}, more than the {most} that a table may have; {remedy}")


def _bytes(array: pa.Array) -> int:
    """Bytes of the values with every text written out."""
    if pa.types.is_dictionary(array.type):
        lengths = pc.cast(pc.binary_length(array.dictionary), pa.int64())
        return pc.sum(lengths.take(array.indices)).as_py() or 0
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return _bytes(array.flatten())
    if pa.types.is_struct(array.type):
        return sum(map(_bytes, array.flatten()))
    return array.nbytes


def _written_out(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
