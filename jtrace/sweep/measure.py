"""Statistics of one checkpoint's residuals: every set by every protocol, then each set's probe on the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array

from jtrace.data.statements import Statements
from jtrace.data.tokenizer import tokenizer_fingerprint
from jtrace.inference.residuals import PackedSets
from jtrace.probing.paper import SetTrace, paper_trace
from jtrace.probing.raw_probes import KeptProbes, raw_probe
from jtrace.probing.records import HeldOut, Metric
from jtrace.probing.reversed_probes import reversed_probes
from jtrace.probing.sound import Probes, sound_trace
from jtrace.probing.sound_metrics import baseline_metrics
from jtrace.probing.sound_set import SoundSet
from jtrace.probing.transfer import between_sets
from jtrace.runs.log import Best
from jtrace.runtime.compilation import release_programs
from jtrace.sweep.baselines import Baselines, Untrained
from jtrace.sweep.check import Checked
from jtrace.sweep.work import Work


@dataclass(frozen=True)
class SetResult:
    """Statistics of one statement set.

    Attributes:
        metrics: by every protocol, baselines among them.
        probes: None where protocol `sound` is not asked for.
        activations: None where they are not kept.
        held_out: scores of rows by every protocol that is asked for.
    """

    trace: SetTrace
    metrics: tuple[Metric, ...]
    probes: KeptProbes | None
    activations: np.ndarray | None
    held_out: tuple[HeldOut, ...]


@dataclass(frozen=True)
class Measured:
    """Statistics of a checkpoint.

    Attributes:
        sets: by name, in the sweep's order.
        metrics: of all sets, then of each set's probe on the others.
    """

    sets: Mapping[str, SetResult]
    metrics: tuple[Metric, ...]
    warnings: tuple[str, ...]

    @property
    def probes(self) -> dict[str, KeptProbes]:
        """Probes of protocol `sound`, by set."""
        return {name: one.probes for name, one in self.sets.items() if one.probes is not None}

    @property
    def best(self) -> Best | None:
        """The highest probe accuracy of the checkpoint, the first of equals."""
        probes = [metric for metric in self.metrics if metric.metric == "probe_accuracy"]
        top = max(probes, key=lambda metric: metric.value, default=None)
        return Best(top.dataset, top.layer, top.protocol, top.value) if top else None


def measure(
    residuals: Array, checked: Checked, packed: PackedSets, work: Work, baselines: Baselines, progress: str | None
) -> Measured:
    """Measure every set by every protocol, then each set's probe on the others.

    Args:
        residuals: [layer, distinct statement, width], whole on every device.
        progress: label of bars; None for no bars.

    Raises:
        InputError: a statistic is not finite, or a probe is not at its optimum.
    """
    layers, config = checked.layers, work.config
    random_init = {}
    if config.is_sound:
        untrained = Untrained(checked.read, layers, tokenizer_fingerprint(checked.tokenizer), config.dtype)
        random_init = baselines.random_init(untrained, packed, progress)
    sets = {}
    for statements in work.sets:
        release_programs()
        name = statements.name
        label = None if progress is None else f"{progress} {name}"
        sets[name] = _measure_set(
            statements, residuals, packed.members[name], layers, work, baselines, random_init.get(name), label
        )
    metrics = [metric for one in sets.values() for metric in one.metrics]
    warnings = tuple(reversed_probes(metrics))
    probes = {name: one.probes.probes for name, one in sets.items() if one.probes is not None}
    if len(probes) > 1:
        draws, seed = config.sound.draws, config.sound.seed
        metrics += between_sets(residuals, packed.members, baselines.targets, probes, layers, draws, seed)
    return Measured(sets, tuple(metrics), warnings)


def _measure_set(
    statements: Statements,
    residuals: Array,
    members: np.ndarray,
    layers: Sequence[int],
    work: Work,
    baselines: Baselines,
    random_init: np.ndarray | None,
    label: str | None,
) -> SetResult:
    """Measure one set by every protocol.

    Args:
        members: which distinct statement each row is.
        random_init: scores of the re-initialised architecture, for protocol `sound`; None without it.
        label: of a bar; None for no bar.
    """
    config, layout = work.config, work.layout
    trace = paper_trace(residuals, members, statements, layers, label, config.vector_kinds, layout, config.is_paper)
    metrics: tuple[Metric, ...] = ()
    held_out: tuple[HeldOut, ...] = ()
    if trace.held_out is not None:
        metrics = (*trace.metrics, *baselines.text(statements).metrics(statements, layers))
        held_out = (trace.held_out,)
    probes = None
    if random_init is not None:
        split, text = baselines.sound_set(statements), baselines.text_scores(statements)
        sound = sound_trace(residuals, members, split, text, random_init, layers, layout, label)
        probes = _kept_probes(sound.probes, split)
        metrics += (*sound.metrics, *baseline_metrics(split, text, layers))
        held_out += (sound.held_out,)
    activations = np.asarray(residuals[np.asarray(layers)][:, members]) if config.keep_activations else None
    return SetResult(trace, metrics, probes, activations, held_out)


def _kept_probes(probes: Probes, split: SoundSet) -> KeptProbes:
    raw = raw_probe(probes.weights, probes.intercepts, probes.means, probes.scales)
    return KeptProbes(raw, probes.fold_of, split.statements.labels)
