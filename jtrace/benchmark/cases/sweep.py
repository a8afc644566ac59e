"""Sub-benchmark `sweep`: checkpoints, end to end: read, extracted, measured by protocol `paper`, tables written."""

import gc
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd

from jtrace.benchmark.case import Agreement, Case, Floor, Measured, timed, timed_warm
from jtrace.benchmark.cases.extract import extraction_floor
from jtrace.benchmark.decoder_floor import distinct_prefixes
from jtrace.benchmark.workload import BATCHED, CONTENDERS, JTRACE, PUBLISHED, Workload
from jtrace.checkpoints.load import params_bytes
from jtrace.checkpoints.refs import CheckpointRef
from jtrace.data.tokenizer import encode, read_tokenizer
from jtrace.errors import InputError
from jtrace.hub.client import Hub
from jtrace.inference.residuals import default_batch_slots
from jtrace.runs.open_run import open_run
from jtrace.sweep.config import SweepConfig
from jtrace.sweep.run import sweep
from jtrace.sweep.work import Limits, Work

COPIES = 3
METRICS = ("probe_accuracy", "mi_xt", "mi_yt")


class Sweep:
    """A sweep over one checkpoint under several names; its files are in the page cache after the first.

    jtrace's seconds are those of a whole sweep into a new run directory, with text-only baselines, vectors, projections
    and tables, but without figures. The first call, which compiles, is a sweep over one checkpoint. Peers load, extract
    and compute the published statistics, one checkpoint a call.

    Where there is a `sample`, one call is measured after the first. The published procedure is then left out, since a
    part of it is no checkpoint, and the batched peer computes statistics of the first and last layer only, so that its
    seconds are fewer than those of a checkpoint.
    """

    name = "sweep"
    unit = "checkpoints"
    contenders: tuple[str, ...] = CONTENDERS

    def measure(self, contender: str, workload: Workload) -> Measured | None:
        """Measures sweeps, after dropping the process's model and residuals, as a device may hold only one."""
        sampled = workload.setting.sample is not None
        if sampled and contender == PUBLISHED:
            return None
        for name in ("params", "residuals", "torch_model", "torch_residuals"):
            workload.__dict__.pop(name, None)
        gc.collect()
        rounds = 1 if sampled else workload.setting.rounds
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = fitting_tokenizer(workload.setting.tokenizer, workload.config.vocab_size, Path(folder))
            if contender == JTRACE:
                return _jtrace(workload, tokenizer, Path(folder), rounds)
            return _torch(contender, workload, tokenizer, rounds)

    def agree(self, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        """Gives the distance of the tables, without bars: the published result, float32 and stopped early, is no truth.

        Cases `extract`, `probe` and `information` compare the parts of a sweep with exact results.
        """
        ours = arrays[JTRACE]
        return [
            Agreement(f"{metric} apart from {peer}", float(max(_apart(ours, theirs, metric))))
            for peer, theirs in arrays.items()
            if peer != JTRACE
            for metric in METRICS
        ]


def _apart(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], metric: str) -> list[float]:
    """Returns the largest difference of each set, over the layers that the peer has."""
    layers = theirs["layers"]
    names = [name for name in theirs if name.endswith(f" {metric}")]
    return [float(np.abs(ours[name][layers] - theirs[name]).max()) for name in names]


def _jtrace(workload: Workload, tokenizer: Path, work: Path, rounds: int) -> Measured:
    config = SweepConfig(dtype=workload.setting.dtype, tokenizer=tokenizer)
    refs = [
        CheckpointRef("copies", f"step{step:05d}", workload.setting.checkpoint.resolve(), step)
        for step in range(COPIES)
    ]
    first, _ = timed(lambda: sweep_into(Path(tempfile.mkdtemp(dir=work)), refs[:1], workload, config), 0)
    tables: list[pd.DataFrame] = []
    again = timed(
        lambda: tables.append(sweep_into(Path(tempfile.mkdtemp(dir=work)), refs, workload, config)), rounds - 1
    )
    table = tables[-1][tables[-1]["revision"] == refs[-1].revision]
    values = {
        f"{name} {metric}": rows.sort_values("layer")["value"].to_numpy(np.float64)
        for (name, metric), rows in table[table["metric"].isin(METRICS)].groupby(["dataset", "metric"])
    }
    return Measured(first, (again[0], *again[1]), COPIES, _floor(workload, tokenizer), values)


