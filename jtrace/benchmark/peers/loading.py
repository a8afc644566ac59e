"""Loading by transformers, and what tells whether jtrace has loaded the same."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from jtrace.benchmark.peers.model import load, synchronise


@torch.no_grad()
def load_anew(folder: Path, dtype: str) -> PreTrainedModel:
    """The checkpoint on the device, every byte read when this returns: torch on a CPU maps files, and reads later."""
    model = load(folder, dtype)
    for weights in model.parameters():
        weights.sum()
    synchronise()
    return model


@torch.no_grad()
def checksums(model: PreTrainedModel, names: Sequence[str], dtype: str) -> np.ndarray:
    """Of the tensors of these names, rounded to a dtype: sums of their bits modulo 2³², uint32 [tensor, 2].

    The second one weights them by odd numbers in order, as `jtrace.benchmark.cases.load` does.
    """
    weights, kind = model.state_dict(), getattr(torch, dtype)
    return np.stack([_checksum(weights[name].to(kind).flatten()) for name in names])


def _checksum(flat: torch.Tensor) -> np.ndarray:
    # int32 wraps as uint32 does; torch has no sums of the latter.
    short = flat.element_size() == 2
    bits = flat.view(torch.int16).to(torch.int32) & 0xFFFF if short else flat.view(torch.int32)
    order = 2 * torch.arange(len(bits), dtype=torch.int32, device=bits.device) + 1
    sums = torch.stack([bits.sum(dtype=torch.int64), (bits * order).sum(dtype=torch.int64)])
    return (sums.cpu().numpy() & 0xFFFFFFFF).astype(np.uint32)
