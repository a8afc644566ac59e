"""One checkpoint: check, extract, trace, write, ask. What is wrong with it is raised."""

import dataclasses
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from transformers import PreTrainedTokenizerBase

from jtrace.checkpoints.audit import fingerprint
from jtrace.checkpoints.content import Content, holds_weights, read_content
from jtrace.checkpoints.load import read_config_json
from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.checkpoints.suites import suites_at
from jtrace.data.statements import Statements
from jtrace.data.tokenizer import (
    SpecialTokens,
    appends_tokens,
    check_embedded,
    check_vocabulary,
    class_disagreement,
    encode,
    has_tokenizer,
    read_tokenizer,
    tokenizer_fingerprint,
)
from jtrace.errors import InputError
from jtrace.evaluation.task import Task
from jtrace.hub.client import Hub
from jtrace.hub.files import Listing
from jtrace.inference.language_model import LanguageModel, as_language_model
from jtrace.inference.residuals import PackedSets, extract, pack_sets
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Params
from jtrace.models.families import read_model_config
from jtrace.models.sharding import Layout
from jtrace.probing.paper import SetTrace, paper_trace
from jtrace.probing.raw_probes import KeptProbes, raw_probe
from jtrace.probing.records import Metric
from jtrace.probing.reversed_probes import reversed_probes
from jtrace.probing.sound import SoundTrace, sound_trace
from jtrace.probing.sound_metrics import baseline_metrics
from jtrace.probing.sound_set import SoundConfig, SoundSet
from jtrace.probing.transfer import between_sets
from jtrace.probing.vectors import KINDS, MASS_MEAN, ModelFacts
from jtrace.runs.log import Best, Span
from jtrace.runs.run_directory import RunDirectory
from jtrace.runs.steering_files import Unit
from jtrace.runtime.atomic import cannot_write
from jtrace.steering.experiment import SteerConfig, steer, unit_of
from jtrace.steering.vector import no_vector
from jtrace.sweep.baselines import Baselines, Untrained


@dataclass(frozen=True)
class SweepConfig:
    """What decides the numbers of a sweep, beside checkpoints and statements.

    Attributes:
        dtype: of params, forward and kept activations; statistics are float32 always.
        layers: which layers to report; None for all.
        tokenizer: folder of the tokeniser; None for each checkpoint's own.
        special_tokens: what special tokens that are written out in a statement are read as.
        keep_activations: also write the residuals themselves.
        vector_kinds: of steering vectors (`jtrace.probing.vectors.KINDS`), the published one among them.
        sound: of protocol `sound`.
    """

    dtype: str = "bfloat16"
    protocols: tuple[str, ...] = ("paper",)
    layers: tuple[int, ...] | None = None
    tokenizer: Path | None = None
    special_tokens: SpecialTokens = "parse"
    keep_activations: bool = False
    vector_kinds: tuple[str, ...] = (MASS_MEAN,)
    sound: SoundConfig = field(default_factory=SoundConfig)

    @property
    def is_sound(self) -> bool:
        """Whether protocol `sound` is asked for."""
        return "sound" in self.protocols

    def record(self) -> dict[str, Any]:
        """As JSON values, for run.json."""
        # Not the kinds of vectors: another one changes no number that is there.
        return {
            "dtype": self.dtype,
            "protocols": list(self.protocols),
            "layers": "all" if self.layers is None else list(self.layers),
            "tokenizer": None if self.tokenizer is None else str(self.tokenizer.resolve()),
            "keep_activations": self.keep_activations,
            # Where it is the default it is left out, as runs of earlier releases do.
            **({"special_tokens": self.special_tokens} if self.special_tokens != "parse" else {}),
            **{f"sound_{name}": value for name, value in dataclasses.asdict(self.sound).items() if self.is_sound},
        }


@dataclass(frozen=True)
class Checked:
    """A checkpoint whose small files are in order.

    Attributes:
        folder: of config.json; of a local checkpoint or an Orbax one, of the weights too.
        tokenizer: folder of the tokeniser.
        architecture: of the whole model.
        layers: to report.
        read: the architecture of the blocks that are read.
        content: of the folder, once its weights are there.
    """

    ref: CheckpointRef
    folder: Path
    tokenizer: Path
    architecture: DecoderConfig
    layers: tuple[int, ...]
    read: DecoderConfig
    commit: str | None = None
    content: Content | None = None

    def with_content(self) -> "Checked":
        """The same, what its files hold known; to be asked for before the weights are read.

        Raises:
            InputError: there are no weights, or they are damaged.
        """
        return dataclasses.replace(self, content=read_content(self.folder, self.tokenizer))


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


