"""Activations: residuals of statements or another site's values, layer by layer, and what they were read from.

Axes: L layers that were computed, M layers that were asked for, U distinct statements, N statements, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jtrace.checkpoints.refs import CheckpointRef
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.inference.residuals import PackedSets
from jtrace.models.config import DecoderConfig
from jtrace.models.reading import RESIDUAL, Read
from jtrace.probing.vector_files import ModelFacts


# eq=False: arrays have no single truth value.
@dataclass(frozen=True, eq=False)
class Origin:
    """The source of activations.

    Attributes:
        ref: the checkpoint.
        model: facts of the whole model.
        architecture: of the blocks that were computed.
        packed: the statements.
        dtype: of params and forward.
    """

    ref: CheckpointRef
    model: ModelFacts
    architecture: DecoderConfig
    packed: PackedSets
    dtype: str

    def packed_as(self, name: str) -> PackedSets:
        """The statements under the name of a set."""
        (members,) = self.packed.members.values()
        return replace(self.packed, members={name: members})


# eq=False: arrays have no single truth value.
@dataclass(frozen=True, eq=False)
class Activations:
    """Residuals after blocks at the last token of statements, or what else was read of blocks.

    Attributes:
        residuals: of every distinct statement, from layer 0 on, on the device.
        members: which distinct statement each one is.
        layers: the layers that were asked for.
        name: of the statements.
        origin: None for arrays of one's own.
        read: the site and the pooling.
    """

    residuals: Float[Array, "L U D"]
    members: Int[np.ndarray, " N"]
    layers: tuple[int, ...]
    name: str = "statements"
    origin: Origin | None = None
    read: Read = RESIDUAL

    @property
    def values(self) -> Float[Array, "M N D"]:
        """The residuals of the layers that were asked for, on the device, in the dtype of the forward."""
        return self.residuals[np.asarray(self.layers)][:, self.members]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of layers and statements, and width."""
        return len(self.layers), len(self.members), self.residuals.shape[2]

    def to_numpy(self) -> Float[np.ndarray, "M N D"]:
        """The residuals as float32."""
        return np.asarray(self.values.astype(jnp.float32))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.to_numpy() if dtype is None else self.to_numpy().astype(dtype)

    def to_xarray(self) -> Any:
        """The residuals as an xarray.DataArray with dimensions `layer`, `statement` and `width`.

        Raises:
            InputError: xarray is not installed.
        """
        try:
            import xarray
        except ImportError:
            raise InputError("xarray is not installed; pip install xarray, or take to_numpy()") from None
        coords = {"layer": list(self.layers)}
        return xarray.DataArray(self.to_numpy(), coords, ("layer", "statement", "width"), name=self.name)

    def __len__(self) -> int:
        return len(self.members)

    def __repr__(self) -> str:
        layers, statements, width = self.shape
        source = f" of {self.origin.ref.name}" if self.origin else ""
        what = "" if self.read == RESIDUAL else f", {self.read.site} {self.read.pooling}"
        return f"Activations({self.name!r}{source}{what}: {layers} layers, {statements} statements, width {width})"


def check_same(activations: "Activations", statements: Statements) -> None:
    """Checks that activations may be those of the statements.

    Raises:
        InputError: their numbers differ.
    """
    if len(activations) != len(statements):
        raise InputError(
            f"activations of {len(activations)} statements for {len(statements)}; give those of the same ones"
        )


def as_activations(given: Activations | Any, layers: Sequence[int] | None = None) -> Activations:
    """Activations as they are, or made of an array [layer, statement, width] of one's own.

    Args:
        layers: of the array; 0 and up if None.

    Raises:
        InputError: no such array, or values that are not finite.
    """
    if isinstance(given, Activations):
        return given
    array = jnp.asarray(given)
    if array.ndim != 3 or not array.size or not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(
            f"activations of shape {list(array.shape)} and type {array.dtype}; give floats [layer, statement, width]"
        )
    if not bool(jnp.isfinite(array).all()):
        raise InputError("activations hold NaN or infinite values; statistics of them mean nothing")
    if layers is not None and len(layers) != len(array):
        raise InputError(f"activations of {len(array)} layers; give those of the {len(layers)} layers {list(layers)}")
    return Activations(array, np.arange(array.shape[1]), tuple(range(array.shape[0]) if layers is None else layers))
