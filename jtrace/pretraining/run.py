"""Pre-training: documents and a configuration → a run directory of kept steps, each a checkpoint like any other.

The params of step n depend on configuration and documents alone. So a run that was killed goes on from its latest state
and ends with the same params as an uninterrupted one, bit for bit on the same machine.
"""

import math
import shutil
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from transformers import PreTrainedTokenizerBase

from jtrace.checkpoints.export import DROPPED
from jtrace.checkpoints.load import read_config_json
from jtrace.checkpoints.pretraining_run import RECORD, kept_steps
from jtrace.data.corpus.readers import Document, TextFingerprint, texts_of
from jtrace.data.corpus.rows import lay_out
from jtrace.data.corpus.token_store import TokenStore, read_tokens, write_tokens
from jtrace.data.corpus.tokenise import tokenise
from jtrace.data.corpus.train_tokenizer import train_tokenizer
from jtrace.data.tokenizer import (
    check_same_tokens,
    check_vocabulary,
    class_disagreement,
    has_tokenizer,
    read_tokenizer,
    tokenizer_fingerprint,
)
from jtrace.errors import InputError
from jtrace.models.decoder import abstract_params
from jtrace.models.families import read_model_config
from jtrace.models.presets import find_preset
from jtrace.pretraining.config import PretrainConfig
from jtrace.pretraining.directory import (
    check_config,
    check_documents,
    claimed,
    latest_step,
    open_training_run,
    tokenizer_folder,
    tokens_folder,
)
from jtrace.pretraining.loop import Corpus, Model, train
from jtrace.pretraining.step import local_mesh
from jtrace.runs.record_files import circumstances, write_record
from jtrace.runtime.atomic import atomic_folder
from jtrace.runtime.budget import bytes_text