class Packer:
    """Packs the statements once per tokeniser and architecture; checkpoints of one model share the result."""

    def __init__(self, sets: Sequence[Statements], special_tokens: SpecialTokens = "parse") -> None:
        self._sets, self._special_tokens = sets, special_tokens
        self._latest: tuple[tuple[str, DecoderConfig], PackedSets] | None = None

    def __call__(self, folder: Path, config: DecoderConfig) -> PackedSets:
        """The packed sets.

        Raises:
            InputError: no tokeniser, a token the model has no embedding for, or a statement longer than its context.
        """
        key = (tokenizer_fingerprint(folder), config)
        if self._latest is None or self._latest[0] != key:
            tokenizer = read_tokenizer(folder, self._special_tokens)
            check_vocabulary(len(tokenizer), config.vocab_size, folder)
            tokens = {statements.name: encode(tokenizer, statements.texts) for statements in self._sets}
            for statements in self._sets:
                _check_tokens(statements, tokens[statements.name], config, folder)
            packed = pack_sets(tokens, config)
            self._latest = key, dataclasses.replace(packed, warnings=tuple(self._warnings(folder, tokenizer)))
        return self._latest[1]

    def _warnings(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
        texts = [text for statements in self._sets for text in statements.texts]
        if disagreement := class_disagreement(folder, texts):
            yield disagreement
        if appends_tokens(tokenizer, texts[0]):
            yield "the tokeniser puts special tokens behind a text; the last one before them is read"


def is_traced(
    ref: CheckpointRef,
    sets: Sequence[Statements],
    config: SweepConfig,
    run: RunDirectory,
    tasks: Sequence[Task] = (),
) -> bool:
    """Whether the run directory holds all that this configuration writes of a checkpoint, as its files are now.

    Raises:
        InputError: it holds another checkpoint of the same name.
    """
    origin = run.origin(ref)
    if origin is None or changes(ref, config, run):
        return False
    asked = [_behaviour_unit(run, ref, task, config, origin.key) for task in tasks]
    return all(unit.table_path.is_file() for unit in asked) and run.is_done(
        ref, [s.name for s in sets] if config.keep_activations else (), config.vector_kinds, probes=config.is_sound
    )


def changes(ref: CheckpointRef, config: SweepConfig, run: RunDirectory) -> tuple[str, ...]:
    """What of a traced checkpoint's folder (`weights`, `config`, `tokenizer`) is not what was traced.

    A folder that was moved or copied has not changed. Of a hub revision nothing is looked at, nor where the weights are
    gone or the table is of a release that kept no content.

    Raises:
        InputError: what was traced is another checkpoint of the same name.
    """
    origin = run.origin(ref)
    if origin is None:
        return ()
    here, found = str(ref.source) == origin.source, tuple[str, ...]()
    if origin.content is not None and isinstance(ref.source, Path) and holds_weights(ref.source):
        try:
            now = read_content(ref.source, config.tokenizer, origin.content if here else None)
        except InputError:
            return ("weights",)
        found = now.differences(origin.content)
        here = here or not found
    if not here:
        raise InputError(
            f"{run.table_path(ref)}: made from {origin.source}, not from {ref.source}; rename the folder or take "
            "another --out"
        )
    return found


def check_checkpoint(
    ref: CheckpointRef, listing: Listing | None, config: SweepConfig, hub: Hub, tasks: Sequence[Task] = ()
) -> Checked:
    """Config and tokeniser, before gigabytes of weights move.

    Args:
        listing: of a hub checkpoint, whose small files are fetched.
        tasks: that it is asked as well; all of its layers are read then.

    Raises:
        InputError: they are at fault, or do not fit the wanted layers.
    """
    folder = hub.fetch_small(listing) if listing else Path(str(ref.source))
    full, tokenizer = read_architecture(folder, ref, config, hub)
    layers = wanted_layers(config.layers, full.depth, ref)
    read = full.truncated(full.depth if tasks else max(layers) + 1)
    commit = listing.commit if listing else None
    return Checked(ref, folder, tokenizer, full, tuple(layers), read, commit)


def trace_checkpoint(
    checked: Checked,
    packed: PackedSets,
    params: Params,
    sets: Sequence[Statements],
    config: SweepConfig,
    baselines: Baselines,
    run: RunDirectory,
    tasks: Sequence[Task] = (),
    layout: Layout | None = None,
    progress: str | None = None,
    writes: bool = True,
) -> Traced:
    """Trace one checkpoint into the run directory.

    Args:
        packed: the statements, by its tokeniser.
        params: of `checked.read`; their buffers are deleted as soon as they have served.
        layout: the mesh that they lie on.
        baselines: what probes are held against.
        writes: whether this process writes what is found; of those that share a mesh, one does.

    Raises:
        InputError: residuals or statistics are not finite, or a task cannot be asked.
        WriteError: the run directory cannot be written.
    """
    ref, full, layers = checked.ref, checked.architecture, checked.layers
    dtype = jnp.dtype(config.dtype)
    started = time.time()
    residuals = extract(params, checked.read, packed.packed, dtype=dtype, progress=progress, layout=layout)
    residuals.block_until_ready()
    weights = fingerprint(params)
    if not tasks:
        delete(params)
    extracted = time.time()
    found = _measure(checked, residuals, packed, sets, config, baselines, layout, progress)
    delete(residuals)
    how = {
        "checkpoint": ref.name,
        "source": str(ref.source),
        "commit": checked.commit,
        "dtype": config.dtype,
        "layers": list(layers),
        "rows": {s.name: int(s.vector_fraction * len(s)) for s in sets},
        "label_one_is_good": {s.name: s.info.one_is_good if s.info else None for s in sets},
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
    if tasks:  # last: what is wrong with a task leaves the trace as it is
        words = read_tokenizer(checked.tokenizer, config.special_tokens)
        values = read_config_json(checked.folder)
        model = as_language_model(ref.name, checked.folder, values, full, params, dtype, words)
        key = checked.content.key if checked.content else str(ref.source)
        ask_as_it_is(run, model, tasks, config, key)
        delete(params)
    return Traced(
        Span(started, extracted),
        Span(extracted, traced),
        Span(traced, time.time()) if tasks else None,
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
    sets: Sequence[Statements],
    config: SweepConfig,
    baselines: Baselines,
    layout: Layout | None,
    progress: str | None,
) -> _Found:
    """Every set by every protocol, then each set's probe on the others."""
    layers, found = checked.layers, _Found()
    random_init = {}
    if config.is_sound:
        untrained = Untrained(checked.read, layers, tokenizer_fingerprint(checked.tokenizer), config.dtype)
        random_init = baselines.random_init(untrained, packed, progress)
    for statements in sets:
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


def ask_as_it_is(run: RunDirectory, model: LanguageModel, tasks: Sequence[Task], config: SweepConfig, key: str) -> None:
    """The answers of a checkpoint without steering, into RUN/steering, so that probes and behaviour can be compared.

    Args:
        key: of the checkpoint's content.
    """
    folder = run.path / "steering"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    vector = no_vector(model.config.depth, model.config.width)
    steer(folder, model, [vector], tasks, _as_it_is(config), key, quiet=True)


def behaviour_protocols(config: SweepConfig) -> tuple[str, ...]:
    """By likelihood as well, however probes are fitted: early answers that are generated may not be readable."""
    return tuple(dict.fromkeys((*config.protocols, "sound")))


def _as_it_is(config: SweepConfig) -> SteerConfig:
    return SteerConfig(
        strengths=(0.0,), layers=((0,),), protocols=behaviour_protocols(config), special_tokens=config.special_tokens
    )


def _behaviour_unit(run: RunDirectory, ref: CheckpointRef, task: Task, config: SweepConfig, key: str) -> Unit:
    dtype, how = config.dtype, _as_it_is(config)
    return unit_of(run.path / "steering", ref.name, no_vector(1, 1), "", task, how, dtype, key)


def read_architecture(folder: Path, ref: CheckpointRef, config: SweepConfig, hub: Hub) -> tuple[DecoderConfig, Path]:
    """A checkpoint's architecture, and where its tokeniser lies: as told, in its folder, or where its suite says.

    Raises:
        InputError: config.json is missing, damaged or of a model that is not implemented.
    """
    architecture, _ = read_model_config(read_config_json(folder), str(folder / "config.json"))
    suites = suites_at(ref.source.repo) if isinstance(ref.source, HubSource) else ()
    if config.tokenizer is not None or has_tokenizer(folder) or not suites or suites[0].tokenizer is None:
        return architecture, config.tokenizer or folder
    return architecture, hub.fetch_tokenizer(suites[0].tokenizer)


def peak_memory() -> int:
    """Bytes: the accelerator's peak where it tells, else this process's peak resident size."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def wanted_layers(layers: tuple[int, ...] | None, depth: int, ref: CheckpointRef) -> list[int]:
    wanted = list(range(depth)) if layers is None else sorted(set(layers))
    if not 0 <= wanted[0] <= wanted[-1] < depth:
        raise InputError(f"--layers asks for {wanted[-1]}; {ref.name} has layers 0 to {depth - 1}")
    return wanted


def _check_tokens(statements: Statements, tokens: Sequence[np.ndarray], config: DecoderConfig, folder: Path) -> None:
    check_embedded(tokens, config.vocab_size, str(folder))
    for i, ids in enumerate(tokens):
        where = statements.where(i)
        if len(ids) == 0:
            raise InputError(f"{where}: the tokeniser of {folder} makes no token of this statement")
        if len(ids) > config.context:
            raise InputError(
                f"{where}: {len(ids)} tokens, longer than the model's context of {config.context}; shorten it"
            )
