"""Pooled reads of real statements beside float64 means and maxima of each statement alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.checkpoints.load import load_params
from jtrace.data.loading import read_statements
from jtrace.data.statement_tokens import statement_token_masks, statement_tokens
from jtrace.data.tokenizer import read_tokenizer
from jtrace.inference.residuals import extract, pack_sets
from jtrace.models.decoder import Decoder, Slots
from jtrace.models.reading import Read
from tests.bars import within
from tests.conftest import relative_error

SETS = ("truthfulqa", "toxigen", "confaide", "stereoset", "sst2")
WANTED = [Read("resid", "mean"), Read("resid", "max"), Read("mlp", "mean")]
CHUNK = 20  # statements whose every token's residuals are held at a time


@pytest.mark.real
@pytest.mark.parametrize(("count", "depth"), [(40, 6), pytest.param(None, None, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", SETS)
def test_pooled_reads_of_the_authors_sets_are_plain_means_and_maxima(smollm2, shared, name, count, depth):
    """Under two packings; of neighbours, which share beginnings."""
    given = read_statements(name, shared / "data")
    texts, tokenizer = given.texts[:count], read_tokenizer(smollm2)
    config, params = load_params(smollm2, jnp.float32, depth=depth)
    tokens = statement_tokens(tokenizer, texts, config.context, "smollm2", given.where)
    counted = statement_token_masks(tokenizer, texts, tokens, "smollm2", given.where)
    longest = -64 * (-max(map(len, tokens)) // 64)  # few lengths, few compilations
    made = []
    for width in (longest, 2 * longest):
        packed = pack_sets({name: tokens}, config, width, {name: counted})
        values = extract(params, config, packed.packed, WANTED, dtype=jnp.float32)
        made.append((packed, jax.tree.map(np.asarray, values)))

    decoder = Decoder(config, reads=(Read("resid"), Read("mlp")))
    forward = jax.jit(lambda slots: decoder.apply({"params": params}, slots, slots.positions).reads)
    for first in range(0, len(tokens), CHUNK):
        some = tokens[first : first + CHUNK]
        rows = np.zeros((CHUNK, longest), np.int32)
        for row, ids in zip(rows, some, strict=False):
            row[: len(ids)] = ids
        at = jnp.tile(jnp.arange(longest), (CHUNK, 1))
        every = forward(Slots(jnp.asarray(rows), at, jnp.full_like(at, longest)))
        residual, mlp = (np.asarray(every[Read(site)], np.float64) for site in ("resid", "mlp"))
        for i, ids in enumerate(some):
            mine = counted[first + i]
            expected = {
                Read("resid", "mean"): residual[:, i, : len(ids)][:, mine].mean(axis=1),
                Read("resid", "max"): residual[:, i, : len(ids)][:, mine].max(axis=1),
                Read("mlp", "mean"): mlp[:, i, : len(ids)][:, mine].mean(axis=1),
            }
            for packed, values in made:
                distinct = packed.members[name][first + i]
                for read, plain in expected.items():
                    error = relative_error(values[read][:, distinct], plain)
                    within("pooled reads of the authors' sets, against float64", error, 1e-5)
