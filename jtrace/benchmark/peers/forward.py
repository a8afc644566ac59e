"""Extraction by torch: as published, and batched by length."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from jtrace.benchmark.peers.model import BATCH_TOKENS, DEVICE, hooked, synchronise


@torch.no_grad()
def extract_one_by_one(model: PreTrainedModel, tokens: Sequence[np.ndarray]) -> torch.Tensor:
    """Extracts as published: a statement per forward of the whole model, hooks on every block, results on the host.

    The result is float32 [layer, statement, width].
    """
    rows = []
    with hooked(model) as caught:
        for ids in tokens:
            caught.clear()
            model(_placed(ids[None]))
            rows.append(torch.stack([out[0, -1] for out in caught]).float().cpu())
    return torch.stack(rows, 1)


@torch.no_grad()
def extract_batched(model: PreTrainedModel, tokens: Sequence[np.ndarray], dtype: str | None = None) -> torch.Tensor:
    """Extracts statements of one length together, without padding or head; results stay on the device.

    The result is in the model's dtype, [layer, statement, width], and complete on return.

    Args:
        dtype: dtype of products, by torch's autocast; that of the model if None.
    """
    lengths = np.array([len(ids) for ids in tokens])
    shape = len(model.model.layers), len(tokens), model.config.hidden_size
    residuals = torch.empty(shape, dtype=model.dtype, device=DEVICE)
    kind = model.dtype if dtype is None else getattr(torch, dtype)
    with hooked(model) as caught, torch.autocast(DEVICE.type, kind, enabled=kind != model.dtype):
        for length in np.unique(lengths):
            same, most = np.flatnonzero(lengths == length), max(1, BATCH_TOKENS // length)
            for members in (same[at : at + most] for at in range(0, len(same), most)):
                caught.clear()
                model.model(_placed(np.stack([tokens[i] for i in members])), use_cache=False)
                residuals[:, torch.from_numpy(members).to(DEVICE)] = torch.stack([out[:, -1] for out in caught]).to(
                    residuals
                )
    synchronise()
    return residuals


def on_host(residuals: torch.Tensor) -> np.ndarray:
    """Copies residuals to the host, as float32."""
    return residuals.float().cpu().numpy()


def _placed(ids: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(ids.astype(np.int64)).to(DEVICE)
