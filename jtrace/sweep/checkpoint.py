"""One checkpoint: extract, trace, write, ask. What is wrong with it is raised."""

import dataclasses
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jtrace.checkpoints.audit import fingerprint
from jtrace.checkpoints.load import read_config_json
from jtrace.data.tokenizer import (
    read_tokenizer,
    tokenizer_fingerprint,
)
from jtrace.inference.language_model import as_language_model
from jtrace.inference.residuals import PackedSets, extract_residuals
from jtrace.models.decoder import Params
from jtrace.probing.paper import SetTrace, paper_trace
from jtrace.probing.raw_probes import KeptProbes, raw_probe
from jtrace.probing.records import Metric
from jtrace.probing.reversed_probes import reversed_probes
from jtrace.probing.sound import SoundTrace, sound_trace
from jtrace.probing.sound_metrics import baseline_metrics
from jtrace.probing.sound_set import SoundSet
from jtrace.probing.transfer import between_sets
from jtrace.probing.vectors import KINDS, MASS_MEAN, ModelFacts
from jtrace.runs.log import Best, Span
from jtrace.runs.run_directory import RunDirectory
from jtrace.sweep.baselines import Baselines, Untrained
from jtrace.sweep.behaviour import ask_as_it_is
from jtrace.sweep.check import Checked
from jtrace.sweep.config import SweepConfig
from jtrace.sweep.work import Work


@dataclass(frozen=True)
class Traced:
    """How long the parts of tracing took, and what they came to."""

    extract: Span
    statistics: Span
    behaviour: Span | None
    tokens: int
    best: Best | None
    warnings: tuple[str, ...]


@dataclass
class _Found:
    """What the statistics of a checkpoint come to, by set where it is of one."""

    traces: dict[str, SetTrace] = field(default_factory=dict)
    probes: dict[str, KeptProbes] = field(default_factory=dict)
    kept: dict[str, np.ndarray] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    warnings: tuple[str, ...] = ()


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
        writes: whether this process writes what is found; of those that share a mesh, one does.

    Raises:
        InputError: residuals or statistics are not finite, or a task cannot be asked.
        WriteError: the run directory cannot be written.
    """
    ref, full, layers, config = checked.ref, checked.architecture, checked.layers, work.config
    dtype = jnp.dtype(config.dtype)
    started = time.time()
    residuals = extract_residuals(
        params, checked.read, packed.packed, dtype=dtype, progress=progress, layout=work.layout
    )
    residuals.block_until_ready()
    weights = fingerprint(params)
    if not work.tasks:
        delete(params)
    extracted = time.time()
    found = _measure(checked, residuals, packed, work, baselines, progress)
    delete(residuals)
    how = {
        "checkpoint": ref.name,
        "source": str(ref.source),
        "commit": checked.commit,
        "dtype": config.dtype,
        "layers": list(layers),
        "rows": {s.name: int(s.vector_fraction * len(s)) for s in work.sets},
        "label_one_is_good": {s.name: s.info.one_is_good if s.info else None for s in work.sets},
        "model": dataclasses.asdict(ModelFacts(read_config_json(checked.folder)["model_type"], full.width, full.depth)),
    }
    traces = found.traces
    warnings = tuple(filter(None, (ref.warning, *packed.warnings, *found.warnings)))
    vectors = {kind: {name: traces[name].vectors[kind] for name in traces} for kind in config.vector_kinds}
    how_made = {kind: {"kind": kind, "made": KINDS[kind].made, **how} for kind in config.vector_kinds}
    # Only now: the processes of a mesh have run all that they run together, and none waits for one whose disk is full.
    if writes:
        _drop_outdated(checked, config, run)
        for name, activations in found.kept.items():
            run.write_activations(ref, name, activations)
        for kind in config.vector_kinds:
            if kind != MASS_MEAN:
                run.write_vectors(ref, vectors[kind], how_made[kind], kind)
        if found.probes:
            run.write_probes(ref, found.probes, {**how, **dataclasses.asdict(config.sound)})
        run.write_checkpoint(
            ref,
            vectors=vectors[MASS_MEAN],
            how=how_made[MASS_MEAN]
            | {"plain_norm": {name: trace.distances.tolist() for name, trace in traces.items()}},
            metrics=found.metrics,
            fingerprint=weights,
            projections=[trace.projection for trace in traces.values()],
            content=checked.content,
            warnings=warnings,
        )
    traced = time.time()
    if work.tasks:  # last: what is wrong with a task leaves the trace as it is
        words = read_tokenizer(checked.tokenizer, config.special_tokens)
        values = read_config_json(checked.folder)
        model = as_language_model(ref.name, checked.folder, values, full, params, dtype, words)
        key = checked.content.key if checked.content else str(ref.source)
        ask_as_it_is(run, model, work.tasks, config, key)
        delete(params)
    return Traced(
        Span(started, extracted),
        Span(extracted, traced),
        Span(traced, time.time()) if work.tasks else None,
        int(packed.packed.used.sum()),
        best(found.metrics),
        warnings,
    )


def _drop_outdated(checked: Checked, config: SweepConfig, run: RunDirectory) -> None:
    """Where other weights are traced under a name, the vectors that are not made anew are not the checkpoint's."""
    origin, now = run.origin(checked.ref), checked.content
    if origin and origin.content and now and now.differences(origin.content):
        run.drop_vectors(checked.ref, KINDS.keys() - set(config.vector_kinds))