def sweep_into(out: Path, refs: Sequence[CheckpointRef], workload: Workload, config: SweepConfig) -> pd.DataFrame:
    """Traces the checkpoints into a new run directory, as the command does, and reads its metrics.

    Raises:
        InputError: one of them cannot be traced.
    """
    sets = list(workload.sets.values())
    data, about = (
        {statements.name: statements.fingerprint for statements in sets},
        {statements.name: {"source": statements.source} for statements in sets},
    )
    with ExitStack() as hold:
        run = open_run(out, config.record(), data, [ref.name for ref in refs], about, hold)
        failures = sweep(Work(refs, sets, config), Limits(), run, Hub(), quiet=True)
    if failures:
        raise InputError(f"the sweep failed: {next(iter(failures.values()))}")
    return run.read_metrics()


def _floor(workload: Workload, tokenizer: Path) -> Floor:
    """Counts the work of all copies: extraction, and writing of params to the device; statistics are not counted."""
    config, dtype = workload.config, jnp.dtype(workload.setting.dtype)
    words = read_tokenizer(tokenizer)
    distinct = distinct_prefixes(
        [ids for statements in workload.sets.values() for ids in encode(words, statements.texts)]
    )
    extraction = extraction_floor(distinct, config, dtype.itemsize, default_batch_slots())
    return Floor(COPIES * extraction.operations, COPIES * (extraction.bytes + params_bytes(config, dtype)))


def _torch(contender: str, workload: Workload, tokenizer: Path, rounds: int) -> Measured:
    from jtrace.benchmark.peers.forward import extract_batched, extract_one_by_one, on_host
    from jtrace.benchmark.peers.loading import load_anew
    from jtrace.benchmark.peers.statistics import published_statistics

    setting, depth = workload.setting, workload.config.depth
    dtype, extract = (setting.dtype, extract_batched) if contender == BATCHED else ("float32", extract_one_by_one)
    layers = np.array(sorted({0, depth - 1})) if setting.sample is not None else np.arange(depth)
    by_name: dict[str, np.ndarray] = {}

    if setting.sample is None:  # with a sample, the cases before this one have warmed the libraries
        extract(load_anew(setting.checkpoint, dtype), workload.all_tokens[:4])

    def call() -> None:
        words = read_tokenizer(tokenizer)
        tokens = {name: encode(words, statements.texts) for name, statements in workload.sets.items()}
        model = load_anew(setting.checkpoint, dtype)
        for name, statements in workload.sets.items():
            for metric, values in published_statistics(
                on_host(extract(model, tokens[name]))[layers], statements.labels
            ).items():
                by_name[f"{name} {metric}"] = values
        del model
        gc.collect()

    first, seconds = timed_warm(call, rounds)
    return Measured(first, seconds, 1, arrays={"layers": layers, **by_name})


def fitting_tokenizer(folder: Path, vocab_size: int, work: Path) -> Path:
    """Returns the tokeniser's folder, or a copy cut to the model's vocabulary if it has more byte-pair tokens.

    Tokens of byte pairs are made of earlier ones, so the first of them alone are a tokeniser of byte pairs.

    Raises:
        InputError: a tokeniser of another kind has too many tokens.
    """
    if len(read_tokenizer(folder)) <= vocab_size:
        return folder
    source = folder / "tokenizer.json"
    content = json.loads(source.read_text(encoding="utf-8")) if source.is_file() else {"model": {}}
    model = content["model"]
    if model.get("type") != "BPE":
        raise InputError(f"{folder}: more tokens than the model's {vocab_size}; give a tokeniser of byte pairs")
    vocab = {token: number for token, number in model["vocab"].items() if number < vocab_size}
    pairs = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    model["vocab"] = vocab
    model["merges"] = [[a, b] for a, b in pairs if {a, b, a + b} <= vocab.keys()]
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < vocab_size]
    out = work / "tokenizer"
    out.mkdir()
    (out / source.name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    if (folder / "tokenizer_config.json").is_file():
        shutil.copy(folder / "tokenizer_config.json", out)
    return out


CASE: Case = Sweep()
