"""The peers' model, and hooks on its residuals."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Tokens per forward of the batched peer; jtrace's batches hold about as many slots.
BATCH_TOKENS = 16384 if DEVICE.type == "cuda" else 2048


def load(folder: Path, dtype: str = "float32") -> PreTrainedModel:
    """Loads the checkpoint, onto the GPU where torch has one; products of float32 are not rounded to TF32 there."""
    torch.set_float32_matmul_precision("highest")
    # Loads shard by shard to a GPU; on a CPU it would only require another package.
    where = {"device_map": DEVICE} if DEVICE.type == "cuda" else {}
    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), **where).eval()


def synchronise() -> None:
    """Waits for the device."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


@contextmanager
def hooked(model: PreTrainedModel) -> Iterator[list[torch.Tensor]]:
    """Yields a list that every forward fills with the output of each block, [row, slot, width]."""
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
