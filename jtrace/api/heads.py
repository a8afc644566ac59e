"""Attention heads in Python: how well each tells labels apart, and a vector that moves the best of them.

Axes: M layers, A heads of a layer, N statements, H head_dim.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Bool, Float

from jtrace.api.activations import Activations, Origin, check_same
from jtrace.api.arguments import in_python_words
from jtrace.api.vectors import leading_mask
from jtrace.data.groups import groups_of
from jtrace.data.splits import grouped_folds
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.probing.head_probes import best_heads, head_accuracies, head_vectors
from jtrace.runs.names import VectorName
from jtrace.steering.vector import SteeringVector

VALIDATION_FOLDS = 5  # one of them is held out, as in the paper


# eq=False: arrays have no single truth value.
@dataclass(frozen=True, eq=False)
class Heads:
    """Probes of every head, on rows held out of the leading ones.

    Attributes:
        accuracies: of each head's probe on the held-out rows, [M, A].
        layers: in the order of `accuracies`.
        activations: what the heads read.
        statements: the same statements, with their labels.
        leading: the rows that vectors are made of, and probes of those that are not held out.
    """

    accuracies: Float[np.ndarray, "M A"]
    layers: tuple[int, ...]
    activations: Activations
    statements: Statements
    leading: Bool[np.ndarray, " N"]

    @property
    def table(self) -> pd.DataFrame:
        """A row per head: `layer`, `head` and `accuracy`, best first."""
        layer, head = np.indices(self.accuracies.shape)
        columns = {
            "layer": np.asarray(self.layers)[layer.ravel()],
            "head": head.ravel(),
            "accuracy": self.accuracies.ravel(),
        }
        return pd.DataFrame(columns).sort_values("accuracy", ascending=False, kind="stable", ignore_index=True)

    @in_python_words
    def vector(self, count: int) -> SteeringVector:
        """Makes the vector of the best heads: inference-time intervention (Li et al. 2023, arXiv 2306.03341).

        Each of the heads with the highest held-out accuracy is moved along the difference of its class means, by one
        standard deviation of the projections on it; all others are left alone. `vector.at(layer=None, strength=15)`
        moves them all at once, by 15.

        Raises:
            InputError: fewer heads than asked for, or none asked for.
        """
        if not 1 <= count <= self.accuracies.size:
            raise InputError(f"count={count}: give 1 to {self.accuracies.size} heads")
        marks, (heads, origin) = best_heads(self.accuracies, count), _heads_of(self.activations)
        values = np.zeros((origin.model.depth, origin.architecture.heads * origin.architecture.head_dim), np.float32)
        labels, leading = jnp.asarray(self.statements.labels, jnp.float32), jnp.asarray(self.leading)
        for at, layer in enumerate(self.layers):
            if marks[at].any():
                rows = np.asarray(head_vectors(heads[at], labels, leading))
                values[layer] = np.where(marks[at][:, None], rows, 0).ravel()
        if not np.isfinite(values).all():
            raise InputError(f"{self.statements.name}: a head's vector is not finite")
        return SteeringVector(
            values,
            tuple(layer for at, layer in enumerate(self.layers) if marks[at].any()),
            str(VectorName(origin.ref.name, f"heads{count}")),
            self.statements.name,
            self.statements.info.one_is_good if self.statements.info else None,
            model=origin.model,
            site="heads",
        )

    def __repr__(self) -> str:
        top = self.table.iloc[0]
        return (
            f"Heads({self.statements.name!r}: {self.accuracies.size} in {len(self.layers)} layers; the best is head "
            f"{top['head']:.0f} of layer {top['layer']:.0f}, accuracy {top['accuracy']:.3f} on held-out rows)"
        )


@in_python_words
def probe_heads(
    activations: Activations, statements: Statements, *, fraction: float | None = None, seed: int = 0
) -> Heads:
    """Fits a linear probe to every attention head, and measures it on rows held out.

    Args:
        activations: of `model.activations(statements, site="heads")`.
        statements: the same statements, with their labels.
        fraction: leading share of the rows that probes and vectors are made of, so that the others can be evaluated on;
            as published for vectors if None (half of them, of TruthfulQA all). A fifth of these rows is held out,
            groups whole.
        seed: of the held-out rows.

    Raises:
        InputError: activations of another site or of another number of statements, too few rows or groups, or a probe
            that is not at its optimum.
    """
    check_same(activations, statements)
    leading = leading_mask(statements, fraction)
    rows = np.flatnonzero(leading)
    fold = grouped_folds(
        statements.labels[rows], groups_of(statements)[rows], VALIDATION_FOLDS, seed, statements.source
    )
    train, test = jnp.asarray(rows[fold != 0]), jnp.asarray(rows[fold == 0])
    heads, _ = _heads_of(activations)
    labels = jnp.asarray(statements.labels, jnp.float32)
    measured = [head_accuracies(of_layer, labels, train, test) for of_layer in heads]
    accuracies, at_optimum = (np.stack([np.asarray(part) for part in parts]) for parts in zip(*measured, strict=True))
    if not at_optimum.all():
        layer, head = np.argwhere(~at_optimum)[0]
        raise InputError(
            f"{statements.name}: the probe of head {head} of layer {activations.layers[layer]} is not at its optimum"
        )
    return Heads(accuracies, activations.layers, activations, statements, leading)


def _heads_of(activations: Activations) -> tuple[Float[Array, "M N A H"], Origin]:
    origin = activations.origin
    if activations.read.site != "heads" or origin is None:
        raise InputError(f"activations of the site '{activations.read.site}'; give those of a model's site='heads'")
    return activations.values.reshape(
        *activations.shape[:2], origin.architecture.heads, origin.architecture.head_dim
    ), origin
