"""Loading by transformers, and checksums to compare with what jtrace has loaded."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from jtrace.benchmark.peers.model import load, synchronise


@torch.no_grad()
def load_anew(folder: Path, dtype: str) -> PreTrainedModel:
    """Loads the checkpoint onto the device and reads every byte: torch on a CPU maps files, and would read later."""
    model = load(folder, dtype)
    for weights in model.parameters():
        weights.sum()
    synchronise()
    return model


@torch.no_grad()
def checksums(model: PreTrainedModel, names: Sequence[str], dtype: str) -> np.ndarray:
    """Sums the bits of the named tensors, rounded to a dtype, modulo 2³²: uint32 [tensor, 2].

    The second sum is weighted by odd numbers in order, as in `jtrace.benchmark.cases.load`.
    """
    weights, kind = model.state_dict(), getattr(torch, dtype)
    return np.stack([_checksum(weights[name].to(kind).flatten()) for name in names])


def _checksum(flat: torch.Tensor) -> np.ndarray:
    # int32 wraps as uint32 does, of which torch has no sums.
    short = flat.element_size() == 2
    bits = flat.view(torch.int16).to(torch.int32) & 0xFFFF if short else flat.view(torch.int32)
    order = 2 * torch.arange(len(bits), dtype=torch.int32, device=bits.device) + 1
    sums = torch.stack([bits.sum(dtype=torch.int64), (bits * order).sum(dtype=torch.int64)])
    return (sums.cpu().numpy() & 0xFFFFFFFF).astype(np.uint32)
