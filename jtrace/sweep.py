"""The pipeline over checkpoints: read, extract, trace, write; one failing checkpoint does not stop the others."""

import dataclasses
import functools
import gc
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jtrace import linter
from jtrace.activations import PackedSets, extract, pack_sets
from jtrace.baselines import TextBaseline, text_baseline
from jtrace.checkpoints.audit import fingerprint
from jtrace.checkpoints.convert import read_config_json
from jtrace.checkpoints.hub import Hub, UnreachableError
from jtrace.checkpoints.listing import Listing
from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.checkpoints.store import read_checkpoint
from jtrace.checkpoints.suites import suites_at
from jtrace.data.statements import Statements
from jtrace.data.tokenizer import check_vocabulary, encode, has_tokenizer, read_tokenizer, tokenizer_fingerprint
from jtrace.errors import InputError
from jtrace.figures import draw_all
from jtrace.models.config import DecoderConfig
from jtrace.models.families import read_model_config
from jtrace.results import RunDirectory, open_run
from jtrace.summary import as_text, best_layers
from jtrace.trace import SetTrace, check_paper_rows, paper_trace
from jtrace.vectors import KINDS, MASS_MEAN, ModelFacts

LOOKS_AT_ONCE = 8


@dataclass(frozen=True)
class SweepConfig:
    """What decides the numbers of a sweep, beside checkpoints and statements.

    Attributes:
        dtype: of params, forward and kept activations; statistics are float32 always.
        layers: which layers to report; None for all.
        tokenizer: folder of the tokeniser; None for each checkpoint's own.
        keep_activations: also write the residuals themselves.
        vector_kinds: of steering vectors (`jtrace.vectors.KINDS`), the published one among them.
    """

    dtype: str = "bfloat16"
    protocols: tuple[str, ...] = ("paper",)
    layers: tuple[int, ...] | None = None
    tokenizer: Path | None = None
    keep_activations: bool = False
    vector_kinds: tuple[str, ...] = (MASS_MEAN,)

    def record(self) -> dict[str, Any]:
        """As JSON values, for run.json."""
        # Left out where it is the default: runs of earlier releases, which know no other, can be taken up.
        kinds = {} if self.vector_kinds == (MASS_MEAN,) else {"vector_kinds": list(self.vector_kinds)}
        return {
            "dtype": self.dtype,
            "protocols": list(self.protocols),
            "layers": "all" if self.layers is None else list(self.layers),
            "tokenizer": None if self.tokenizer is None else str(self.tokenizer.resolve()),
            "keep_activations": self.keep_activations,
            **kinds,
        }


@dataclass(frozen=True)
class Timing:
    """Seconds that one checkpoint took, and how much it computed."""

    fetch: float
    read: float
    extract: float
    statistics: float
    tokens: int

    def __str__(self) -> str:
        rate = self.tokens / self.extract
        fetched = f"fetch {self.fetch:.1f} s, " if self.fetch else ""
        return (
            f"{fetched}read {self.read:.1f} s, extract {self.extract:.1f} s ({rate:,.0f} tokens/s), "
            f"statistics {self.statistics:.1f} s, peak memory {peak_memory() / 2**30:.1f} GiB"
        )


def trace_into(
    out: Path, refs: Sequence[CheckpointRef], sets: Sequence[Statements], config: SweepConfig, hub: Hub | None = None
) -> int:
    """A whole tracing command: open the run, trace what is missing, draw the figures, print the summary.

    Args:
        hub: where checkpoints that are not local folders come from; None is the default hub and cache.

    Returns:
        The exit status: 0 if every checkpoint is traced, 1 otherwise.

    Raises:
        InputError: nothing could be started; nothing has been written then.
    """
    for statements in sets:
        check_paper_rows(statements)
    for statements in sets:
        print(linter.as_text(statements.name, linter.lint(statements)), file=sys.stderr)
    run = open_run(
        out,
        config.record(),
        {s.name: s.fingerprint for s in sets},
        [ref.name for ref in refs],
        {s.name: _about(s) for s in sets},
    )
    hub = hub or Hub()
    _check_space(refs, sets, config, run, hub)
    failures = sweep(refs, sets, config, run, hub)
    metrics = run.read_metrics()
    if len(metrics):
        for protocol in config.protocols:
            print(f"\nprotocol {protocol}, at the layer of the highest probe accuracy:\n")
            print(as_text(best_layers(metrics, protocol)))
        vectors = [run.path / "vectors" / ("" if kind == MASS_MEAN else kind) for kind in config.vector_kinds]
        print(f"\ntables   {run.path}/metrics/*.parquet")
        print("vectors  " + "\n         ".join(f"{folder}/*.safetensors" for folder in vectors))
        figures = draw_all(run, metrics)
        print("figures  " + "\n         ".join(str(figure.path) for figure in figures))
        for warning in run.audit():
            print(f"warning: {warning}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} of {len(refs)} checkpoints failed, see {run.path}/failures.jsonl", file=sys.stderr)
    return 1 if failures else 0


