"""Reading of --statements: built-in sets, those of the invented world, and files."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from jtrace.data.registry import BUILTIN, PUBLISHED
from jtrace.data.sources import build
from jtrace.data.statement_files import CHOICES, read_file
from jtrace.data.statements import Statements
from jtrace.data.world.spec import names_world
from jtrace.data.world.statement_sets import read_world_sets
from jtrace.errors import InputError


def read_all(
    specs: Sequence[str], data_dir: Path | None = None, cache_dir: Path | None = None
) -> tuple[Statements, ...]:
    """Reads the sets of all entries of --statements by `read_statements`; `world` stands for five sets.

    Raises:
        InputError: no entry, two sets of one name, or an entry that cannot be read.
    """
    if not specs:
        raise InputError(f"--statements names no set; {CHOICES}")
    sets = tuple(statements for spec in specs for statements in _read_entry(spec, data_dir, cache_dir))
    for one, other in combinations(sets, 2):
        if one.name == other.name:
            raise InputError(f"two sets are called {one.name!r}: {one.source} and {other.source}; rename or drop one")
    return sets


def _read_entry(spec: str, data_dir: Path | None, cache_dir: Path | None) -> tuple[Statements, ...]:
    if names_world(spec):
        return read_world_sets(spec)
    return (read_statements(spec, data_dir, cache_dir),)


def read_statements(spec: str, data_dir: Path | None = None, cache_dir: Path | None = None) -> Statements:
    """Reads one entry of --statements: a built-in name, or the path of a CSV, JSONL or Parquet file.

    Args:
        spec: the entry.
        data_dir: folder of the built-in sets' published CSV files; without it they are built from the hub.
        cache_dir: folder of downloads, see `jtrace.data.sources.build`.

    Raises:
        InputError: no such set or file, the file breaks a rule (the message names file and row), or the hub is out
            of reach.
    """
    if spec not in BUILTIN:
        statements = read_file(Path(spec).stem, spec)
        return replace(statements, info=BUILTIN.get(PUBLISHED.get(statements.fingerprint, "")))
    if data_dir is None:
        return build(spec, cache_dir)
    return replace(read_file(spec, str(Path(data_dir) / BUILTIN[spec].csv)), info=BUILTIN[spec])
