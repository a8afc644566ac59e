"""What a forward of the decoder cannot do without, however it is written."""

from collections.abc import Sequence

import numpy as np

from jtrace.inference.packing import Packed, operations_per_slot, pack
from jtrace.models.config import DecoderConfig


def distinct_prefixes(sequences: Sequence[np.ndarray]) -> Packed:
    """All sequences in one row, so that each of their distinct prefixes is one slot and shared by all."""
    return pack(sequences, sum(map(len, sequences)))


def attended(packed: Packed) -> int:
    """Slots that all used slots see, themselves included."""
    return sum(int(row[:used].sum()) + int(used) for row, used in zip(packed.positions, packed.used, strict=True))


def forward_operations(config: DecoderConfig, slots: int, seen: int, predicting: int) -> float:
    """Floating-point operations, a multiply and an add being two.

    Args:
        slots: that go through all blocks.
        seen: slots that these attend to, in all.
        predicting: slots whose logits are wanted.
    """
    attention = 4 * config.depth * config.heads * config.head_dim * seen
    return slots * operations_per_slot(config, 0) + attention + 2 * predicting * config.vocab_size * config.width


def matrix_weights(config: DecoderConfig) -> int:
    """How many numbers the matrices of blocks and head are."""
    return operations_per_slot(config, 0) // 2 + config.vocab_size * config.width
