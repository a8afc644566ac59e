"""Vectors that a target is steered with: of which files and sets, in the target's layers, with controls beside them."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from jtrace.checkpoints.names import in_order
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.inference.language_model import LanguageModel
from jtrace.probing.vector_files import Vectors, read_vectors
from jtrace.probing.vectors import MASS_MEAN, random_vector
from jtrace.runs.names import VectorName
from jtrace.runtime.paths import matching
from jtrace.steering.vector import SteeringVector, combined

Scale = Literal["std", "plain"]
SCALES: tuple[Scale, ...] = ("std", "plain")
# A file of vectors and what it holds.
VectorFile = tuple[Path, Vectors]


@dataclass(frozen=True)
class VectorChoice:
    """A choice of vectors to steer a target with.

    Attributes:
        files: of RUN/vectors; globs are read in the order of the steps in their names.
        sets: expressions as `jtrace.steering.vector.combined` reads them; empty for the only set of the files.
        towards_good: turned so that a positive strength is the trustworthy direction.
        any_family: see `vectors_for`.
        layers: which layer each row of a file is of, where the files do not say, see `Vectors.of_layers`; or None.
        scale: `std` for vectors as files hold them, `plain` for plain differences of class means, see `Vectors.plain`.
    """

    files: tuple[str, ...]
    sets: tuple[str, ...] = ()
    towards_good: bool = False
    any_family: bool = False
    layers: tuple[int | None, ...] | None = None
    scale: Scale = "std"

    def read(self) -> list[VectorFile]:
        """Every file, its rows said to be of the layers and scaled as chosen.

        Raises:
            InputError: a file that is not there, is damaged, or does not fit the choice.
        """
        return [(path, self._fitted(read_vectors(path), path)) for path in vector_files(self.files)]

    def _fitted(self, vectors: Vectors, path: Path) -> Vectors:
        if self.layers is not None:
            vectors = vectors.of_layers(self.layers, path)
        return vectors.plain(path) if self.scale == "plain" else vectors

    def sets_of(self, files: Sequence[VectorFile], given: Sequence[Statements]) -> tuple[str, ...]:
        """The sets to steer with: as chosen, else the only one of the files, or those of given statements.

        Raises:
            InputError: the files hold several, and none is named.
        """
        if not files:
            return ()
        if self.sets:
            return self.sets
        path, first = files[0]
        if len(first.arrays) == 1:
            return tuple(first.arrays)
        named = tuple(statements.name for statements in given if statements.name in first.arrays)
        if not named:
            raise InputError(f"{path}: holds vectors of {', '.join(first.arrays)}; say which by --vector_set")
        return named

    def in_target(
        self, model: LanguageModel, files: Sequence[VectorFile], sets: Sequence[str], random: Sequence[int]
    ) -> list[SteeringVector]:
        """Every set's vector of every file in the layers of a target, each followed by its controls.

        Args:
            random: seeds of the controls, see `with_controls`.

        Raises:
            InputError: a set that a file lacks, or vectors that do not fit the target.
        """
        vectors = []
        for path, held in files:
            by_set = vectors_for(model, held, path, self.any_family)
            vectors += [combined(expression, by_set) for expression in sets]
        if self.towards_good:
            vectors = [vector.towards_good() for vector in vectors]
        return with_controls(vectors, random)


def vector_files(specs: Sequence[str]) -> list[Path]:
    """The files that paths and globs name, those of a glob in the order of the steps in their names.

    Raises:
        InputError: a glob that matches nothing.
    """
    paths: list[str] = []
    for spec in specs:
        # A file that is not there is named when it is read.
        matched = in_order(matching(spec)) if glob.has_magic(spec) else [spec]
        if not matched:
            raise InputError(f"--vectors: '{spec}' matches nothing; name files of RUN/vectors")
        paths += matched
    return [Path(path) for path in dict.fromkeys(paths)]


def vectors_for(model: LanguageModel, vectors: Vectors, path: Path, any_family: bool) -> dict[str, SteeringVector]:
    """The vectors of a file by set, in the layers of a target.

    Args:
        any_family: whether vectors of another family or depth will do, if their width is the target's.

    Raises:
        InputError: they are of another width or, unless `any_family`, of another family or depth; or it is not known
            which layers they are of.
    """
    depth, width = model.config.depth, model.config.width
    their_width = next(iter(vectors.arrays.values())).shape[1]
    if their_width != width:
        raise InputError(
            f"{path}: vectors of width {their_width}; {model.name} has width {width}, take those of its base model"
        )
    about = vectors.model
    if about and (about.model_type, about.depth) != (model.model_type, depth) and not any_family:
        raise InputError(
            f"{path}: vectors of a {about.model_type} model of {about.depth} layers; {model.name} is a "
            f"{model.model_type} model of {depth}; pass --any_family if that is meant"
        )
    if not vectors.layers_known and len(vectors.layers) != depth:
        raise InputError(
            f"{path}: {len(vectors.layers)} rows of unknown layers for the {depth} of {model.name}; "
            f"name each row's by --vector_layers, as --vector_layers=embedding,0-{depth - 1} of hidden states"
        )
    kept = [at for at, layer in enumerate(vectors.layers) if layer < depth]
    if not kept:
        raise InputError(f"{path}: vectors of layers {min(vectors.layers)} and up; {model.name} has {depth} layers")
    source = str(VectorName(vectors.checkpoint, "" if vectors.kind in (None, MASS_MEAN) else vectors.kind))
    by_set = {}
    for name, array in vectors.arrays.items():
        values = np.zeros((depth, width), np.float32)
        values[[vectors.layers[at] for at in kept]] = array[kept]
        layers = tuple(sorted(vectors.layers[at] for at in kept))
        by_set[name] = SteeringVector(values, layers, source, name, vectors.one_is_good[name], model=vectors.model)
    return by_set


def with_controls(vectors: Sequence[SteeringVector], seeds: Sequence[int]) -> list[SteeringVector]:
    """Put controls behind each vector: a random direction of equal norm for each seed.

    Raises:
        InputError: two vectors of one name.
    """
    names = [(vector.source, vector.dataset) for vector in vectors]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"--vectors: two files hold a vector of {twice[0]} for {twice[1]}; leave one out")
    together = []
    for vector in vectors:
        together.append(vector)
        for seed in seeds:
            values, source = random_vector(vector.values, seed), str(VectorName.parse(vector.source).random)
            together.append(replace(vector, values=values, source=source, one_is_good=None, seed=seed))
    return together