def delete(arrays: Any) -> None:
    """Free the memory of device arrays at once, whoever still refers to them."""
    for leaf in jax.tree.leaves(arrays):
        leaf.delete()


def _measure(
    checked: Checked,
    residuals: Array,
    packed: PackedSets,
    work: Work,
    baselines: Baselines,
    progress: str | None,
) -> _Found:
    """Every set by every protocol, then each set's probe on the others."""
    layers, config, layout, found = checked.layers, work.config, work.layout, _Found()
    random_init = {}
    if config.is_sound:
        untrained = Untrained(checked.read, layers, tokenizer_fingerprint(checked.tokenizer), config.dtype)
        random_init = baselines.random_init(untrained, packed, progress)
    for statements in work.sets:
        name = statements.name
        label = None if progress is None else f"{progress} {name}"
        members = packed.members[name]
        trace = paper_trace(residuals, members, statements, layers, label, config.vector_kinds, layout)
        found.traces[name] = trace
        if "paper" in config.protocols:
            found.metrics += [*trace.metrics, *baselines.text(statements).metrics(statements, layers)]
        if config.is_sound:
            of, text = baselines.sound_set(statements), baselines.text_scores(statements)
            sound = sound_trace(residuals, members, of, text, random_init[name], layers, layout, label)
            found.probes[name] = _kept_probes(sound, of)
            found.metrics += [*sound.metrics, *baseline_metrics(of, text, layers)]
        if config.keep_activations:
            found.kept[name] = np.asarray(residuals[np.asarray(layers)][:, members])
    found.warnings += tuple(reversed_probes(found.metrics))
    if len(found.probes) > 1:
        probes = {name: kept.probes for name, kept in found.probes.items()}
        draws, seed = config.sound.draws, config.sound.seed
        found.metrics += between_sets(residuals, packed.members, baselines.targets, probes, layers, draws, seed)
    return found


def _kept_probes(trace: SoundTrace, of: SoundSet) -> KeptProbes:
    probes = trace.probes
    raw = raw_probe(probes.weights, probes.intercepts, probes.means, probes.scales)
    return KeptProbes(raw, probes.fold_of, of.statements.labels)


def best(metrics: Sequence[Metric]) -> Best | None:
    """The highest probe accuracy of a checkpoint, the first of equals."""
    probes = [metric for metric in metrics if metric.metric == "probe_accuracy"]
    top = max(probes, key=lambda metric: metric.value, default=None)
    return Best(top.dataset, top.layer, top.protocol, top.value) if top else None


def peak_memory() -> int:
    """Bytes: the accelerator's peak where it tells, else this process's peak resident size."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
