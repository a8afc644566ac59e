"""An audit of checkpoints: whether they hold the weights of their names. Branches of public grids may hold others'.

Each traced checkpoint leaves a fingerprint of its embedding and first block; fingerprints of one run are compared.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jtrace.checkpoints.names import read_folder_step
from jtrace.checkpoints.suites import suites_at
from jtrace.models.decoder import Params
from jtrace.runtime.small_files import parse_json

# Every family has these params; the lowest block is read for any choice of layers.
SAMPLED = ("attention/q/weight", "attention/o/weight", "mlp/up/weight", "mlp/down/weight")
RUNS, RUN_LENGTH = 8, 16
# Weights make a detour if both jumps are longer than the distance between their ends by this factor.
DETOUR = 2.0


@dataclass(frozen=True)
class WeightFingerprint:
    """A few slices of the weights, their hash, and the norms of their params.

    Attributes:
        digest: SHA-256, in hex, of the slices in the dtype that was traced.
        norms: Frobenius norm by param name.
        slices: float32 [params, values].
    """

    digest: str
    norms: Mapping[str, float]
    slices: np.ndarray

    def to_json(self) -> str:
        values = base64.b64encode(self.slices.astype("<f4").tobytes()).decode()
        return json.dumps({"digest": self.digest, "norms": dict(self.norms), "slices": values})

    @staticmethod
    def from_json(text: str) -> "WeightFingerprint":
        """Read what `to_json` wrote.

        Raises:
            ValueError: the text is damaged.
        """
        match parse_json(text):
            case {"digest": str(digest), "norms": dict(norms), "slices": str(slices)} if norms and all(
                type(norm) in (int, float) for norm in norms.values()
            ):
                values = np.frombuffer(base64.b64decode(slices), "<f4")
                return WeightFingerprint(digest, norms, values.reshape(len(norms), -1))
        raise ValueError("its fingerprint is damaged")


@partial(jax.jit, static_argnames="everywhere")
def _sample(params: Params, everywhere: NamedSharding | None) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Takes evenly spaced runs of the sampled params, as unsigned integers of the same bits, and norms of the params.

    Args:
        everywhere: the sharding of the results, where params are laid out on a mesh.
    """
    block = {name: _leaf(params["blocks"], name)[0] for name in SAMPLED}
    slices, norms = {}, {}
    for name, array in {"embedding": params["embedding"], **block}.items():
        flat = array.reshape(-1)
        starts = np.linspace(0, max(flat.size - RUN_LENGTH, 0), RUNS).astype(np.int64)
        # Integers, since a mesh sums over devices, which would turn −0.0 into 0.0.
        bits = jax.lax.bitcast_convert_type(flat, jnp.dtype(f"uint{8 * flat.dtype.itemsize}"))
        slices[name] = bits[(starts[:, None] + np.arange(RUN_LENGTH)).clip(max=flat.size - 1)].reshape(-1)
        norms[name] = jnp.linalg.norm(flat.astype(jnp.float32))
    return (slices, norms) if everywhere is None else jax.lax.with_sharding_constraint((slices, norms), everywhere)


def fingerprint(params: Params) -> WeightFingerprint:
    """Computes the fingerprint of params; its digest does not depend on their layout over devices."""
    embedding = params["embedding"]
    mesh = embedding.sharding.mesh if isinstance(embedding.sharding, NamedSharding) else None
    everywhere = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    slices, norms = jax.device_get(_sample(params, everywhere))
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in slices.values()))
    values = np.stack([array.view(embedding.dtype).astype(np.float32) for array in slices.values()])
    return WeightFingerprint(digest.hexdigest(), {name: float(norm) for name, norm in norms.items()}, values)


@dataclass(frozen=True)
class AuditedCheckpoint:
    """A traced checkpoint: its file name in the run, its names in the table, and its fingerprint."""

    name: str
    model: str
    revision: str
    step: int | None
    fingerprint: WeightFingerprint

    @property
    def trajectory(self) -> tuple[str, str]:
        """The model, and the revision's name up to the step: stages and parallel runs are separate trajectories."""
        parsed = read_folder_step(self.revision)
        return self.model, parsed.before if parsed else self.revision


def audit(traced: Sequence[AuditedCheckpoint]) -> list[str]:
    """Warns of equal weights, and of weights out of place on their trajectory, among the checkpoints of one run."""
    warnings = same_weights(traced)
    trajectories: dict[tuple[str, str], list[AuditedCheckpoint]] = {}
    for checkpoint in traced:
        if checkpoint.step is not None:
            trajectories.setdefault(checkpoint.trajectory, []).append(checkpoint)
    for trajectory in trajectories.values():
        trajectory.sort(key=lambda checkpoint: checkpoint.step or 0)
        warnings += out_of_place([(checkpoint.name, checkpoint.fingerprint) for checkpoint in trajectory])
    return warnings


