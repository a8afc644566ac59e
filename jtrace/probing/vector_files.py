"""Files of steering vectors, those of RUN/vectors and of other tools, as they are read. Axes: L layers, D width."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jtrace.errors import InputError
from jtrace.probing.set_names import times
from jtrace.probing.vector_formats import FORMATS, format_of
from jtrace.probing.vector_formats.content import VECTORS_KEY, layers_of
from jtrace.probing.vectors import MASS_MEAN
from jtrace.runtime.foreign import cause
from jtrace.runtime.small_files import MissingFileError, parse_json


@dataclass(frozen=True)
class ModelFacts:
    """Facts that a model must share with another for its vectors to fit; `depth` counts layers."""

    model_type: str
    width: int
    depth: int


# eq=False: comparing arrays has no single truth value.
@dataclass(frozen=True, eq=False)
class Vectors:
    """The content of a vector file.

    Attributes:
        checkpoint: which it was made from; the file's name without suffix where the file does not say.
        kind: of `KINDS`; None where the file does not say.
        arrays: by statement set, float32 [L, D], of equal shapes.
        layers: which layer each row belongs to.
        layers_known: whether the file says so; else rows are taken to be of layer 0 and up.
        plain_norms: by statement set, how long the plain difference of class means is in each layer, float32 [L]; None
            where the file does not say.
        one_is_good: by statement set, whether label 1 is the trustworthy side; None where that is not known.
        model: None where the file does not say.
    """

    checkpoint: str
    kind: str | None
    arrays: Mapping[str, np.ndarray]
    layers: tuple[int, ...]
    one_is_good: Mapping[str, bool | None]
    model: ModelFacts | None
    layers_known: bool = True
    plain_norms: Mapping[str, np.ndarray] | None = None

    def of_layers(self, rows: Sequence[int | None], path: Path) -> "Vectors":
        """The same where it is told which layer each row of the file is of.

        Args:
            rows: in the file's order; None for a row of no layer, which is left out.
            path: of the file.

        Raises:
            InputError: another number of rows, or the file says otherwise.
        """
        if self.layers_known and self.layers != tuple(rows):
            raise InputError(f"{path}: says itself which layers its rows are of; leave --vector_layers out")
        if len(rows) != len(self.layers):
            raise InputError(f"{path}: --vector_layers names {len(rows)} layers for {len(self.layers)} rows; name each")
        row_of = {layer: at for at, layer in enumerate(rows) if layer is not None}
        arrays = {name: array[list(row_of.values())] for name, array in self.arrays.items()}
        return replace(self, arrays=arrays, layers=tuple(row_of), layers_known=True)

    def plain(self, path: Path) -> "Vectors":
        """The plain differences of class means, of kind `plain`: the same directions, in the lengths that these have.

        Args:
            path: of the file.

        Raises:
            InputError: the file does not hold the lengths.
        """
        if self.plain_norms is None:
            raise InputError(
                f"{path}: holds no plain norm, which --vector_scale=plain needs; take vectors of kind {MASS_MEAN}, and "
                "trace their checkpoint again"
            )
        arrays = {}
        for name, array in self.arrays.items():
            scale = np.linalg.norm(array, axis=1)
            factor = np.divide(self.plain_norms[name], scale, out=np.zeros_like(scale), where=scale > 0)
            arrays[name] = factor[:, None] * array
        return replace(self, arrays=arrays, kind="plain")

    def times(self, factor: float) -> "Vectors":
        """The same vectors times a factor, their sets named so: `2*stereoset`; a negative one turns them round."""
        new = {name: times(factor, name) for name in self.arrays}
        norms = self.plain_norms
        return replace(
            self,
            arrays={new[name]: np.float32(factor) * array for name, array in self.arrays.items()},
            plain_norms=norms and {new[name]: np.float32(abs(factor)) * norm for name, norm in norms.items()},
            one_is_good={
                new[name]: good if good is None or factor >= 0 else not good for name, good in self.one_is_good.items()
            },
        )


def read_vectors(path: Path) -> Vectors:
    """Read a file of vectors, in the format of its suffix (`jtrace.probing.vector_formats`); of any other, safetensors.

    It is one of `RUN/vectors`, of an earlier release or not, or any that holds arrays [layer, width] by set, or arrays
    [width] by layer, which are one set.

    Raises:
        InputError: not there or damaged; arrays that are not [layer, width], of different shapes or not finite; or
            metadata that does not fit them.
    """
    try:
        file = FORMATS[format_of(path) or "safetensors"].read(path)
    except MissingFileError:
        raise InputError(
            f"{path}: not found; name a file of steering vectors, as RUN/vectors/NAME.safetensors"
        ) from None
    try:
        about = parse_json(file.about)
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as vectors ({cause(error)}); trace its checkpoint again") from None
    arrays = file.arrays
    if layer_of := layers_of(arrays):
        arrays, about = _stacked(path, arrays, layer_of, about)
    for name, array in arrays.items():
        if array.ndim != 2 or not array.size or not jnp.issubdtype(array.dtype, jnp.floating):
            shape = f"{array.dtype} {list(array.shape)}"
            raise InputError(f"{path}: array '{name}' is {shape}; vectors are floating-point arrays [layer, width]")
        if not np.isfinite(array.astype(np.float32)).all():
            raise InputError(f"{path}: array '{name}' has NaN or infinite values; make the vectors again")
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1:
        content = "no array" if not shapes else f"arrays of shapes {sorted(map(list, shapes))}"
        raise InputError(f"{path}: holds {content}; arrays [layer, width] of one model are needed")
    ((count, width),) = shapes
    try:
        layers = tuple(map(_whole, about.get("layers", range(count))))
        good = about.get("label_one_is_good", {})
        one_is_good = {name: None if good.get(name) is None else bool(good[name]) for name in arrays}
        model = _model_facts(about.get("model"))
        norms = about.get("plain_norm")
        plain_norms = norms and {name: np.array(norms[name], np.float32).reshape(count) for name in arrays}
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise InputError(f"{path}: its metadata '{VECTORS_KEY}' is damaged; trace its checkpoint again") from None
    if len(layers) != count or min(layers) < 0 or len(set(layers)) != count:
        raise InputError(f"{path}: its metadata names layers {list(layers)} for {count} rows; make the vectors again")
    if model and (model.width != width or max(layers) >= model.depth):
        raise InputError(
            f"{path}: its metadata is of a model of {model.depth} layers of width {model.width}, its arrays are not "
            f"(layer {max(layers)}, width {width}); make the vectors again"
        )
    # Earlier releases made this kind only, and did not say so.
    kind = about.get("kind", MASS_MEAN) if about else None
    return Vectors(
        checkpoint=str(about.get("checkpoint", path.stem)),
        kind=None if kind is None else str(kind),
        arrays={name: array.astype(np.float32) for name, array in arrays.items()},
        layers=layers,
        layers_known="layers" in about,
        one_is_good=one_is_good,
        model=model,
        plain_norms=plain_norms,
    )


def _stacked(
    path: Path, by_layer: Mapping[str, np.ndarray], layer_of: Mapping[str, int], about: Any
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays of a file that has one for each layer → those of a file that has one for its set, and its metadata.

    Raises:
        InputError: they are not [width], of different widths, or not of floats.
    """
    names = sorted(layer_of, key=layer_of.__getitem__)
    width = by_layer[names[0]].size
    for name in names:
        array = by_layer[name]
        if array.shape != (width,) or not width or not jnp.issubdtype(array.dtype, jnp.floating):
            shape = f"{array.dtype} {list(array.shape)}"
            raise InputError(
                f"{path}: array '{name}' is {shape}; floating-point arrays [width] of equal widths are needed"
            )
    if not isinstance(about, dict):
        raise InputError(f"{path}: its metadata '{VECTORS_KEY}' is damaged; make the file again")
    with np.errstate(over="ignore"):  # infinite values are refused with their set's name
        stacked = np.stack([by_layer[name].astype(np.float32) for name in names])
    its_layers = {"layers": [layer_of[name] for name in names]}
    return {str(about.get("set", path.stem)): stacked}, {"kind": None} | about | its_layers


def _model_facts(facts: Mapping[str, Any] | None) -> ModelFacts | None:
    """Facts that metadata tell; earlier releases told none."""
    if facts is None:
        return None
    return ModelFacts(str(facts["model_type"]), _whole(facts["width"]), _whole(facts["depth"]))


def _whole(number: Any) -> int:
    if type(number) is not int:
        raise ValueError(f"{number!r} is no whole number")
    return number
