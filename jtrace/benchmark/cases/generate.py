"""Sub-benchmark `generate`: steered greedy completions.

Nothing ends a completion early, so that all contenders make the same number of tokens even where rounding makes
completions differ. Axes: C strengths, N prompts, G new tokens.
"""

import math
import statistics
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jtrace.benchmark.case import Agreement, Case, Floor, Measured, timed, timed_warm
from jtrace.benchmark.decoder_floor import attended, distinct_prefixes, forward_operations, matrix_weights
from jtrace.benchmark.prompts import STRENGTHS, edit, middle, prompts, pushes
from jtrace.benchmark.workload import BATCHED, CONTENDERS, JTRACE, PUBLISHED, Workload
from jtrace.inference.generate import BATCH_TOKENS, Sampling, generate
from jtrace.models.config import DecoderConfig

NEAR_TIE = 1e-3  # nats; float32 logits of two correct implementations differ by less
# In bfloat16, jtrace may differ from published completions this many times sooner, in tokens, than torch.
BFLOAT16_SOONER = 1.5


class Generate:
    """Completions of every prompt under every strength, by each contender."""

    name = "generate"
    unit = "tokens"
    contenders: tuple[str, ...] = CONTENDERS

    def measure(self, contender: str, workload: Workload) -> Measured:
        """Measures token ids, int32 [C, N, G]; published in float32 also second choices and their distances."""
        asked = prompts(workload)
        return _jtrace(workload, asked) if contender == JTRACE else _torch(contender, workload, asked)

    def agree(self, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        """Compares with published completions: they may differ at near ties, in bfloat16 about as soon as torch's."""
        ours, exact = arrays[JTRACE], str(arrays[JTRACE]["dtype"]) == "float32"
        agreements = [
            Agreement("GB/s while decoding: weights, keys, values", float(ours["decoding_bytes_per_s"]) / 1e9)
        ]
        for peer in (PUBLISHED, BATCHED):
            if peer in arrays:
                theirs = arrays[peer]
                same = (ours["tokens"][:, theirs["items"]] == theirs["tokens"]).all(axis=-1)
                agreements.append(Agreement(f"share of completions identical to {peer}'s", float(same.mean())))
        if PUBLISHED in arrays and exact:
            theirs = arrays[PUBLISHED]
            by = likelier_by(ours["tokens"][:, theirs["items"]], theirs["tokens"], theirs["runners_up"], theirs["gaps"])
            agreements.append(Agreement("nats likelier published's token is where completions part", by, NEAR_TIE))
        if PUBLISHED in arrays and BATCHED in arrays and not exact:
            truth, items = arrays[PUBLISHED]["tokens"], arrays[PUBLISHED]["items"]
            agreed, by_torch = (
                tokens_agreed(contender["tokens"][:, items], truth) for contender in (ours, arrays[BATCHED])
            )
            name = "tokens before torch's bfloat16 parts from published, over jtrace's"
            agreements.append(Agreement(name, by_torch / max(agreed, 1e-9), BFLOAT16_SOONER))
        return agreements


CASE: Case = Generate()


def tokens_agreed(tokens: Int[np.ndarray, "C N G"], truth: Int[np.ndarray, "C N G"]) -> float:
    """Counts the tokens that completions share with the true ones before the first difference, on average."""
    return float(np.logical_and.accumulate(tokens == truth, axis=-1).sum(axis=-1).mean())


def likelier_by(
    ours: Int[np.ndarray, "C N G"],
    theirs: Int[np.ndarray, "C N G"],
    runners_up: Int[np.ndarray, "C N G"],
    gaps: Float[np.ndarray, "C N G"],
) -> float:
    """Returns a peer's largest gap, in nats, between its token and jtrace's where they first differ; 0 for none.

    Args:
        runners_up: the peer's second most probable token at each of its steps; any other one is infinitely worse.
        gaps: distance in nats of that token from the peer's own.
    """
    parts = ours != theirs
    first = parts.argmax(axis=-1)[..., None]
    token, second, gap = (np.take_along_axis(values, first, axis=-1)[..., 0] for values in (ours, runners_up, gaps))
    return float(np.where(token == second, gap, np.inf)[parts.any(axis=-1)].max(initial=0.0))


def _jtrace(workload: Workload, asked: Sequence[np.ndarray]) -> Measured:
    setting, config, params = workload.setting, workload.config, workload.params
    steering, conditions = edit(config)
    sampling, dtype = Sampling(setting.new_tokens), jnp.dtype(setting.dtype)
    tokens = np.empty((len(STRENGTHS), len(asked), setting.new_tokens), np.int32)

    def call(sampling: Sampling = sampling) -> None:
        for number, completions in generate(
            params, config, asked, sampling, steering, conditions=conditions, dtype=dtype
        ):
            tokens[:, number, : sampling.max_new_tokens] = completions

    # The time of one token is that of the prompts, so the rest is the time of decoding.
    _, short = timed(lambda: call(Sampling(1)), setting.rounds)
    first, rounds = timed(call, setting.rounds)
    at_once = max(1, BATCH_TOKENS.get(jax.default_backend(), 512) // len(STRENGTHS))
    floor, of_prompts = (
        floor_of(config, asked, steps, math.ceil(len(asked) / at_once), dtype.itemsize)
        for steps in (setting.new_tokens, 1)
    )
    decoding = (floor.bytes - of_prompts.bytes) / max(statistics.median(rounds) - statistics.median(short), 1e-9)
    arrays = {"tokens": tokens, "dtype": np.array(setting.dtype), "decoding_bytes_per_s": np.array(decoding)}
    return Measured(first, rounds, tokens.size, floor, arrays)


def _torch(contender: str, workload: Workload, asked: Sequence[np.ndarray]) -> Measured:
    from jtrace.benchmark.peers import answers

    published, model, setting = contender == PUBLISHED, workload.torch_model, workload.setting
    layer, pushed = middle(workload.config), pushes(workload.config)
    items = workload.sampled(len(asked), len(STRENGTHS)) if published else np.arange(len(asked))
    asked = [asked[i] for i in items.tolist()]
    at_once = 1 if published else answers.BATCH_COMPLETIONS
    tokens = np.empty(0, np.int32)

    def call() -> None:
        nonlocal tokens
        tokens = answers.generate(model, asked, layer, pushed, setting.new_tokens, at_once)

    answers.generate(model, asked[:1], layer, pushed[:1], 2, at_once)
    first, rounds = timed_warm(call, workload.one_by_one_rounds) if published else timed(call, setting.rounds)
    arrays = {"tokens": tokens, "items": items}
    if published and setting.dtype == "float32":
        arrays["runners_up"], arrays["gaps"] = answers.runners_up(model, asked, layer, pushed, tokens)
    return Measured(first, rounds, tokens.size, arrays=arrays)


def floor_of(config: DecoderConfig, asked: Sequence[np.ndarray], new_tokens: int, batches: int, itemsize: int) -> Floor:
    """Counts the work: prompts' distinct prefixes once, and each new token under each strength.

    Bytes per step of a batch are the weights, each prompt's keys and values once for all strengths, and those of the
    tokens generated so far.
    """
    trunks = distinct_prefixes([ids[:-1] for ids in asked if len(ids) > 1])
    lengths, made = np.array([len(ids) for ids in asked]), len(STRENGTHS) * len(asked) * new_tokens
    of_own = len(STRENGTHS) * len(asked) * new_tokens * (new_tokens - 1) // 2  # earlier tokens, over all steps
    seen = attended(trunks) + len(STRENGTHS) * new_tokens * int(lengths.sum()) + of_own
    slot_bytes = 2 * config.depth * config.kv_heads * config.head_dim * itemsize
    return Floor(
        forward_operations(config, int(trunks.used.sum()) + made, seen, made),
        new_tokens * batches * matrix_weights(config) * itemsize
        + slot_bytes * (new_tokens * int(lengths.sum()) + of_own),
    )