def same_weights(traced: Sequence[AuditedCheckpoint]) -> list[str]:
    """Warns of every set of checkpoints that have equal fingerprints and should not."""
    equals: dict[str, list[AuditedCheckpoint]] = {}
    for checkpoint in traced:
        equals.setdefault(checkpoint.fingerprint.digest, []).append(checkpoint)
    return [
        f"{', '.join(c.name for c in equal[:6])}{', …' if len(equal) > 6 else ''} ({len(equal)} names) hold the same "
        "weights; at most one of the names can be right, unless training did not move between them"
        for equal in equals.values()
        if len(equal) > 1 and not _rightly_equal(equal)
    ]


def _rightly_equal(equal: Sequence[AuditedCheckpoint]) -> bool:
    """Returns whether these are names of one step, or steps of a suite between which training does not move."""
    models, steps = {checkpoint.model for checkpoint in equal}, {checkpoint.step for checkpoint in equal}
    if len(models) > 1 or None in steps:
        return False
    return len(steps) == 1 or any(steps <= set(suite.unmoved) for suite in suites_at(models.pop()))


def out_of_place(prints: Sequence[tuple[str, WeightFingerprint]]) -> list[str]:
    """Warns of every stretch of one model's checkpoints whose weights do not fit their place in the order of steps.

    A stretch is out of place if the jumps into it and out of it are both more than twice as long as the distance
    between the checkpoints around it. The first and the last checkpoint are out of place if some checkpoint is less
    than half as far away as their neighbour. Of equal weights only the first are used, as `same_weights` warns of them.

    Args:
        prints: names and fingerprints, in pre-training order.
    """
    prints = list({one.digest: (name, one) for name, one in reversed(prints)}.values())[::-1]
    names = [name for name, _ in prints]
    if len(prints) < 3:
        return []
    apart = _distances([one for _, one in prints])
    warnings, left = [], list(range(len(prints)))
    while stretch := _detour(apart[np.ix_(left, left)]):
        inside = [left[i] for i in stretch]
        left = [i for i in left if i not in inside]
        warnings.append(_warning([names[i] for i in inside], names, apart[inside[0]], inside))
    while (end := _stray_end(apart[np.ix_(left, left)])) is not None:
        place = left.pop(end)
        warnings.append(_warning([names[place]], names, apart[place], [place]))
    return warnings


def _detour(apart: np.ndarray) -> range | None:
    """Finds the shortest detour of the trajectory, of less than half of the indices; None if there is none."""
    count = len(apart)
    step = np.array([apart[i, j] for i, j in pairwise(range(count))])
    for length in range(1, min((count + 1) // 2, count - 1)):
        before = np.arange(count - length - 1)
        direct = apart[before, before + length + 1]
        jumps = np.minimum(step[before], step[before + length])
        worst = int(np.argmax(jumps - DETOUR * direct))
        if jumps[worst] > DETOUR * direct[worst]:
            return range(worst + 1, worst + 1 + length)
    return None


def _stray_end(apart: np.ndarray) -> int | None:
    """Returns 0 or −1 if that checkpoint is out of place, and the clearer one if both are."""
    if len(apart) < 3:
        return None
    rows = {0: apart[0, 1:], -1: apart[-1, -2::-1]}
    stray = [end for end, row in rows.items() if row[0] > DETOUR * row[1:].min()]
    # Where the first and the last are near each other, the one with the longer jump is wrong.
    return max(stray, key=lambda end: rows[end][0], default=None)


def _distances(prints: Sequence[WeightFingerprint]) -> np.ndarray:
    """Computes pairwise distances of the slices, each param in units of its own size, float64 [n, n]."""
    slices = np.stack([one.slices for one in prints]).astype(np.float64)
    scale = np.sqrt((slices**2).mean(axis=(0, 2), keepdims=True)) + np.finfo(np.float64).tiny
    flat = (slices / scale).reshape(len(prints), -1)
    squares = (flat**2).sum(axis=1)
    return np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * flat @ flat.T, 0))


def _warning(inside: Sequence[str], names: Sequence[str], apart: np.ndarray, places: Sequence[int]) -> str:
    """Writes one line about a stretch; `apart` holds the distances of its first checkpoint."""
    nearest = min((i for i in range(len(names)) if i not in places), key=lambda i: apart[i])
    which = inside[0] if len(inside) == 1 else f"{inside[0]} to {inside[-1]}"
    return f"{which}: the weights jump away and back here, nearest to {names[nearest]}; the revision may serve others'"


def _leaf(tree: Any, path: str) -> jax.Array:
    """Returns the param at a path; experts' weights end one name before a dense MLP's."""
    for key in path.split("/"):
        tree = tree[key] if isinstance(tree, Mapping) else tree
    return cast(jax.Array, tree)
