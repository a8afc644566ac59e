"""Labelled statements."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from jtrace.data.registry import SetInfo


# eq=False: comparing arrays has no single truth value, and identity keeps the class hashable.
@dataclass(frozen=True, eq=False)
class Statements:
    """One set of N labelled statements, in a fixed order. `labels` is int8 [N] and read-only."""

    name: str  # the file's stem, or the built-in name
    texts: tuple[str, ...]  # exactly as in the file, or as built
    labels: np.ndarray
    groups: tuple[str, ...] | None  # rows of one group must not be split between train and test
    source: str  # the path as given, or `hub:owner/name@commit`
    rows: tuple[int, ...]  # where each statement starts in the source, see `where`
    info: SetInfo | None = None  # of a built-in set; a file's name says nothing of what its labels mean

    def __post_init__(self) -> None:
        labels = np.array(self.labels, np.int8)
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def dimension(self) -> str:
        """The dimension of trustworthiness; empty where unknown."""
        return self.info.dimension if self.info else ""

    @property
    def vector_fraction(self) -> float:
        """Leading share of the rows that a `paper` steering vector is made of; 0.5 where unknown."""
        return self.info.vector_fraction if self.info else 0.5

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of texts, labels and groups: tells a run whether its data changed."""
        content = json.dumps([self.texts, self.labels.tolist(), self.groups])
        return hashlib.sha256(content.encode()).hexdigest()

    def where(self, i: int) -> str:
        """`stereoset.csv, row 17`: the line of a text file that statement `i` starts on, or its Parquet or hub row."""
        return f"{Path(self.source).name}, row {self.rows[i]}"
