"""The decoder without packing, sharing or a cache: one row per text, to compare with."""

from collections.abc import Sequence
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Decoder, Output, Params, Slots
from jtrace.models.intervention import Edit, Intervention


def log_probabilities(
    params: Params, config: DecoderConfig, texts: Sequence[np.ndarray], edit: Edit, condition: int, first: Sequence[int]
) -> np.ndarray:
    """Of every token after each text's every token, float64 [texts, longest text, vocabulary].

    Args:
        condition: that each text is under from its `first` token on.
    """
    width = max(map(len, texts))
    tokens = np.stack([np.pad(ids, (0, width - len(ids))) for ids in texts]).astype(np.int32)
    steered = condition * (np.arange(width) >= np.array(first)[:, None])
    logits = _logits(params, tokens, edit, steered, decoder=Decoder(config))
    exact = np.asarray(logits, np.float64)
    return exact - np.logaddexp.reduce(exact, axis=-1, keepdims=True)


@partial(jax.jit, static_argnames="decoder")
def _logits(params, tokens, edit, steered, *, decoder):  # type: ignore[no-untyped-def]
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    slots = Slots(tokens, positions, jnp.full_like(tokens, tokens.shape[1]))
    output = cast(Output, decoder.apply({"params": params}, slots, positions[:, :1], Intervention(edit, steered)))
    return decoder.apply({"params": params}, output.last, method="logits")
