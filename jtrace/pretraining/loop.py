"""The steps of a pre-training: from the run's latest state, or the first, to the last step."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

from jtrace.checkpoints.orbax import read_checkpoint
from jtrace.data.corpus.epochs import Order
from jtrace.data.corpus.rows import RowPlan
from jtrace.errors import InputError
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Decoder, Params
from jtrace.pretraining.config import PretrainConfig
from jtrace.pretraining.directory import TrainingRun
from jtrace.pretraining.step import (
    Metrics,
    State,
    abstract_state,
    count_params,
    evaluation,
    initial_params,
    initial_state,
    to_batch,
    train_step,
)
from jtrace.runtime.progress import Bar

# Compile time grows with the number of unrolled blocks.
MOST_UNROLLED = 12


class Corpus(NamedTuple):
    """Training rows, and rows of held-out documents."""

    training: RowPlan
    held_out: RowPlan


class Model(NamedTuple):
    """The trained model: its architecture, and the config.json of kept steps that describes it."""

    architecture: DecoderConfig
    values: dict[str, Any]


def train(
    run: TrainingRun, config: PretrainConfig, model: Model, corpus: Corpus, mesh: Mesh, parts: int, quiet: bool
) -> None:
    """Makes the updates that the run has not made yet, and keeps the steps that the configuration asks for.

    Args:
        parts: micro-batches of a step.

    Raises:
        InputError: the disk is full (earlier saved steps are kept), or the loss is not finite.
    """
    optimisation, rows = config.optimisation, corpus.training
    order = Order(rows.filled, config.rows, config.seed)
    decoder = training_decoder(model.architecture, jnp.dtype(config.dtype), config.remat, mesh)
    advance = train_step(decoder, optimisation)
    validator = _Validator(decoder, corpus.held_out, mesh, config.rows // parts)

    loaded = run.load(abstract_state(model.architecture, optimisation, mesh))
    state, done = (_first_state(config, model, mesh), 0) if loaded is None else (loaded, int(loaded.step))
    began = loaded is not None
    del loaded  # the step reuses the state's memory for its result
    if not quiet:
        print(
            f"{count_params(state.params) / 1e6:.1f} M parameters, {len(rows):,} rows of {config.context} "
            f"({rows.filled.mean() / config.context:.0%} filled), {config.rows} rows a step, {mesh.size} device(s)",
            flush=True,
        )
    pending: Metrics | None = None
    with Bar(total=optimisation.steps, initial=done, desc=None if quiet else run.path.name, unit=" steps") as bar:

        def log(step: int, metrics: Metrics | None, params: Params | None) -> None:
            """Writes a step's line, and with params the held-out loss; waits for the step."""
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

        def keep() -> None:
            run.flush_log()
            run.keep(done, model.values, state.params)

        if not began:
            log(0, None, state.params)
        if not began and 0 in config.keep:
            keep()
        while done < optimisation.steps:
            batch = to_batch(rows.take(order.step(done)), mesh, parts)
            state, metrics = advance(state, batch)
            # One step stays queued while the one before is logged.
            if pending is not None:
                log(done, pending, None)
            done, pending = done + 1, metrics
            bar.update()
            last, kept = done == optimisation.steps, done in config.keep
            judged, saved = kept or last or done % config.validate_every == 0, last or done % config.save_every == 0
            if judged or saved:
                log(done, pending, state.params if judged else None)
                pending = None
            # The state comes last, so that all steps that are due before it are kept already.
            if kept:
                keep()
            if saved:
                run.save(state)


def training_decoder(architecture: DecoderConfig, dtype: DTypeLike, remat: bool, mesh: Mesh) -> Decoder:
    """Returns the decoder in the form that trains fastest on the mesh's devices."""
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return Decoder(architecture, dtype, remat, on_cpu and not remat and architecture.depth <= MOST_UNROLLED)


def _first_state(config: PretrainConfig, model: Model, mesh: Mesh) -> State:
    if config.init_from is not None:
        params = read_checkpoint(config.init_from, jnp.float32)[1]
    else:
        params = initial_params(model.architecture, config.seed)
    return initial_state(params, config.optimisation, mesh)


class _Validator:
    """Computes the mean loss of held-out rows, in nats per token; rows are filled up to one shape."""

    def __init__(self, decoder: Decoder, rows: RowPlan, mesh: Mesh, at_once: int) -> None:
        self._evaluate, self._mesh, self._rows = evaluation(decoder), mesh, rows
        padded = np.full(math.ceil(len(rows) / at_once) * at_once, -1)
        padded[: len(rows)] = np.arange(len(rows))
        self._batches = padded.reshape(-1, at_once)

    def __call__(self, params: Params) -> float | None:
        loss, count = 0.0, 0
        for some in self._batches:
            summed, learnt = self._evaluate(params, to_batch(self._rows.take(some), self._mesh))
            loss, count = loss + float(summed), count + int(learnt)
        return loss / count if count else None
