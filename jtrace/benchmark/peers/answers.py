"""Steered generation and scoring by torch: as published, and in batches. Axes: C pushes, N items, G new tokens."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from transformers import GenerationMixin, PreTrainedModel

from jtrace.benchmark.peers.model import BATCH_TOKENS

# Completions that the batched peer makes at once, over all strengths; jtrace makes as many on a CPU.
BATCH_COMPLETIONS = 256
Pair = tuple[np.ndarray, np.ndarray]


@contextmanager
def _steered(model: PreTrainedModel, layer: int, push: np.ndarray, where: Any) -> Iterator[None]:
    """Makes every forward add `push` to the output of block `layer`, [row, slot, width], at the index `where`.

    `push` is [width], or [row, width] where the index names one slot of every row.
    """
    added = torch.from_numpy(push).to(model.device, model.dtype)

    def steer(_: torch.nn.Module, __: Any, out: Any) -> None:
        residual = out[0] if isinstance(out, tuple) else out
        residual[where] += added

    hook = model.model.layers[layer].register_forward_hook(steer)
    try:
        yield
    finally:
        hook.remove()


def generate(
    model: PreTrainedModel,
    prompts: Sequence[np.ndarray],
    layer: int,
    pushes: Float[np.ndarray, "C D"],
    new_tokens: int,
    at_once: int,
) -> Int[np.ndarray, "C N G"]:
    """Completes prompts greedily by transformers' generate and its cache, int32; nothing ends a completion early.

    Args:
        layer: the layer whose output is steered, at the last prompt position and at every generated one.
        pushes: vectors to add there, float32.
        at_once: completions of one call, of any strength, for prompts of similar length, padded on the left; 1 as
            published.
    """
    # generate takes arguments that are None from here.
    cast(Any, model).generation_config.eos_token_id = None
    completions = np.empty((len(pushes), len(prompts), new_tokens), np.int32)
    lengths = [len(ids) for ids in prompts for _ in pushes]
    order = np.argsort(lengths, kind="stable")
    for wanted in (order[first : first + at_once] for first in range(0, len(order), at_once)):
        members, strengths = np.divmod(wanted, len(pushes))
        width = max(len(prompts[i]) for i in members)
        tokens, attended = np.zeros((2, len(members), width), np.int64)
        for row, i in enumerate(members):
            tokens[row, width - len(prompts[i]) :], attended[row, width - len(prompts[i]) :] = prompts[i], 1
        with _steered(model, layer, pushes[strengths], (slice(None), -1)):
            out = cast(GenerationMixin, model).generate(
                torch.from_numpy(tokens).to(model.device),
                attention_mask=torch.from_numpy(attended).to(model.device),
                do_sample=False,
                max_new_tokens=new_tokens,
                pad_token_id=0,
            )
        completions[strengths, members] = cast(torch.Tensor, out)[:, width:].cpu().numpy()
    return completions


@torch.no_grad()
def runners_up(
    model: PreTrainedModel,
    prompts: Sequence[np.ndarray],
    layer: int,
    pushes: Float[np.ndarray, "C D"],
    tokens: Int[np.ndarray, "C N G"],
) -> tuple[Int[np.ndarray, "C N G"], Float[np.ndarray, "C N G"]]:
    """Finds the second most probable token at every step, int32, and its distance from the first in nats, float32."""
    others, gaps = np.empty_like(tokens), np.empty(tokens.shape, np.float32)
    for at, push in enumerate(pushes):
        for number, prompt in enumerate(prompts):
            made = torch.from_numpy(tokens[at, number].astype(np.int64)).to(model.device)[:, None]
            logits = _logits(model, (prompt, tokens[at, number]), layer, push).float()
            best = logits.scatter(-1, made, -torch.inf).max(-1)
            others[at, number] = best.indices.cpu().numpy()
            gaps[at, number] = (logits.gather(-1, made)[:, 0] - best.values).cpu().numpy()
    return others, gaps


@torch.no_grad()
def score_one_by_one(
    model: PreTrainedModel, pairs: Sequence[Pair], layer: int, pushes: Float[np.ndarray, "C D"]
) -> Float[np.ndarray, "C N"]:
    """Scores continuations one sequence per forward of the whole model: log-probabilities in nats, float64.

    Args:
        pairs: contexts and continuations.
        layer: the layer whose output is steered, at the last position of the context and after it.
        pushes: vectors to add there, float32.
    """
    scores = np.empty((len(pushes), len(pairs)))
    for at, push in enumerate(pushes):
        for number, pair in enumerate(pairs):
            wanted = torch.from_numpy(pair[1].astype(np.int64)).to(model.device)
            scores[at, number] = _log_probabilities(_logits(model, pair, layer, push), wanted).sum()
    return scores


@torch.no_grad()
def score_batched(
    model: PreTrainedModel, pairs: Sequence[Pair], layer: int, pushes: Float[np.ndarray, "C D"]
) -> Float[np.ndarray, "C N"]:
    """Scores sequences of similar length together, padded on the right, with logits of continuations only."""
    scores = np.zeros((len(pushes), len(pairs)))
    lengths = np.array([len(context) + len(continuation) for context, continuation in pairs])
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        width = lengths[order[0]]
        members, order = np.split(order, [max(1, BATCH_TOKENS // width)])
        tokens, scored = np.zeros((len(members), width), np.int64), np.zeros((len(members), width - 1), bool)
        for row, i in enumerate(members):
            tokens[row, : lengths[i]] = np.concatenate(pairs[i])
            scored[row, len(pairs[i][0]) - 1 : lengths[i] - 1] = True
        ids, where = torch.from_numpy(tokens).to(model.device), torch.from_numpy(scored).to(model.device)
        for at, push in enumerate(pushes):
            with _steered(model, layer, push, where):
                # No mask is needed: causal attention does not see the padding behind a sequence.
                hidden = model.model(ids[:, :-1], use_cache=False).last_hidden_state[where]
            values = _log_probabilities(model.lm_head(hidden), ids[:, 1:][where])
            np.add.at(scores[at], members[np.nonzero(scored)[0]], values)
    return scores


def _logits(model: PreTrainedModel, pair: Pair, layer: int, push: np.ndarray) -> torch.Tensor:
    """Computes logits for each token of a continuation, [token, vocabulary]."""
    context, continuation = pair
    tokens = torch.from_numpy(np.concatenate([context, continuation[:-1]]).astype(np.int64)).to(model.device)
    start = len(context) - 1
    with _steered(model, layer, push, (slice(None), slice(start, None))):
        return model(tokens[None], use_cache=False).logits[0, start:]


def _log_probabilities(logits: torch.Tensor, tokens: torch.Tensor) -> np.ndarray:
    return torch.log_softmax(logits.float(), -1).gather(-1, tokens[:, None])[:, 0].double().cpu().numpy()