class Packer:
    """Packs the statements once per tokeniser and architecture; checkpoints of one model share the result."""

    def __init__(self, sets: Sequence[Statements]) -> None:
        self._sets = sets
        self._latest: tuple[tuple[str, DecoderConfig], PackedSets] | None = None

    def __call__(self, folder: Path, config: DecoderConfig) -> PackedSets:
        """The packed sets.

        Raises:
            InputError: no tokeniser, a token the model has no embedding for, or a statement longer than its context.
        """
        key = (tokenizer_fingerprint(folder), config)
        if self._latest is None or self._latest[0] != key:
            tokenizer = read_tokenizer(folder)
            check_vocabulary(len(tokenizer), config.vocab_size, folder)
            tokens = {statements.name: encode(tokenizer, statements.texts) for statements in self._sets}
            for statements in self._sets:
                _check_tokens(statements, tokens[statements.name], config, folder)
            self._latest = key, pack_sets(tokens, config)
        return self._latest[1]


def sweep(
    refs: Sequence[CheckpointRef],
    sets: Sequence[Statements],
    config: SweepConfig,
    run: RunDirectory,
    hub: Hub,
    *,
    quiet: bool = False,
) -> dict[str, str]:
    """Trace every checkpoint that the run directory does not hold yet.

    Returns:
        The reason for each checkpoint of `refs` that could not be traced, by name; empty if all were.
    """
    packer = Packer(sets)
    baseline = functools.cache(text_baseline)
    failures: dict[str, str] = {}
    for at, ref in enumerate(refs, 1):
        label = f"[{at}/{len(refs)}] {ref.name}"
        try:
            if is_traced(ref, sets, config, run):
                _say(f"{label}: already traced", quiet)
                run.clear_failure(ref)
                continue
            bar = None if quiet else label
            timing, warnings = trace_checkpoint(ref, sets, config, packer, baseline, run, hub, progress=bar)
            run.clear_failure(ref)
            _say(f"{label}: {timing}", quiet)
            for warning in filter(None, (ref.warning, *warnings)):
                print(f"warning: {ref.name}: {warning}", file=sys.stderr)
        except Exception as error:  # whatever is wrong with one checkpoint, the others go on
            reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            failures[ref.name] = " ".join(reason.split())
            if isinstance(error, UnreachableError):  # one wait for an absent hub is enough
                hub = dataclasses.replace(hub, waits=())
            print(f"error: {label}: {failures[ref.name]}", file=sys.stderr)
            run.record_failure(ref, failures[ref.name])
        gc.collect()
    return failures


def is_traced(ref: CheckpointRef, sets: Sequence[Statements], config: SweepConfig, run: RunDirectory) -> bool:
    """Whether the run directory holds all that this configuration writes of a checkpoint.

    Raises:
        InputError: it holds another checkpoint of the same name.
    """
    return run.is_done(ref, [s.name for s in sets] if config.keep_activations else (), config.vector_kinds)


