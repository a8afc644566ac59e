"""Sub-benchmark `train`: training steps of a tiny decoder in float32, AdamW, on a CPU.

The peer is torch's fastest combination of attention and AdamW; all combinations are measured. Rows are whole documents
of random tokens, so that a plain causal mask is right for both.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jtrace.benchmark.case import Agreement, Case, Floor, Measured, timed
from jtrace.benchmark.decoder_floor import forward_operations
from jtrace.benchmark.workload import BATCHED, JTRACE, Workload
from jtrace.checkpoints.export import save_hf
from jtrace.data.corpus.rows import Rows
from jtrace.models.config import DecoderConfig
from jtrace.models.families import read_model_config
from jtrace.models.presets import find_preset
from jtrace.pretraining.loop import training_decoder
from jtrace.pretraining.run import micro_batches
from jtrace.pretraining.step import (
    Optimisation,
    count_params,
    initial_params,
    initial_state,
    local_mesh,
    to_batch,
    train_step,
)

PRESET, ROWS, CONTEXT = "tiny", 16, 64
STEPS = 5  # steps of a call; the losses of the first call are compared
MOST_APART = 1e-4  # relative difference of losses
OPTIMISATION = Optimisation(steps=1000, learning_rate=1e-3, warmup=10)
COMBINATIONS = [(attention, adamw) for attention in ("sdpa", "eager") for adamw in ("fused", "foreach")]


class Train:
    """Training steps from the same first weights on the same batches."""

    name = "train"
    unit = "tokens"
    contenders: tuple[str, ...] = (JTRACE, BATCHED)

    def measure(self, contender: str, workload: Workload) -> Measured:
        """Measures losses before the first updates, float64 [combination, step], and torch's fastest combination."""
        return _jtrace(workload.setting.rounds) if contender == JTRACE else _torch(workload.setting.rounds)

    def agree(self, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        """Compares losses, of all of torch's combinations."""
        if BATCHED not in arrays:
            return []
        apart = float(np.abs(arrays[JTRACE]["losses"] / arrays[BATCHED]["losses"] - 1).max())
        fastest = str(arrays[BATCHED]["fastest"])
        return [Agreement(f"losses apart, relative, at most; torch's fastest is {fastest}", apart, MOST_APART)]


CASE: Case = Train()


def batches() -> list[np.ndarray]:
    """Draws rows of random tokens, the same for every contender, each int64 [row, slot]."""
    random = np.random.default_rng(0)
    # A few tokens are frequent, so that there is something to learn.
    return [random.zipf(1.3, (ROWS, CONTEXT)) % find_preset(PRESET).vocab_size for _ in range(STEPS)]


def _model() -> tuple[dict[str, Any], DecoderConfig]:
    preset = find_preset(PRESET)
    values = preset.config_json(preset.vocab_size, CONTEXT, None, None)
    return values, read_model_config(values, PRESET)[0]


def _timed_steps(step: Callable[[np.ndarray], float], rounds: int) -> tuple[float, tuple[float, ...], list[float]]:
    """Times the first call and later ones, each of `STEPS` steps, and returns the losses of the first."""
    rows, losses = batches(), list[float]()

    def call() -> None:
        losses.extend(step(tokens) for tokens in rows)

    first, later = timed(call, rounds)
    return first, later, losses[:STEPS]


def _jtrace(rounds: int) -> Measured:
    preset, mesh, (_, config) = find_preset(PRESET), local_mesh(), _model()
    parts = micro_batches(ROWS, mesh.size, preset.device_rows)
    run = train_step(training_decoder(config, jnp.float32, preset.remat, mesh), OPTIMISATION)
    params = initial_params(config, 0)
    count = count_params(params)
    state = initial_state(params, OPTIMISATION, mesh)

    def step(tokens: np.ndarray) -> float:
        nonlocal state
        ids = tokens.astype(np.int32)
        learnt = np.ones(ids.shape, bool)
        learnt[:, 0] = False
        rows = Rows(ids, np.full_like(ids, CONTEXT), learnt, np.ones_like(learnt))
        state, metrics = run(state, to_batch(rows, mesh, parts))
        return float(metrics.loss)

    first, later, losses = _timed_steps(step, rounds)
    return Measured(first, later, STEPS * ROWS * CONTEXT, floor_of(config, count), {"losses": np.array([losses])})


def _torch(rounds: int) -> Measured:
    from jtrace.benchmark.peers.training import trainer

    values, config = _model()
    rates = [float(OPTIMISATION.rate(number)) for number in range(STEPS * (1 + rounds))]
    measured = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "weights"
        save_hf(folder, values, initial_params(config, 0))
        for attention, adamw in COMBINATIONS:
            step = trainer(folder, attention, adamw, OPTIMISATION, rates, find_preset(PRESET).device_rows)
            measured[f"{attention}, {adamw}"] = _timed_steps(step, rounds)
    fastest = min(measured, key=lambda name: float(np.median(measured[name][1] or measured[name][0])))
    first, later, _ = measured[fastest]
    arrays = {"losses": np.array([losses for *_, losses in measured.values()]), "fastest": np.array(fastest)}
    return Measured(first, later, STEPS * ROWS * CONTEXT, arrays=arrays)


def floor_of(config: DecoderConfig, params: int) -> Floor:
    """Counts the work: three times the forward; float32 params and both moments read and written once a step."""
    seen = ROWS * CONTEXT * (CONTEXT + 1) // 2
    forward = forward_operations(config, ROWS * CONTEXT, seen, ROWS * (CONTEXT - 1))
    return Floor(STEPS * 3 * forward, STEPS * 6 * 4 * params, "float32")
