"""What the benchmark measures jtrace against: torch and scikit-learn, as published and batched (extra `torch`)."""

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from transformers import AutoModelForCausalLM, PreTrainedModel

from jtrace.training import Optimisation

BATCH_TOKENS = 2048  # per torch forward of the batched peer; jtrace's own batches hold as many slots on a CPU


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