def trace_checkpoint(
    ref: CheckpointRef,
    sets: Sequence[Statements],
    config: SweepConfig,
    packer: Packer,
    baseline: Callable[[Statements], TextBaseline],
    run: RunDirectory,
    hub: Hub,
    progress: str | None = None,
) -> tuple[Timing, list[str]]:
    """Trace one checkpoint into the run directory.

    Raises:
        InputError: the checkpoint's files are at fault, or do not fit the statements or the wanted layers.
    """
    listing = hub.look(ref.source.repo, ref.source.revision) if isinstance(ref.source, HubSource) else None
    folder = hub.fetch_small(listing) if listing else Path(str(ref.source))
    # Config and tokeniser are checked before gigabytes of weights move.
    full, tokenizer = read_architecture(folder, ref, config, hub)
    layers = wanted_layers(config.layers, full.depth, ref)
    packed = packer(tokenizer, full)
    dtype = jnp.dtype(config.dtype)

    asked = time.perf_counter()
    if listing:
        folder = hub.fetch(listing, progress)
    started = time.perf_counter()
    architecture, params = read_checkpoint(folder, dtype, depth=max(layers) + 1)
    read = time.perf_counter()
    residuals = extract(params, architecture, packed.packed, dtype=dtype, progress=progress)
    residuals.block_until_ready()
    weights = fingerprint(params)
    del params
    extracted = time.perf_counter()
    traces: dict[str, SetTrace] = {}
    for statements in sets:
        name = statements.name
        label = None if progress is None else f"{progress} {name}"
        traces[name] = paper_trace(residuals, packed.members[name], statements, layers, label, config.vector_kinds)
        if config.keep_activations:
            kept = np.asarray(residuals[np.asarray(layers)][:, packed.members[name]])
            run.write_activations(ref, name, kept)
    how = {
        "checkpoint": ref.name,
        "source": str(ref.source),
        "commit": listing.commit if listing else None,
        "dtype": config.dtype,
        "layers": list(layers),
        "rows": {s.name: int(s.vector_fraction * len(s)) for s in sets},
        "label_one_is_good": {s.name: s.info.one_is_good if s.info else None for s in sets},
        "model": dataclasses.asdict(ModelFacts(read_config_json(folder)["model_type"], full.width, full.depth)),
    }
    vectors = {kind: {name: trace.vectors[kind] for name, trace in traces.items()} for kind in config.vector_kinds}
    how_made = {kind: {"kind": kind, "made": KINDS[kind].made, **how} for kind in config.vector_kinds}
    for kind in config.vector_kinds:
        if kind != MASS_MEAN:
            run.write_vectors(ref, vectors[kind], how_made[kind], kind)
    run.write_checkpoint(
        ref,
        vectors=vectors[MASS_MEAN],
        how=how_made[MASS_MEAN],
        metrics=[
            metric
            for statements in sets
            for metric in (*traces[statements.name].metrics, *baseline(statements).metrics(statements, layers))
        ],
        fingerprint=weights,
        projections=[trace.projection for trace in traces.values()],
    )
    done = time.perf_counter()
    fetch = started - asked if listing else 0.0
    timing = Timing(fetch, read - started, extracted - read, done - extracted, int(packed.packed.used.sum()))
    return timing, [warning for trace in traces.values() for warning in trace.warnings]


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


def look_at_all(refs: Sequence[CheckpointRef], hub: Hub) -> list[Listing | InputError | None]:
    """What the hub lists for each checkpoint, or why it does not; None for local folders."""

    asked = hub

    def look(ref: CheckpointRef) -> Listing | InputError | None:
        nonlocal asked
        if not isinstance(ref.source, HubSource):
            return None
        try:
            return asked.look(ref.source.repo, ref.source.revision)
        except UnreachableError as error:
            asked = dataclasses.replace(hub, waits=())  # one wait for an absent hub is enough
            return error
        except InputError as error:
            return error

    remote = sum(isinstance(ref.source, HubSource) for ref in refs)
    with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        # A single one needs no bar; None shows it on terminals only.
        disable = None if remote > 1 else True
        return list(tqdm(pool.map(look, refs), "sizes", len(refs), unit=" checkpoints", leave=False, disable=disable))


def _check_space(
    refs: Sequence[CheckpointRef], sets: Sequence[Statements], config: SweepConfig, run: RunDirectory, hub: Hub
) -> None:
    """Refuse a sweep whose downloads the disk cannot hold, before the first of several starts."""
    remote = [ref for ref in refs if isinstance(ref.source, HubSource) and not is_traced(ref, sets, config, run)]
    if len(remote) > 1:
        hub.check_space([found for found in look_at_all(remote, hub) if isinstance(found, Listing)])


def peak_memory() -> int:
    """Bytes: the accelerator's peak where it tells, else this process's peak resident size."""
    stats = jax.devices()[0].memory_stats()
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
    for i, ids in enumerate(tokens):
        where = statements.where(i)
        if len(ids) == 0:
            raise InputError(f"{where}: the tokeniser of {folder} makes no token of this statement")
        if len(ids) > config.context:
            raise InputError(
                f"{where}: {len(ids)} tokens, longer than the model's context of {config.context}; shorten it"
            )
        if ids.max() >= config.vocab_size:
            raise InputError(
                f"{folder}: the tokeniser gives token {ids.max()}, the model knows {config.vocab_size} only"
            )


def _about(statements: Statements) -> dict[str, Any]:
    """What a report says of a set."""
    return {
        "source": statements.source,
        "dimension": statements.dimension,
        "rows": len(statements),
        "label_one_rows": int(statements.labels.sum()),
        "label_one": statements.info.label_one if statements.info else None,
    }


def _say(line: str, quiet: bool) -> None:
    if not quiet:
        print(line, flush=True)
