"""Sub-benchmark `score`: steered log-likelihoods of choices, 4 to a question, after 5 shots.

Axes: C strengths, N continuations.
"""

import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jtrace.benchmark.case import Agreement, Case, Floor, Measured, timed, timed_warm
from jtrace.benchmark.decoder_floor import attended, distinct_prefixes, forward_operations, matrix_weights
from jtrace.benchmark.prompts import CHOICES, choices, edit, middle, pushes
from jtrace.benchmark.workload import BATCHED, CONTENDERS, JTRACE, PUBLISHED, Workload
from jtrace.inference.packing import under
from jtrace.inference.residuals import default_batch_slots
from jtrace.inference.score import Pair, score
from jtrace.models.config import DecoderConfig
from jtrace.models.intervention import steered_from

MOST_APART = 1e-3  # relative difference in float32
BFLOAT16_WORSE = 1.5  # bar of jtrace's error over torch's in bfloat16


class Score:
    """Log-likelihoods of every continuation under every strength, by each contender."""

    name = "score"
    unit = "continuations"
    contenders: tuple[str, ...] = CONTENDERS

    def measure(self, contender: str, workload: Workload) -> Measured:
        """Measures log-likelihoods in nats, float64 [C, N]."""
        pairs = choices(workload)
        return _jtrace(workload, pairs) if contender == JTRACE else _torch(contender, workload, pairs)

    def agree(self, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        """Gives the largest relative differences; in bfloat16 the whole error may be at most 1.5 times torch's."""
        ours, exact = arrays[JTRACE], str(arrays[JTRACE]["dtype"]) == "float32"
        agreements = [
            Agreement(
                f"log-likelihoods apart from {peer}'s, relative, at most",
                apart(ours["scores"][:, arrays[peer]["items"]], arrays[peer]["scores"]),
                MOST_APART if exact else None,
            )
            for peer in (PUBLISHED, BATCHED)
            if peer in arrays
        ]
        if PUBLISHED in arrays and BATCHED in arrays and not exact:
            items, truth = arrays[PUBLISHED]["items"], arrays[PUBLISHED]["scores"]
            error, torch_error = (
                float(np.linalg.norm(contender["scores"][:, items] - truth) / np.linalg.norm(truth))
                for contender in (ours, arrays[BATCHED])
            )
            name = "bfloat16 error of log-likelihoods, relative to published's"
            agreements.append(Agreement(name, error, BFLOAT16_WORSE * torch_error))
        return agreements


CASE: Case = Score()


def apart(ours: Float[np.ndarray, "C N"], theirs: Float[np.ndarray, "C N"]) -> float:
    """Returns the largest difference, as a share of their log-likelihood or of one nat, whichever is larger."""
    return float((np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1)).max())


def _jtrace(workload: Workload, pairs: Sequence[Pair]) -> Measured:
    setting, config, params = workload.setting, workload.config, workload.params
    steering, conditions = edit(config)
    dtype, scores = jnp.dtype(setting.dtype), np.empty(0)

    def call() -> None:
        nonlocal scores
        scores = score(params, config, pairs, steering, conditions=conditions, dtype=dtype)

    first, rounds = timed(call, setting.rounds)
    floor = floor_of(config, pairs, conditions, default_batch_slots(), dtype.itemsize)
    return Measured(first, rounds, scores.size, floor, {"scores": scores, "dtype": np.array(setting.dtype)})


def _torch(contender: str, workload: Workload, pairs: Sequence[Pair]) -> Measured:
    from jtrace.benchmark.peers import answers

    published, model = contender == PUBLISHED, workload.torch_model
    # Samples are of whole questions, and so have as many long choices as short ones.
    questions = np.arange(len(pairs) // CHOICES)
    if published:
        questions = workload.sampled(len(questions), CHOICES)
    items = (questions[:, None] * CHOICES + np.arange(CHOICES)).ravel()
    run = answers.score_one_by_one if published else answers.score_batched
    wanted, layer, pushed, scores = (
        [pairs[i] for i in items.tolist()],
        middle(workload.config),
        pushes(workload.config),
        np.empty(0),
    )

    def call() -> None:
        nonlocal scores
        scores = run(model, wanted, layer, pushed)

    run(model, wanted[:1], layer, pushed[:1])
    setting = workload.setting
    first, rounds = timed_warm(call, workload.one_by_one_rounds) if published else timed(call, setting.rounds)
    return Measured(first, rounds, scores.size, arrays={"scores": scores, "items": items})


def floor_of(
    config: DecoderConfig, pairs: Sequence[Pair], conditions: Sequence[int], batch_slots: int, itemsize: int
) -> Floor:
    """Counts the work: each distinct prefix of tokens and conditions, heads that predict, weights per batch."""
    sequences, starts = [], []
    for before, after in pairs:
        tokens, start = np.concatenate([before, after[:-1]]), steered_from(len(before), "last")
        sequences += [under(tokens, condition * (np.arange(len(tokens)) >= start)) for condition in conditions]
        starts += [len(before) - 1] * len(conditions)
    slots = distinct_prefixes(sequences)
    predicting = [slots.paths[u][start:] for u, start in zip(slots.distinct, starts, strict=True)]
    count = int(slots.used.sum())
    return Floor(
        forward_operations(config, count, attended(slots), len(np.unique(np.concatenate(predicting)))),
        math.ceil(count / batch_slots) * matrix_weights(config) * itemsize,
    )
