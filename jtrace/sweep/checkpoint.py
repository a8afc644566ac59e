"""One checkpoint: extract, measure, write, ask; each hands on what it makes. What is wrong with it is raised."""

import dataclasses
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jtrace.checkpoints.audit import WeightFingerprint, fingerprint
from jtrace.checkpoints.load import read_config_json
from jtrace.data.tokenizer import read_tokenizer
from jtrace.inference.language_model import as_language_model
from jtrace.inference.residuals import PackedSets, extract_residuals
from jtrace.models.decoder import Params
from jtrace.probing.vector_files import ModelFacts
from jtrace.probing.vectors import KINDS, MASS_MEAN
from jtrace.runs.log import Best, Span
from jtrace.runs.run_directory import RunDirectory
from jtrace.sweep.baselines import Baselines
from jtrace.sweep.behaviour import ask_as_it_is
from jtrace.sweep.check import Checked
from jtrace.sweep.config import SweepConfig
from jtrace.sweep.measure import Measured, measure
from jtrace.sweep.work import Work


@dataclass(frozen=True)
class Traced:
    """Times that the parts of tracing took, and what they came to."""

    extract: Span
    statistics: Span
    behaviour: Span | None
    tokens: int
    best: Best | None
    warnings: tuple[str, ...]


def trace_checkpoint(
    checked: Checked,
    packed: PackedSets,
    params: Params,
    work: Work,
    baselines: Baselines,
    run: RunDirectory,
    progress: str | None = None,
    writes: bool = True,
) -> Traced:
    """Trace one checkpoint into the run directory.

    Args:
        packed: the statements, by its tokeniser.
        params: of `checked.read`, on the mesh of `work`; their buffers are deleted as soon as they have served.
        baselines: what probes are held against.
        writes: whether this process writes what it measures; of those that share a mesh, one does.

    Raises:
        InputError: residuals or statistics are not finite, or a task cannot be asked.
        WriteError: the run directory cannot be written.
    """
    started = time.time()
    residuals, weights = _extract(checked, packed, params, work, progress)
    if not work.tasks:
        delete(params)
    extracted = time.time()
    measured = measure(residuals, checked, packed, work, baselines, progress)
    delete(residuals)
    warnings = tuple(filter(None, (checked.ref.warning, *packed.warnings, *measured.warnings)))
    how = _provenance(checked, work)
    # Only now: the processes of a mesh have run all that they run together, and none waits for one whose disk is full.
    if writes:
        _write(checked, measured, weights, how, warnings, work.config, run)
    traced = time.time()
    if work.tasks:  # last: what is wrong with a task leaves the trace as it is
        _ask(checked, params, work, run)
        delete(params)
    return Traced(
        Span(started, extracted),
        Span(extracted, traced),
        Span(traced, time.time()) if work.tasks else None,
        int(packed.packed.used.sum()),
        measured.best,
        warnings,
    )


def _extract(
    checked: Checked, packed: PackedSets, params: Params, work: Work, progress: str | None
) -> tuple[Array, WeightFingerprint]:
    """Residuals [layer, distinct statement, width], computed, and what tells the params from others."""
    dtype = jnp.dtype(work.config.dtype)
    residuals = extract_residuals(
        params, checked.read, packed.packed, dtype=dtype, progress=progress, layout=work.layout
    )
    residuals.block_until_ready()
    return residuals, fingerprint(params)


def _provenance(checked: Checked, work: Work) -> dict[str, Any]:
    """Origin of vectors and probes, which their files tell: the checkpoint, the rows, the model; JSON values."""
    full = checked.architecture
    return {
        "checkpoint": checked.ref.name,
        "source": str(checked.ref.source),
        "commit": checked.commit,
        "dtype": work.config.dtype,
        "layers": list(checked.layers),
        "rows": {s.name: int(s.vector_fraction * len(s)) for s in work.sets},
        "label_one_is_good": {s.name: s.info.one_is_good if s.info else None for s in work.sets},
        "model": dataclasses.asdict(ModelFacts(read_config_json(checked.folder)["model_type"], full.width, full.depth)),
    }


def _write(
    checked: Checked,
    measured: Measured,
    weights: WeightFingerprint,
    how: Mapping[str, Any],
    warnings: Sequence[str],
    config: SweepConfig,
    run: RunDirectory,
) -> None:
    """Write all that was measured, the table last."""
    ref, sets = checked.ref, measured.sets
    vectors = {kind: {name: one.trace.vectors[kind] for name, one in sets.items()} for kind in config.vector_kinds}
    how_made = {kind: {"kind": kind, "made": KINDS[kind].made, **how} for kind in config.vector_kinds}
    _drop_outdated(checked, config, run)
    for name, one in sets.items():
        if one.activations is not None:
            run.write_activations(ref, name, one.activations)
    for kind in config.vector_kinds:
        if kind != MASS_MEAN:
            run.write_vectors(ref, vectors[kind], how_made[kind], kind)
    if probes := measured.probes:
        run.write_probes(ref, probes, {**how, **dataclasses.asdict(config.sound)})
    run.write_checkpoint(
        ref,
        vectors=vectors[MASS_MEAN],
        how=how_made[MASS_MEAN] | {"plain_norm": {name: one.trace.distances.tolist() for name, one in sets.items()}},
        metrics=measured.metrics,
        fingerprint=weights,
        projections=[one.trace.projection for one in sets.values()],
        content=checked.content,
        warnings=warnings,
        held_out=[held_out for one in sets.values() for held_out in one.held_out],
    )


def _ask(checked: Checked, params: Params, work: Work, run: RunDirectory) -> None:
    """Ask the model the tasks of the sweep, without steering."""
    ref, folder, config = checked.ref, checked.folder, work.config
    words = read_tokenizer(checked.tokenizer, config.special_tokens)
    values, dtype = read_config_json(folder), jnp.dtype(config.dtype)
    model = as_language_model(ref.name, folder, values, checked.architecture, params, dtype, words)
    ask_as_it_is(run, model, work.tasks, config, checked.content.key if checked.content else str(ref.source))


def _drop_outdated(checked: Checked, config: SweepConfig, run: RunDirectory) -> None:
    """Remove vectors that are not made anew where other weights are traced under a name: they are not of these."""
    origin, now = run.origin(checked.ref), checked.content
    if origin and origin.content and now and now.differences(origin.content):
        run.drop_vectors(checked.ref, KINDS.keys() - set(config.vector_kinds))


def delete(arrays: Any) -> None:
    """Free the memory of device arrays at once, whoever still refers to them."""
    for leaf in jax.tree.leaves(arrays):
        leaf.delete()


def peak_memory() -> int:
    """Bytes: the accelerator's peak where it tells, else this process's peak resident size."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
