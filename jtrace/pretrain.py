"""Pre-training: documents and a configuration → a run directory of kept steps, each a checkpoint like any other.

What step n's params are depends on configuration and documents alone, so a run that was killed goes on from its latest
state and ends where an uninterrupted one does, bit for bit on the same machine.
"""

import dataclasses
import math
import platform
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from jtrace.checkpoints.convert import read_config_json
from jtrace.checkpoints.export import DROPPED
from jtrace.checkpoints.kept import kept_steps
from jtrace.checkpoints.store import read_checkpoint
from jtrace.data.bpe import train_tokenizer
from jtrace.data.corpus import Document, documents_fingerprint, texts_of
from jtrace.data.rows import Rows, pack_rows, tokenise
from jtrace.data.tokenizer import check_vocabulary, read_tokenizer, tokenizer_fingerprint
from jtrace.errors import InputError
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Decoder, Params, abstract_params
from jtrace.models.families import read_model_config
from jtrace.presets import find_preset
from jtrace.training import (
    Metrics,
    Optimisation,
    count_params,
    evaluation,
    initial_params,
    initial_state,
    local_mesh,
    to_batch,
    train_step,
)
from jtrace.training_run import TrainingRun, check_record, latest_step, open_training_run, tokenizer_folder

HELD_OUT_SHARE, MOST_HELD_OUT = 0.01, 1000
PACKAGES = ("jtrace", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tokenizers", "numpy")


@dataclass(frozen=True)
class PretrainConfig:
    """What decides the params of every step, beside the documents.

    Attributes:
        preset: the size of a new model; or
        init_from: a folder whose weights training begins with, Hugging Face's or Orbax.
        tokenizer: folder of the tokeniser; None trains one, or takes that of `init_from`.
        vocab_size: tokens of a trained tokeniser; None as the preset says.
        context: tokens of a row.
        rows: of a step.
        keep: steps whose params are kept, as numbers of updates made.
        dtype: of the forward; params and moments are float32.
        save_every, validate_every: steps between states to go on from and between validation losses; both also at kept
            steps.
        device_rows: rows that one device computes at once; more are split into micro-batches.
        remat: compute blocks again for their gradient, which takes less memory and a third more time.
    """

    optimisation: Optimisation
    keep: tuple[int, ...]
    context: int
    rows: int
    preset: str | None = None
    init_from: Path | None = None
    tokenizer: Path | None = None
    vocab_size: int | None = None
    dtype: str = "float32"
    seed: int = 0
    validate_every: int = 100
    # What changes time and memory, and no more than the last bits of a number.
    save_every: int = field(default=500, kw_only=True)
    device_rows: int = field(default=64, kw_only=True)
    remat: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        o = self.optimisation
        positive = {
            "steps": o.steps,
            "learning_rate": o.learning_rate,
            "rows": self.rows,
            "save_every": self.save_every,
            "validate_every": self.validate_every,
            "device_rows": self.device_rows,
            "clip": o.clip,
        }
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise InputError(f"--{name}={value}: a number above 0 is needed")
        if self.context < 2:
            raise InputError(f"--context={self.context}: a row needs two tokens at least")
        if not 0 <= o.warmup <= o.steps:
            raise InputError(f"--warmup={o.warmup}: give 0 to {o.steps}, the number of steps")
        if bad := [step for step in self.keep if not 0 <= step <= o.steps]:
            raise InputError(f"--keep: step {bad[0]} is not among 0 to {o.steps}")
        if (self.preset is None) == (self.init_from is None):
            raise InputError("give either --preset, for a new model, or --init_from")
        if self.preset is not None:
            find_preset(self.preset)

    def record(self) -> dict[str, Any]:
        """As JSON values, for the run's record; folders as absolute paths."""
        values = dataclasses.asdict(self)
        flat = values.pop("optimisation") | values | {"keep": list(self.keep)}
        for name in ("save_every", "device_rows", "remat"):
            del flat[name]
        return {name: str(v.resolve()) if isinstance(v, Path) else v for name, v in flat.items()}


@dataclass(frozen=True)
class Corpus:
    """Rows to learn from and rows of held-out documents."""

    training: Rows
    held_out: Rows


@dataclass(frozen=True)
class Order:
    """Which rows each step takes: a new permutation for every epoch, one epoch running into the next.

    Attributes:
        filled: tokens of each row, padding not counted.
        rows: of a step.
    """

    filled: np.ndarray
    rows: int
    seed: int

    def step(self, step: int) -> np.ndarray:
        """Rows of the step that follows `step` updates."""
        return np.array([self._row(i) for i in range(step * self.rows, (step + 1) * self.rows)])

    def tokens(self, step: int) -> int:
        """Tokens seen by `step` updates."""
        epochs, rest = divmod(step * self.rows, len(self.filled))
        partial = self.filled[_permutation(len(self.filled), self.seed, epochs)[:rest]]
        return epochs * int(self.filled.sum()) + int(partial.sum())

    def _row(self, index: int) -> int:
        epoch, within = divmod(index, len(self.filled))
        return int(_permutation(len(self.filled), self.seed, epoch)[within])


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)


