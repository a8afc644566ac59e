"""The form that a table of a run must have before it is used: its columns, of the right kind, and no missing names."""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from jtrace.errors import InputError


def columns_by_kind(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """Names of a schema's columns of text, and of its other columns, which hold numbers."""
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    return texts, [name for name in schema.names if name not in texts]


def check_table(what: str, table: pa.Table, texts: Collection[str], numbers: Collection[str], remedy: str) -> None:
    """Refuse a table that lacks something; more columns do not matter.

    Args:
        what: the file, and what it is not.
        texts: columns of text, in every row.
        numbers: columns of numbers, none infinite; they may have gaps.
        remedy: what to do about it.

    Raises:
        InputError: a column is missing, there twice or of another kind; the first such one is named.
    """
    for name in (*texts, *numbers):
        if fault := _fault(table, name, is_text=name in texts):
            raise InputError(f"{what} (column {name} {fault}); {remedy}")


def _fault(table: pa.Table, name: str, is_text: bool) -> str:
    """Fault of a column in words; empty if there is none."""
    if (count := table.column_names.count(name)) != 1:
        return "is there twice" if count else "is missing"
    column = table[name]
    kind = column.type
    if is_text:
        if not pa.types.is_string(kind) and not pa.types.is_large_string(kind):
            return f"is {kind}, not text"
        return "has rows without a text" if column.null_count else ""
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        return f"is {kind}, not a number"
    return "has infinite numbers" if pa.types.is_floating(kind) and pc.any(pc.is_inf(column)).as_py() else ""
