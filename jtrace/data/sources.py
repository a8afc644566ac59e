"""The five built-in sets from the hub: download of the sources in `SOURCES`, and statements from their rows."""

import os
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
from datasets import load_dataset
from huggingface_hub import constants, try_to_load_from_cache

from jtrace.data import builders
from jtrace.data.builders import Example, refuse, way_out
from jtrace.data.registry import BUILTIN
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.hub.client import WAITS, Hub, UnreachableError
from jtrace.hub.files import COMMIT

GITHUB = "https://raw.githubusercontent.com"
TIMEOUT = 30  # seconds to wait for GitHub
LARGEST_TEXT = 64 << 20  # bytes of a file from GitHub


@dataclass(frozen=True)
class SetSource:
    """The source of a set: files of one commit, and the function that makes examples from a table per file."""

    repository: str  # `owner/name`, a dataset on the Hugging Face hub
    revision: str  # commit
    files: tuple[str, ...]  # Parquet, or text of one row per line
    columns: tuple[str, ...]  # columns that the tables must have
    examples: Callable[..., list[Example]]
    on_github: bool = False

    def __str__(self) -> str:
        return f"{'github' if self.on_github else 'hub'}:{self.repository}@{self.revision}"


def build(name: str, cache_dir: Path | None = None) -> Statements:
    """Downloads a built-in set's source, unless cached, and builds the set.

    Args:
        name: one of `SOURCES`.
        cache_dir: folder of downloads; by default the Hugging Face libraries' cache (HF_HOME).

    Raises:
        InputError: the source cannot be reached or read, or its format is not the one expected.
    """
    source = SOURCES[name]
    examples = source.examples(*_load(name, source, cache_dir))
    labels = [example.label for example in examples]
    if len(set(labels)) < 2:
        raise InputError(
            f"{name}: {source} gives {len(labels)} statements with labels {sorted(set(labels))}; {way_out(name)}"
        )
    return Statements(
        tuple(example.statement for example in examples),
        np.array(labels),
        tuple(example.group for example in examples),
        name=name,
        source=str(source),
        rows=tuple(example.row for example in examples),
        info=BUILTIN[name],
    )


def _load(name: str, source: SetSource, cache_dir: Path | None) -> list[Any]:
    """Loads a `datasets.Dataset` for each file of the source."""
    cache = str(cache_dir / "datasets") if cache_dir else None
    tables = []
    for file in source.files:
        reader = "parquet" if file.endswith(".parquet") else "text"
        try:
            path = _fetch(source, file, cache_dir)
            table = load_dataset(reader, data_files=path, split="train", cache_dir=cache)
        # The libraries raise dozens of types, and each means here that this file cannot be read.
        except Exception as error:
            raise cannot_load(name, f"{file} of {source}", error, way_out(name)) from error
        for column in source.columns:
            if column not in table.column_names:
                refuse(name, f"{file} of {source} has no column {column!r}; it has {', '.join(table.column_names)}")
        tables.append(table)
    return tables


def fetch(repository: str, revision: str, file: str, cache_dir: Path | None) -> str:
    """Returns the local path of a file of a dataset on the hub; a commit's files are downloaded once.

    Args:
        repository: `owner/name`.
        revision: a commit, or a branch, which is looked up each time.
        file: path inside the repository.
        cache_dir: as in `build`.

    Raises:
        InputError: the file cannot be downloaded; see `cannot_load`.
    """
    hub_cache = cache_dir / "hub" if cache_dir else None
    cached = try_to_load_from_cache(repository, file, hub_cache, revision, "dataset")
    if isinstance(cached, str) and COMMIT.fullmatch(revision):
        return cached
    hub = Hub(hub_cache, waits=WAITS[:1] if cached else WAITS, kind="dataset")
    try:
        return str(hub.fetch_file(repository, revision, file))
    except UnreachableError:
        if isinstance(cached, str):
            return cached
        raise


def cannot_load(name: str, what: str, error: Exception, otherwise: str) -> InputError:
    """Returns the one-line error of a failed download; `otherwise` is the advice if the connection is not the cause."""
    if isinstance(error, InputError):  # errors of the hub end with advice
        return InputError(f"{name}: cannot load {what}: {error}; or {otherwise}")
    cause = textwrap.shorten(f"{type(error).__name__}: {error}", 120, placeholder=" …")
    return InputError(f"{name}: cannot load {what} ({cause}); check the connection, or {otherwise}")


def _fetch(source: SetSource, file: str, cache_dir: Path | None) -> str:
    """Returns the local path of a file; a cached one is not asked for again, as a commit's files do not change."""
    if not source.on_github:
        return fetch(source.repository, source.revision, file, cache_dir)
    # `datasets` could read its address, but needs aiohttp for that, which it does not install.
    path = (cache_dir or Path(constants.HF_HOME)) / "github" / source.repository / source.revision / file
    if not path.is_file():
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set and the file is not cached")
        content = _download(f"{GITHUB}/{source.repository}/{source.revision}/{file}")
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_bytes(content)
        aside.replace(path)
    return str(path)


def _download(url: str) -> bytes:
    try:
        with urlopen(url, timeout=TIMEOUT) as reply:
            content = bytes(reply.read(LARGEST_TEXT + 1))
    except HTTPError as error:
        error.close()  # the error is the reply, with its open connection
        raise
    if len(content) > LARGEST_TEXT:
        raise OSError(f"{url} sends more than {LARGEST_TEXT} bytes")
    return content


SOURCES: Mapping[str, SetSource] = {
    "truthfulqa": SetSource(
        "truthfulqa/truthful_qa",
        "741b8276f2d1982aa3d5b832d3ee81ed3b896490",
        ("generation/validation-00000-of-00001.parquet",),
        ("question", "correct_answers", "incorrect_answers"),
        builders.truthfulqa,
    ),
    "toxigen": SetSource(
        "toxigen/toxigen-data",
        "ea082a8973a287097b17973343576e0c8da8eb3b",
        ("annotated/train-00000-of-00001.parquet", "annotated/test-00000-of-00001.parquet"),
        ("text", "toxicity_human"),
        builders.toxigen,
    ),
    "confaide": SetSource(
        "skywalker023/confAIde",
        "3174c63e689226189675a740b7bf9053f10bae50",
        ("benchmark/tier_2a.txt", "benchmark/tier_2b.txt", "benchmark/tier_2_labels.txt"),
        ("text",),
        builders.confaide,
        on_github=True,
    ),
    "stereoset": SetSource(
        "McGill-NLP/stereoset",
        "bf6e7ce50491784d094fb7afe60a70ecccb89035",
        ("intersentence/validation-00000-of-00001.parquet",),
        ("bias_type", "context", "sentences"),
        builders.stereoset,
    ),
    "sst2": SetSource(
        "stanfordnlp/sst2",
        "8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb",
        ("data/test-00000-of-00001.parquet",),
        ("sentence",),
        builders.sst2,
    ),
}