HELD_OUT_SHARE, MOST_HELD_OUT = 0.01, 1000
PACKAGES = ("jtrace", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tokenizers", "numpy")


def pretrain(out: Path, documents: Iterable[Document], config: PretrainConfig, *, quiet: bool = False) -> None:
    """Trains to the last step, from the beginning or from the latest state of an earlier command.

    Args:
        out: a new or empty folder, or a run of the same configuration and documents.
        documents: read up to three times, so no iterator; see `jtrace.data.corpus.readers.read_documents`.
        quiet: no progress bar and no lines.

    Raises:
        InputError: configuration and documents do not suffice for training (then nothing is written), the folder is
            another run's, the disk is full (earlier saved steps are kept), or the loss is not finite.
    """
    record = config.record()
    if config.tokenizer is not None:
        record["tokenizer"] = tokenizer_fingerprint(config.tokenizer)
    check_config(out, record)
    mesh = local_mesh()
    parts = micro_batches(config.rows, mesh.size, config.device_rows)
    with ExitStack() as stack:
        stack.enter_context(claimed(out))
        tokenizer = tokenizer_folder(out)
        if not tokenizer.is_dir():
            tokenizer = _tokenizer(config, documents, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        model = _model(config, read_tokenizer(tokenizer), tokenizer)
        if disagreement := class_disagreement(tokenizer):
            print(f"warning: {tokenizer}: {disagreement}", file=sys.stderr)
        if tokens_folder(out).is_dir():
            seen = TextFingerprint()
            for _ in seen.watch(documents):
                pass
            check_documents(out, seen.values())
            if latest_step(out) == config.optimisation.steps:
                _check_kept(out, config)
                return
            _check_disk(out, config, model)
        else:
            _check_disk(out, config, model)
            with atomic_folder(tokens_folder(out)) as aside:
                seen = _write_tokens(aside, documents, tokenizer, model)
                check_documents(out, seen.values())
                _corpus(config, read_tokens(aside))
                about = {"config": record, "documents": seen.values()} | circumstances(PACKAGES, mesh.size)
                write_record(out / RECORD, about)
        corpus = _corpus(config, read_tokens(tokens_folder(out)))
        run = stack.enter_context(open_training_run(out, tokenizer))
        train(run, config, model, corpus, mesh, parts, quiet)


def micro_batches(rows: int, devices: int, device_rows: int) -> int:
    """Returns the number of micro-batches of a step: as few as allow a device at most `device_rows` rows.

    Raises:
        InputError: the rows cannot be divided evenly.
    """
    if rows % devices:
        raise InputError(f"--rows={rows}: cannot be shared evenly by {devices} devices; give a multiple of {devices}")
    each = rows // devices
    return next(parts for parts in range(1, each + 1) if each % parts == 0 and each // parts <= max(device_rows, 1))


def _tokenizer(config: PretrainConfig, documents: Iterable[Document], temporary: Path) -> Path:
    """Returns the tokeniser's folder: as configured, the starting checkpoint's, or one trained into `temporary`."""
    if config.tokenizer or config.init_from:
        if config.vocab_size is not None:
            raise InputError("--vocab_size is for a tokeniser that is trained; this run brings its own")
        return config.tokenizer or Path(str(config.init_from))
    preset = find_preset(config.preset or "")
    train_tokenizer(texts_of(documents), config.vocab_size or preset.vocab_size, temporary)
    return temporary


def _model(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Model:
    if config.init_from is not None:
        values = {k: v for k, v in read_config_json(config.init_from).items() if k not in DROPPED}
        values["dtype"] = "float32"
    else:
        preset = find_preset(config.preset or "")
        values = preset.config_json(len(tokenizer), config.context, tokenizer.bos_token_id, tokenizer.eos_token_id)
    architecture, _ = read_model_config(values, str((config.init_from or Path()) / "config.json"))
    check_vocabulary(len(tokenizer), architecture.vocab_size, folder)
    if config.init_from is not None and has_tokenizer(config.init_from):
        check_same_tokens(tokenizer, folder, config.init_from)
    if config.context > architecture.context:
        raise InputError(f"--context={config.context}: the model's is {architecture.context}; give at most that")
    return Model(architecture, values)


def _write_tokens(folder: Path, documents: Iterable[Document], tokenizer: Path, model: Model) -> TextFingerprint:
    seen, reader = TextFingerprint(), read_tokenizer(tokenizer)
    write_tokens(folder, tokenise(seen.watch(documents), reader), len(reader), model.architecture.vocab_size)
    return seen


def _corpus(config: PretrainConfig, tokens: TokenStore) -> Corpus:
    """Holds documents out, and lays out both parts in rows.

    Raises:
        InputError: too little text for one step.
    """
    count = min(math.ceil(HELD_OUT_SHARE * len(tokens)), MOST_HELD_OUT) if len(tokens) > 1 else 0
    random = np.random.default_rng((config.seed, len(tokens)))
    held_out = np.sort(random.choice(len(tokens), count, replace=False, shuffle=False))
    training = lay_out(tokens, np.delete(np.arange(len(tokens)), held_out), config.context)
    if len(training) < config.rows:
        raise InputError(
            f"--text: {int(training.filled.sum())} tokens make {len(training)} rows of {config.context}, a step takes "
            f"{config.rows}; give more text, or smaller --rows or --context"
        )
    return Corpus(training, lay_out(tokens, held_out, config.context))


def _check_kept(out: Path, config: PretrainConfig) -> None:
    """Checks that a finished run has all the steps that it had to keep."""
    if missing := sorted(set(config.keep) - kept_steps(out).keys()):
        raise InputError(f"--out={out}: step {missing[0]} was kept and is gone; take another --out to train anew")


def _check_disk(out: Path, config: PretrainConfig, model: Model) -> None:
    """Refuses a disk that is too small: a kept step is the params, a state three times that, and two states overlap."""
    size = 4 * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params(model.architecture, jnp.float32)))
    missing, states = len(set(config.keep) - kept_steps(out).keys()), 1 if latest_step(out) >= 0 else 2
    needed = size * (missing + 3 * states)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise InputError(
            f"--out={out}: {bytes_text(needed)} are needed for {missing} kept steps and the state, "
            f"{bytes_text(free)} are free; keep fewer or choose another disk"
        )