def pretrain(out: Path, documents: Sequence[Document], config: PretrainConfig, *, quiet: bool = False) -> None:
    """Train to the last step, from the beginning or from where an earlier command got to.

    Args:
        out: a new or empty folder, or a run of the same configuration and documents.
        quiet: no progress bar and no lines.

    Raises:
        InputError: configuration and documents make no training (nothing has been written then), the folder is another
            run's, the disk is full (what was saved before is still there), or the loss is not finite.
    """
    with ExitStack() as stack:
        record = config.record() | {"documents": documents_fingerprint(documents)}
        if config.tokenizer is not None:
            record["tokenizer"] = tokenizer_fingerprint(config.tokenizer)
        known = check_record(out, record)
        if known and latest_step(out) == config.optimisation.steps and set(config.keep) <= kept_steps(out).keys():
            return
        folder = tokenizer_folder(out)
        if not (known and folder.is_dir()):
            folder = _tokenizer(config, documents, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        tokenizer = read_tokenizer(folder)
        values, architecture = _model(config, tokenizer, folder)
        corpus = _corpus(config, documents, tokenizer, folder, architecture)
        mesh = local_mesh()
        parts = micro_batches(config.rows, mesh.size, config.device_rows)
        _check_disk(out, config, architecture)
        run = stack.enter_context(open_training_run(out, record, _circumstances(mesh), folder))
        _train(run, config, values, architecture, corpus, mesh, parts, quiet)


def micro_batches(rows: int, devices: int, device_rows: int) -> int:
    """How many micro-batches a step's rows make: as few as keep a device to `device_rows`.

    Raises:
        InputError: the rows cannot be shared out evenly.
    """
    if rows % devices:
        raise InputError(f"--rows={rows}: cannot be shared evenly by {devices} devices; give a multiple of {devices}")
    each = rows // devices
    return next(parts for parts in range(1, each + 1) if each % parts == 0 and each // parts <= max(device_rows, 1))


def _tokenizer(config: PretrainConfig, documents: Sequence[Document], temporary: Path) -> Path:
    """The folder of the tokeniser: as told, the starting checkpoint's, or one trained into `temporary`."""
    if config.tokenizer or config.init_from:
        if config.vocab_size is not None:
            raise InputError("--vocab_size is for a tokeniser that is trained; this run brings its own")
        return config.tokenizer or Path(str(config.init_from))
    preset = find_preset(config.preset or "")
    train_tokenizer(texts_of(documents), config.vocab_size or preset.vocab_size, temporary)
    return temporary


def _model(
    config: PretrainConfig, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> tuple[dict[str, Any], DecoderConfig]:
    """The config.json of the kept steps, and what it says."""
    if config.init_from is not None:
        values = {k: v for k, v in read_config_json(config.init_from).items() if k not in DROPPED}
        values["dtype"] = "float32"
    else:
        preset = find_preset(config.preset or "")
        values = preset.config_json(len(tokenizer), config.context, tokenizer.bos_token_id, tokenizer.eos_token_id)
    architecture, _ = read_model_config(values, str((config.init_from or Path()) / "config.json"))
    check_vocabulary(len(tokenizer), architecture.vocab_size, folder)
    if config.context > architecture.context:
        raise InputError(f"--context={config.context}: the model's is {architecture.context}; give at most that")
    return values, architecture


def _corpus(
    config: PretrainConfig,
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    architecture: DecoderConfig,
) -> Corpus:
    """Tokenise, hold documents out, pack.

    Raises:
        InputError: tokens without an embedding, or too little text for one step.
    """
    tokens = tokenise(documents, tokenizer)
    highest = max((int(document.ids.max()) for document in tokens if len(document.ids)), default=0)
    if highest >= architecture.vocab_size:
        raise InputError(f"{folder}: gives token {highest}, the model knows {architecture.vocab_size} only")
    count = min(math.ceil(HELD_OUT_SHARE * len(tokens)), MOST_HELD_OUT) if len(tokens) > 1 else 0
    held_out = set(np.random.default_rng((config.seed, len(tokens))).permutation(len(tokens))[:count].tolist())
    training = pack_rows((document for i, document in enumerate(tokens) if i not in held_out), config.context)
    if len(training) < config.rows:
        raise InputError(
            f"--text: {int(training.filled.sum())} tokens make {len(training)} rows of {config.context}, a step takes "
            f"{config.rows}; give more text, or smaller --rows or --context"
        )
    return Corpus(training, pack_rows((tokens[i] for i in sorted(held_out)), config.context))


def _check_disk(out: Path, config: PretrainConfig, architecture: DecoderConfig) -> None:
    """Refuse what cannot end well: a kept step is the params, a state three times that, and two states overlap."""
    size = 4 * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params(architecture, jnp.float32)))
    there = kept_steps(out) if out.is_dir() else {}
    needed = size * (len(set(config.keep) - there.keys()) + 6)
    place = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise InputError(
            f"--out={out}: {needed / 1e9:.1f} GB are needed for {len(config.keep)} kept steps and the state, "
            f"{free / 1e9:.1f} GB are free; keep fewer or choose another disk"
        )


def _circumstances(mesh: Mesh) -> dict[str, Any]:
    device = {"platform": jax.default_backend(), "kind": jax.devices()[0].device_kind, "count": mesh.size}
    return {
        "device": device,
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
    }


def _train(
    run: TrainingRun,
    config: PretrainConfig,
    values: dict[str, Any],
    architecture: DecoderConfig,
    corpus: Corpus,
    mesh: Mesh,
    parts: int,
    quiet: bool,
) -> None:
    optimisation, rows = config.optimisation, corpus.training
    if config.init_from is not None:
        params = read_checkpoint(config.init_from, jnp.float32)[1]
    else:
        params = initial_params(architecture, config.seed)
    if not quiet:
        print(
            f"{count_params(params) / 1e6:.1f} M parameters, {len(rows)} rows of {config.context} "
            f"({rows.filled.mean():.0%} filled), {config.rows} rows a step, {mesh.size} device(s)",
            flush=True,
        )
    state = initial_state(params, optimisation, mesh)
    del params
    order = Order(rows.filled.sum(axis=1), config.rows, config.seed)
    decoder = Decoder(architecture, jnp.dtype(config.dtype), config.remat)
    advance = train_step(decoder, optimisation)
    validator = _Validator(decoder, corpus.held_out, mesh, config.rows // parts)

    loaded = run.load(state)
    state, done = (state, 0) if loaded is None else (loaded, int(loaded.step))
    pending: Metrics | None = None
    with tqdm(
        total=optimisation.steps, initial=done, desc=run.path.name, unit=" steps", disable=True if quiet else None
    ) as bar:

        def log(step: int, metrics: Metrics | None, params: Params | None) -> None:
            """Write a step's line; with params, the held-out loss too. Waits for the step."""
            line: dict[str, Any] = {"step": step, "tokens": order.tokens(step)}
            if metrics is not None:
                loss, norm, rate = map(float, metrics)
                if not math.isfinite(loss) or not math.isfinite(norm):
                    raise InputError(
                        f"{run.path}: the loss is not finite at step {step} (learning rate {rate:.2g}); "
                        "give a smaller --learning_rate and another --out"
                    )
                line |= {"loss": loss, "learning_rate": rate, "grad_norm": norm}
                pace = (bar.format_dict["rate"] or 0) * order.tokens(step) / step
                bar.set_postfix_str(f"loss {loss:.3f}, {pace:,.0f} tokens/s", refresh=False)
            if params is not None and len(corpus.held_out):
                line["validation_loss"] = validator(params)
            run.log_step(line)

        def settle() -> None:
            """Leave the state at the present step on disk, and its params if they are to be kept."""
            run.save(state)
            if done in config.keep:
                run.keep(done, values, state.params)

        if loaded is None:
            log(0, None, state.params)
            if 0 in config.keep:
                settle()
        elif done in config.keep:
            run.keep(done, values, state.params)
        while done < optimisation.steps:
            batch = to_batch(rows.take(order.step(done)), mesh, parts)
            state, metrics = advance(state, batch)
            # One step stays queued while its predecessor is written down.
            if pending is not None:
                log(done, pending, None)
            done, pending = done + 1, metrics
            bar.update()
            kept = done in config.keep or done == optimisation.steps
            saved, judged = kept or done % config.save_every == 0, kept or done % config.validate_every == 0
            if saved or judged:
                log(done, pending, state.params if judged else None)
                pending = None
            if saved:
                settle()


class _Validator:
    """The mean loss of held-out rows, in nats per token; rows are filled up to one shape."""

    def __init__(self, decoder: Decoder, rows: Rows, mesh: Mesh, at_once: int) -> None:
        self._evaluate, self._mesh, self._at_once = evaluation(decoder), mesh, at_once
        self._rows = rows.padded(math.ceil(len(rows) / at_once) * at_once)

    def __call__(self, params: Params) -> float | None:
        loss, count = 0.0, 0
        for start in range(0, len(self._rows), self._at_once):
            batch = to_batch(self._rows.take(np.arange(start, start + self._at_once)), self._mesh)
            summed, learnt = self._evaluate(params, batch)
            loss, count = loss + float(summed), count + int(learnt)
        return loss / count if count else None
