"""What the benchmark measures jtrace against: torch and scikit-learn, as published and batched (extra `torch`)."""

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel

from jtrace.training import Optimisation

BATCH_TOKENS = 2048  # per torch forward of the batched peer; jtrace's own batches hold as many slots on a CPU
BATCH_PROMPTS = 256  # that the batched peer continues at once; jtrace's steps make as many tokens on a CPU


def load(folder: Path) -> PreTrainedModel:
    """The checkpoint in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@contextmanager
def _hooked(model: PreTrainedModel) -> Iterator[list[torch.Tensor]]:
    """A list that every forward fills with the output of each block, [row, slot, width]."""
    caught: list[torch.Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _, __, out: caught.append(out[0] if isinstance(out, tuple) else out))
        for block in model.model.layers
    ]
    try:
        yield caught
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def extract_one_by_one(model: PreTrainedModel, tokens: Sequence[np.ndarray]) -> np.ndarray:
    """As published: one statement per forward of the whole model, hooks on every block; [layer, statement, width]."""
    rows = []
    with _hooked(model) as caught:
        for ids in tokens:
            caught.clear()
            model(torch.from_numpy(ids.astype(np.int64))[None])
            rows.append(torch.stack([out[0, -1] for out in caught]).numpy())
    return np.stack(rows, axis=1)


@torch.no_grad()
def extract_batched(model: PreTrainedModel, tokens: Sequence[np.ndarray]) -> np.ndarray:
    """Statements of one length together, so that nothing is padded, and no head; [layer, statement, width]."""
    lengths = np.array([len(ids) for ids in tokens])
    found = np.empty((len(model.model.layers), len(tokens), model.config.hidden_size), np.float32)
    with _hooked(model) as caught:
        for length in np.unique(lengths):
            same, most = np.flatnonzero(lengths == length), max(1, BATCH_TOKENS // length)
            for members in (same[at : at + most] for at in range(0, len(same), most)):
                caught.clear()
                model.model(torch.from_numpy(np.stack([tokens[i] for i in members]).astype(np.int64)), use_cache=False)
                found[:, members] = torch.stack([out[:, -1] for out in caught]).numpy()
    return found


def published_statistics(activations: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Per layer a scikit-learn probe with its default 100 iterations, and HSIC by float32 torch.inverse."""
    n_train = int(0.8 * len(labels))
    accuracy, xt, yt = [], [], []
    standard = [(x - x.mean(0)) / x.std(0, ddof=1) for x in activations]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for z in standard:
            probe = LogisticRegression().fit(z[:n_train], labels[:n_train])
            accuracy.append(probe.score(z[n_train:], labels[n_train:]))
            x, t = torch.from_numpy(standard[0][:n_train]), torch.from_numpy(z[:n_train])
            y = torch.from_numpy(labels[:n_train, None].astype(np.float32))
            xt.append(_nhsic(x, t))
            yt.append(_nhsic(y, t))
    return {"probe_accuracy": np.array(accuracy), "mi_xt": np.array(xt), "mi_yt": np.array(yt)}


def _nhsic(a: torch.Tensor, b: torch.Tensor, bandwidth: float = 50.0, epsilon: float = 1e-5) -> float:
    def smoother(x: torch.Tensor) -> torch.Tensor:
        n, d = x.shape
        kernel = torch.exp(-(torch.cdist(x, x) ** 2) / (2 * bandwidth**2 * d))
        centred = kernel @ (torch.eye(n) - 1 / n)
        return centred @ torch.inverse(centred + epsilon * n * torch.eye(n))

    return float((smoother(a) * smoother(b).T).sum())


@contextmanager
def _steered(model: PreTrainedModel, layer: int, push: np.ndarray, where: Any) -> Iterator[None]:
    """Every forward adds `push`, [width], to the output of block `layer`, [row, slot, width], at the index `where`."""
    added = torch.from_numpy(push)

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
    pushes: np.ndarray,
    max_new_tokens: int,
    stop: Sequence[int],
    at_once: int,
) -> np.ndarray:
    """Greedy completions by transformers' generate and its cache; int32 [push, prompt, new token], −1 after the end.

    Args:
        layer: whose output is steered, at the last prompt position and at every generated one.
        pushes: what is added there, float32 [push, width].
        stop: ids of the tokens that end a completion.
        at_once: prompts of one call, of like length, padded on the left; 1 as published.
    """
    found = np.full((len(pushes), len(prompts), max_new_tokens), -1, np.int32)
    order = np.argsort([len(ids) for ids in prompts], kind="stable")
    for at, push in enumerate(pushes):
        for members in (order[first : first + at_once] for first in range(0, len(order), at_once)):
            width = max(len(prompts[i]) for i in members)
            tokens, there = np.zeros((2, len(members), width), np.int64)
            for row, i in enumerate(members):
                tokens[row, width - len(prompts[i]) :], there[row, width - len(prompts[i]) :] = prompts[i], 1
            with _steered(model, layer, push, (slice(None), -1)):
                out = cast(GenerationMixin, model).generate(
                    torch.from_numpy(tokens),
                    attention_mask=torch.from_numpy(there),
                    do_sample=False,
                    max_new_tokens=max_new_tokens,
                    eos_token_id=list(stop) or None,
                    pad_token_id=0,
                )
            new = out[:, width:].numpy()
            ends = np.isin(new, stop)
            found[at, members, : new.shape[1]] = np.where(np.cumsum(ends, axis=1) > ends, -1, new)
    return found


