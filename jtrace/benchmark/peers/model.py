"""The peers' model, and a look at its residuals."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Per forward of the batched peer; jtrace's own batches hold about as many slots.
BATCH_TOKENS = 16384 if DEVICE.type == "cuda" else 2048


def load(folder: Path, dtype: str = "float32") -> PreTrainedModel:
    """The checkpoint, on the GPU where torch has one; products of float32 are not rounded to TF32 there."""
    torch.set_float32_matmul_precision("highest")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval().to(DEVICE)


@contextmanager
def hooked(model: PreTrainedModel) -> Iterator[list[torch.Tensor]]:
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
