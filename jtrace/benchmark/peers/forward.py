"""Extraction by torch: as published, and batched by length."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from jtrace.benchmark.peers.model import BATCH_TOKENS, DEVICE, hooked


@torch.no_grad()
def extract_one_by_one(model: PreTrainedModel, tokens: Sequence[np.ndarray]) -> np.ndarray:
    """As published: one statement per forward of the whole model, hooks on every block; [layer, statement, width]."""
    rows = []
    with hooked(model) as caught:
        for ids in tokens:
            caught.clear()
            model(_placed(ids[None]))
            rows.append(torch.stack([out[0, -1] for out in caught]).float().cpu().numpy())
    return np.stack(rows, axis=1)


@torch.no_grad()
def extract_batched(model: PreTrainedModel, tokens: Sequence[np.ndarray], dtype: str | None = None) -> np.ndarray:
    """Statements of one length together, so that nothing is padded, and no head; float32 [layer, statement, width].

    Args:
        dtype: that products are rounded to, by torch's autocast; the model's own if None or the same.
    """
    lengths = np.array([len(ids) for ids in tokens])
    found = np.empty((len(model.model.layers), len(tokens), model.config.hidden_size), np.float32)
    kind = model.dtype if dtype is None else getattr(torch, dtype)
    with hooked(model) as caught, torch.autocast(DEVICE.type, kind, enabled=kind != model.dtype):
        for length in np.unique(lengths):
            same, most = np.flatnonzero(lengths == length), max(1, BATCH_TOKENS // length)
            for members in (same[at : at + most] for at in range(0, len(same), most)):
                caught.clear()
                model.model(_placed(np.stack([tokens[i] for i in members])), use_cache=False)
                found[:, members] = torch.stack([out[:, -1] for out in caught]).float().cpu().numpy()
    return found


def _placed(ids: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(ids.astype(np.int64)).to(DEVICE)
