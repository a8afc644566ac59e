"""The content of a vector file, whatever its format. Axes: L layers, D width."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

# Key of a vector file's metadata, one alone: safetensors writes several in an order that differs from run to run.
VECTORS_KEY = "jtrace"
_LAYER = re.compile(r"layer\.(0|[1-9]\d{0,3})", re.ASCII)


# eq=False: comparing arrays has no single truth value.
@dataclass(frozen=True, eq=False)
class FileContent:
    """Arrays as a file names them, nothing checked but that they are arrays.

    Attributes:
        arrays: by statement set [L, D], or by layer (`layer.15`) [D].
        about: metadata, a JSON text; `{}` where there is none.
    """

    arrays: Mapping[str, np.ndarray]
    about: str = "{}"


@dataclass(frozen=True, eq=False)
class LayerVector:
    """One vector to write, in the layers that it is for.

    Attributes:
        rows: by layer, float32 [D].
        strength: what the rows are multiplied by.
        about: metadata of strength × rows, a JSON text.
        model_type: Hugging Face's; None where it is not known.
    """

    rows: Mapping[int, np.ndarray]
    strength: float
    about: str
    model_type: str | None

    @property
    def scaled(self) -> dict[int, np.ndarray]:
        """Strength × rows: what strength 1 adds of a format that holds no strength."""
        return {layer: np.float32(self.strength) * row for layer, row in self.rows.items()}


def layer_key(layer: int) -> str:
    """The name of a layer's array: `layer.15`."""
    return f"layer.{layer}"


def layers_of(names: Iterable[str]) -> dict[str, int] | None:
    """The layer of each name; None where one is no `layer_key`."""
    matches = {name: _LAYER.fullmatch(name) for name in names}
    layers = {name: int(match[1]) for name, match in matches.items() if match}
    return layers if len(layers) == len(matches) else None
