"""Training steps by torch, on the CPU."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from jtrace.pretraining.step import Optimisation


def trainer(
    folder: Path, attention: str, adamw: str, optimisation: Optimisation, rates: Sequence[float], device_rows: int
) -> Callable[[np.ndarray], float]:
    """Returns a function that takes one step on a batch, int64 [row, slot], and returns the loss before its update.

    Args:
        attention: implementation in transformers: "sdpa" or "eager".
        adamw: "fused" or "foreach".
        rates: learning rates of the steps, in turn.
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
    remaining = iter(rates)

    def step(batch: np.ndarray) -> float:
        tokens = torch.from_numpy(batch)
        count, loss = tokens[:, 1:].numel(), 0.0
        for part in tokens.split(device_rows):
            logits = model(part, use_cache=False).logits[:, :-1]
            summed = torch.nn.functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum")
            (summed / count).backward()
            loss += float(summed.detach()) / count
        torch.nn.utils.clip_grad_norm_(model.parameters(), optimisation.clip)
        rate = next(remaining)
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        optimiser.zero_grad()
        return loss

    return step
