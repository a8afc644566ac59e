"""The least work of a forward of the decoder, however it is implemented."""

from collections.abc import Sequence

import numpy as np

from jtrace.inference.packing import Packed, operations_per_slot, pack
from jtrace.models.config import DecoderConfig


def distinct_prefixes(sequences: Sequence[np.ndarray]) -> Packed:
    """Packs all sequences in one row, so that each distinct prefix is one slot."""
    return pack(sequences, sum(map(len, sequences)))


def attended(packed: Packed) -> int:
    """Counts the slots that all used slots see, themselves included."""
    return sum(int(row[:used].sum()) + int(used) for row, used in zip(packed.positions, packed.used, strict=True))


def forward_operations(config: DecoderConfig, slots: int, seen: int, predicting: int) -> float:
    """Counts floating-point operations; a multiply and an add are two.

    Args:
        slots: number of slots that go through all blocks.
        seen: number of slots that these attend to, in all.
        predicting: number of slots whose logits are wanted.
    """
    attention = 4 * config.depth * config.heads * config.head_dim * seen
    return slots * operations_per_slot(config, 0) + attention + 2 * predicting * config.vocab_size * config.width


def matrix_weights(config: DecoderConfig) -> int:
    """Counts the numbers in the matrices of blocks and head."""
    return operations_per_slot(config, 0) // 2 + config.vocab_size * config.width