@torch.no_grad()
def score_one_by_one(
    model: PreTrainedModel, pairs: Sequence[tuple[np.ndarray, np.ndarray]], layer: int, pushes: np.ndarray
) -> np.ndarray:
    """One sequence per forward of the whole model: log-probabilities of continuations, nats, float64 [push, pair].

    Args:
        pairs: contexts and continuations.
        layer: whose output is steered, at the last position of the context and after it.
        pushes: what is added there, float32 [push, width].
    """
    found = np.empty((len(pushes), len(pairs)))
    for at, push in enumerate(pushes):
        for number, (context, continuation) in enumerate(pairs):
            tokens = torch.from_numpy(np.concatenate([context, continuation]).astype(np.int64))
            start = len(context) - 1
            with _steered(model, layer, push, (slice(None), slice(start, None))):
                logits = model(tokens[None, :-1], use_cache=False).logits[0, start:]
            found[at, number] = _log_probabilities(logits, tokens[start + 1 :]).sum()
    return found


@torch.no_grad()
def score_batched(
    model: PreTrainedModel, pairs: Sequence[tuple[np.ndarray, np.ndarray]], layer: int, pushes: np.ndarray
) -> np.ndarray:
    """The same for sequences of like length together, padded on the right, logits of the continuations only."""
    found = np.zeros((len(pushes), len(pairs)))
    lengths = np.array([len(context) + len(continuation) for context, continuation in pairs])
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        width = lengths[order[0]]
        members, order = np.split(order, [max(1, BATCH_TOKENS // width)])
        tokens, scored = np.zeros((len(members), width), np.int64), np.zeros((len(members), width - 1), bool)
        for row, i in enumerate(members):
            tokens[row, : lengths[i]] = np.concatenate(pairs[i])
            scored[row, len(pairs[i][0]) - 1 : lengths[i] - 1] = True
        ids, where = torch.from_numpy(tokens), torch.from_numpy(scored)
        for at, push in enumerate(pushes):
            with _steered(model, layer, push, where):
                # No mask: causal attention does not look at what follows, so not at the padding.
                hidden = model.model(ids[:, :-1], use_cache=False).last_hidden_state[where]
            values = _log_probabilities(model.lm_head(hidden), ids[:, 1:][where])
            np.add.at(found[at], members[np.nonzero(scored)[0]], values)
    return found


def _log_probabilities(logits: torch.Tensor, tokens: torch.Tensor) -> np.ndarray:
    return torch.log_softmax(logits, -1).gather(-1, tokens[:, None])[:, 0].double().numpy()


def train(
    folder: Path,
    attention: str,
    adamw: str,
    optimisation: Optimisation,
    rates: Sequence[float],
    batches: Sequence[np.ndarray],
    device_rows: int,
) -> tuple[list[float], list[float]]:
    """Steps on the batches in turn, one per rate: the loss of each before its update, and its seconds.

    Args:
        attention: of transformers: "sdpa" or "eager".
        adamw: "fused" or "foreach".
        device_rows: rows of a micro-batch; gradients are added up.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention).train()
    named = dict(model.named_parameters())
    spared = [name for name in named if "norm" in name or name == "model.embed_tokens.weight"]
    groups = [
        {"params": [named[name] for name in spared], "weight_decay": 0.0},
        {"params": [named[name] for name in named if name not in spared], "weight_decay": optimisation.weight_decay},
    ]
    betas = (optimisation.beta1, optimisation.beta2)
    optimiser = torch.optim.AdamW(
        groups, betas=betas, eps=optimisation.eps, fused=adamw == "fused", foreach=adamw == "foreach"
    )
    losses, seconds = [], []
    for number, rate in enumerate(rates):
        started = time.perf_counter()
        tokens = torch.from_numpy(batches[number % len(batches)])
        count = tokens[:, 1:].numel()
        loss = 0.0
        for part in tokens.split(device_rows):
            logits = model(part, use_cache=False).logits[:, :-1]
            summed = torch.nn.functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum")
            (summed / count).backward()
            loss += float(summed.detach()) / count
        torch.nn.utils.clip_grad_norm_(model.parameters(), optimisation.clip)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss)
        seconds.append(time.perf_counter() - started)
    return losses, seconds
